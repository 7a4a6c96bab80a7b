# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: what came back: in the sequencer, compared, and put to use in the scene."""

from bpy.props import EnumProperty, StringProperty
from bpy.types import Operator

from .. import result_uses, sequencer, session, shots, take_list, takes
from ..errors import ShotDataError
from ..session import Step
from . import grey
from .step import StepOperator

PASS_ITEMS = [
    ("RESULT", "Result", "The re-shot plate"),
    ("MATTE", "Matte", "White where the plate shows, black where the take was painted; muted, so that the take shows"),
    ("MESH", "Mesh Render", "What the plate alone shows from the new camera; muted, so that the take shows"),
    ("DEPTH", "Depth", "Of a take with Depth Pass: far is white, and the strip's Multiply makes it so; muted"),
    ("CLEAN", "Clean Plate", "Of a take with Clean Plate: the background as it was filmed at any time; muted"),
]


def take_not_rendered(context):
    item = take_list.selected(context.scene.ex4d)
    return "The selected take is planned: render it first" if item is not None and item.is_planned else None


NEED_A_RESULT = (grey.no_shot, grey.no_reconstruction, grey.working, grey.no_take, take_not_rendered)


class EX4D_OT_load_result(StepOperator, Operator):
    """Put a take's result, or one of its passes, into the sequencer, above the plate"""

    bl_idname, bl_label = "ex4d.load_result", "Load Result"
    step, reasons = Step.RESULT, NEED_A_RESULT

    part: EnumProperty(name="Load", items=PASS_ITEMS, options={"SKIP_SAVE"})  # the button means the result
    take: StringProperty(name="Take", description="Empty: the one selected in the list", options={"SKIP_SAVE"})

    def start(self, context):
        state = context.scene.ex4d
        name = self.take or take_list.selected(state).name
        takes.load(state.shot_id, takes.take_folder(context.scene, shots.safe_name(name)), self.part)


PLATE = "PLATE"
_items = []  # Blender keeps no hold of the texts


def _others(operator, context):
    """What the selected take can be compared with."""
    state = context.scene.ex4d
    selected = take_list.selected(state)
    names = [item.name for item in state.takes if selected is not None and item.name != selected.name]
    _items[:] = [(PLATE, "Plate", "What was filmed"), *((name, name, "Another take") for name in names)]
    return _items


class EX4D_OT_compare_take(StepOperator, Operator):
    """Wipe between the selected take, on the left, and the plate or another take, in the sequencer"""

    bl_idname, bl_label = "ex4d.compare_take", "Compare"
    bl_options = {"UNDO"}
    step, reasons = Step.RESULT, NEED_A_RESULT

    other: EnumProperty(name="With", items=_others, options={"SKIP_SAVE"})

    def start(self, context):
        scene = context.scene
        other = None if self.other in (PLATE, "") else self.other
        wipe = sequencer.compare(scene, scene.ex4d.shot_id, take_list.selected(scene.ex4d).name, other)
        session.current.notice = f"{wipe.name}: drag Wipe, or key it."


def no_comparison(context):
    is_there = sequencer.wipe_strip(context.scene, context.scene.ex4d.shot_id) is not None
    return None if is_there else "Nothing is compared"


class EX4D_OT_stop_comparing(StepOperator, Operator):
    """Take the wipe out of the sequencer"""

    bl_idname, bl_label = "ex4d.stop_comparing", "Stop Comparing"
    bl_options = {"UNDO"}
    step, reasons = Step.RESULT, (grey.no_shot, no_comparison)

    def start(self, context):
        sequencer.stop_comparing(context.scene, context.scene.ex4d.shot_id)


USE_ITEMS = [
    ("BACKGROUND", "Camera Background", "Behind what the scene's camera sees, to lay out CG on the re-shot plate"),
    ("COMPOSITOR", "Compositor Input", "Nodes with the result and its passes; nothing is connected to them"),
    ("TEXTURE", "Texture on the Mesh", "Projected onto the shot's mesh by the take's own camera"),
    ("PLATE", "Plate on the Mesh", "The mesh shows the plate again"),
]


def needs_camera(context):
    return grey.no_camera(context) or grey.plates_own_camera(context)


class EX4D_OT_use_result(StepOperator, Operator):
    """Use the selected take in the scene: behind the camera, in the compositor or on the mesh"""

    bl_idname, bl_label = "ex4d.use_result", "Use Result"
    step, reasons = Step.RESULT, NEED_A_RESULT

    use: EnumProperty(name="As", items=USE_ITEMS, options={"SKIP_SAVE"})

    def start(self, context):
        scene = context.scene
        why_not = {"BACKGROUND": needs_camera, "TEXTURE": grey.no_mesh, "PLATE": grey.no_mesh}.get(self.use)
        if why_not is not None and (reason := why_not(context)):
            raise ShotDataError(f"{reason}.")
        result_uses.use(scene, take_list.selected(scene.ex4d).name, self.use)


CLASSES = (EX4D_OT_load_result, EX4D_OT_compare_take, EX4D_OT_stop_comparing, EX4D_OT_use_result)
