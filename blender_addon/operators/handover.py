# SPDX-License-Identifier: GPL-3.0-or-later
"""The last step: camera and mesh for other programs. Needs no server."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty
from bpy.types import Operator

from .. import handover, shots, take_list, takes
from ..errors import DAMAGED, ShotDataError
from ..session import Step
from . import grey
from .step import StepOperator

CAMERA_ITEMS = [
    ("TAKE", "Selected Take's", "The camera that the take selected in the list was shot with"),
    ("SCENE", "Scene's", "The scene's camera as it moves now, over the scene's range"),
]
# Some Blenders are built without USD.
USUAL_FORMATS = {"FBX", "CHAN"} | ({"USD"} if handover.has_format("USD") else set())


class EX4D_OT_hand_over(StepOperator, Operator):
    """Write the camera and the animated mesh for other programs, with a .json of lens, film back and take"""

    bl_idname, bl_label = "ex4d.hand_over", "Hand Over"
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.no_mesh, grey.working)

    camera: EnumProperty(name="Camera", items=CAMERA_ITEMS, options={"SKIP_SAVE"})
    formats: EnumProperty(name="Formats", items=handover.FORMAT_ITEMS, options={"ENUM_FLAG"}, default=USUAL_FORMATS)
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context, event):
        self._choose(context)
        self.directory = str(self._folder(context))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def start(self, context):
        self._choose(context)
        scene = context.scene
        folder = Path(bpy.path.abspath(self.directory)) if self.directory else self._folder(context)
        if self.camera == "TAKE":
            name, record = _selected(scene), None
            path, frame_start = handover.read_path(takes.take_folder(scene, name), scene.ex4d.plate_start)
            try:
                record = shots.read_record(takes.take_folder(scene, name) / "take.json")
            except DAMAGED as error:
                raise ShotDataError(f"Take {name} has no readable take.json ({error}). Choose another one.") from error
        else:
            camera = grey.no_camera(context)
            if camera is not None:
                raise ShotDataError(f"{camera}.")
            name, record = f"{scene.ex4d.shot_name}_camera", None
            path, frame_start = handover.scene_path(context)
        written = handover.export(context, path, frame_start, folder, name, self.formats, record)
        said = f"{', '.join(file.name for file in written)} lie in {folder}."
        self.report({"INFO"}, said)
        takes.session.current.notice = said

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "camera")
        layout.column().prop(self, "formats")

    def _choose(self, context):
        """Without takes there is only the scene's camera."""
        if not self.properties.is_property_set("camera"):
            self.camera = "TAKE" if _selected(context.scene) else "SCENE"

    def _folder(self, context):
        scene = context.scene
        if self.camera == "TAKE":
            return takes.take_folder(scene, _selected(scene)) / "handover"
        return shots.shot_folder(scene) / "handover"


def _selected(scene):
    """Return the name of the take selected in the list; empty when it was not shot yet."""
    item = take_list.selected(scene.ex4d)
    return "" if item is None or item.is_planned else item.name
