# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: whether a take kept the camera and the plate, and where it is worst."""

from bpy.props import IntProperty, StringProperty
from bpy.types import Operator

from .. import take_check, take_list
from ..session import Step
from . import grey
from .result import take_not_rendered
from .step import StepOperator


def gone(context):
    item = take_list.selected(context.scene.ex4d)
    is_gone = item is not None and item.summary in (take_list.GONE, take_list.UNREADABLE)
    return f"The selected take's {item.summary}" if is_gone else None


class EX4D_OT_check_result(StepOperator, Operator):
    """Measure the selected take on the server: how far its camera is off, what of the plate it kept, how it flickers"""

    bl_idname, bl_label = "ex4d.check_result", "Check Result"
    step = Step.CHECK
    reasons = (*grey.TAKES_NEED, grey.no_take, take_not_rendered, gone)

    def start(self, context):
        take_check.start(context.scene, take_list.selected(context.scene.ex4d))


class EX4D_OT_go_to_frame(Operator):
    """Show this frame"""

    bl_idname, bl_label = "ex4d.go_to_frame", "Go to Frame"
    bl_options = {"INTERNAL"}

    frame: IntProperty(name="Frame", options={"SKIP_SAVE"})
    meaning: StringProperty(name="Meaning", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context, properties):
        return f"{properties.meaning}.\nClick to show frame {properties.frame}, the worst one"

    def execute(self, context):
        context.scene.frame_set(self.frame)
        return {"FINISHED"}


CLASSES = (EX4D_OT_check_result, EX4D_OT_go_to_frame)
