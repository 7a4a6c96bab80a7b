# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: a filmed plate comes into the scene."""

import bpy
from bpy.props import IntProperty, StringProperty
from bpy.types import Operator

from .. import plate, shots
from ..errors import ArtistError
from ..session import Step, current
from ..view import look_through, show_materials
from . import grey


class EX4D_OT_import_plate(Operator):
    """Bring a filmed plate into the scene: as an image plane and as the background of the camera that filmed it"""

    bl_idname, bl_label = "ex4d.import_plate", "Import Plate"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH")
    filter_glob: StringProperty(default="*.mp4;*.mov;*.mkv;*.avi;*.webm;*.mxf;*.m4v;*.mts", options={"HIDDEN"})
    frame_start: IntProperty(
        name="First Frame", description="Scene frame that shows the plate's first frame", default=1
    )

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.busy)

    def invoke(self, context, event):
        self.filepath = self.filepath or bpy.path.abspath("//")  # else the browser proposes the .blend
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        scene = context.scene
        current.begin(Step.PLATE)
        try:
            found = plate.open_plate(shots.absolute(self.filepath))
            plate.import_plate(scene, found, self.frame_start)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        notices = plate.set_scene_from_plate(scene, found, self.frame_start)
        notices += plate.obstacles(context)
        scene.ex4d.plate_notice = "\n".join(notices)
        self.report({"INFO"}, " ".join(notices))
        look_through(context, scene.camera)
        show_materials(context.window_manager)
        return {"FINISHED"}
