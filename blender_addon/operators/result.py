# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: what came back, in the sequencer."""

from bpy.props import EnumProperty, StringProperty
from bpy.types import Operator

from .. import shots, take_list, takes
from ..session import Step
from . import grey
from .step import StepOperator

PASS_ITEMS = [
    ("RESULT", "Result", "The re-shot plate"),
    ("MATTE", "Matte", "White where the plate shows, black where the take was painted; muted, so that the take shows"),
    ("MESH", "Mesh Render", "What the plate alone shows from the new camera; muted, so that the take shows"),
]


def take_not_rendered(context):
    item = take_list.selected(context.scene.ex4d)
    return "The selected take is planned: render it first" if item is not None and item.is_planned else None


class EX4D_OT_load_result(StepOperator, Operator):
    """Put a take's result, or one of its passes, into the sequencer, above the plate"""

    bl_idname, bl_label = "ex4d.load_result", "Load Result"
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.working, grey.no_take, take_not_rendered)

    part: EnumProperty(name="Load", items=PASS_ITEMS, options={"SKIP_SAVE"})  # the button means the result
    take: StringProperty(name="Take", description="Empty: the one selected in the list", options={"SKIP_SAVE"})

    def start(self, context):
        state = context.scene.ex4d
        name = self.take or take_list.selected(state).name
        takes.load(state.shot_id, takes.take_folder(context.scene, shots.safe_name(name)), self.part)


CLASSES = (EX4D_OT_load_result,)
