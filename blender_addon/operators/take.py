# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the plate, re-shot with the scene's camera."""

from bpy.props import EnumProperty, StringProperty
from bpy.types import Operator

from .. import shots, take_list, takes
from ..session import Step
from . import grey
from .step import StepOperator


class EX4D_OT_render_take(StepOperator, Operator):
    """Re-shoot the plate with the scene's camera, over the scene's frame range"""

    bl_idname, bl_label = "ex4d.render_take", "Render Take"
    step, reasons = Step.TAKE, grey.TAKES_NEED

    def start(self, context):
        takes.render(context)


PASS_ITEMS = [
    ("RESULT", "Result", "The re-shot plate"),
    ("MATTE", "Matte", "White where the plate shows, black where the take was painted; muted, so that the take shows"),
    ("MESH", "Mesh Render", "What the plate alone shows from the new camera; muted, so that the take shows"),
]


class EX4D_OT_load_result(StepOperator, Operator):
    """Put a take's result, or one of its passes, into the sequencer, above the plate"""

    bl_idname, bl_label = "ex4d.load_result", "Load Result"
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.busy, grey.no_take)

    part: EnumProperty(name="Load", items=PASS_ITEMS, options={"SKIP_SAVE"})  # the button means the result
    take: StringProperty(name="Take", description="Empty: the one selected in the list", options={"SKIP_SAVE"})

    def start(self, context):
        state = context.scene.ex4d
        name = self.take or state.takes[state.active_take].name
        takes.load(state.shot_id, takes.take_folder(context.scene, shots.safe_name(name)), self.part)


class EX4D_OT_refresh_takes(StepOperator, Operator):
    """Look which takes lie beside the shot: those of other files and of the command line too"""

    bl_idname, bl_label = "ex4d.refresh_takes", "Refresh Takes"
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.busy)

    def start(self, context):
        take_list.refresh(context.scene)
