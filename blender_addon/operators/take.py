# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the plate, re-shot: at once, or planned and then several together."""

from bpy.props import EnumProperty, StringProperty
from bpy.types import Operator

from .. import shots, take_list, take_queue, thumbnails
from ..session import Step, current
from . import grey
from .step import StepOperator


class EX4D_OT_render_take(StepOperator, Operator):
    """Re-shoot the plate with the scene's camera, over the scene's frame range. You can go on working meanwhile"""

    bl_idname, bl_label = "ex4d.render_take", "Render Take"
    bl_options = {"UNDO"}
    step, reasons = Step.TAKE, grey.TAKES_NEED

    def start(self, context):
        take_queue.render(context)


CAMERA_ITEMS = [
    ("SCENE", "Scene Camera", "One take, with the scene's camera and its camera markers"),
    ("SELECTED", "Selected Cameras", "One take with each selected camera"),
]


class EX4D_OT_plan_takes(StepOperator, Operator):
    """Put takes with these settings into the list, to be rendered together later"""

    bl_idname, bl_label = "ex4d.plan_takes", "Plan"
    bl_options = {"UNDO"}
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction)

    cameras: EnumProperty(name="Cameras", items=CAMERA_ITEMS, options={"SKIP_SAVE"})

    def start(self, context):
        scene = context.scene
        if self.cameras == "SCENE":
            take_list.plan(scene, shots.safe_name(scene.ex4d.take_name))
            return
        selected = [item for item in context.selected_objects if item.type == "CAMERA"]
        take_list.plan_cameras(scene, sorted(selected, key=lambda item: item.name))


def nothing_planned(context):
    return None if take_queue.planned(context.scene.ex4d) else "Plan a take first, or duplicate one"


class EX4D_OT_render_planned(StepOperator, Operator):
    """Render all planned takes, each with its own camera and settings; those that failed or were cancelled too"""

    bl_idname, bl_label = "ex4d.render_planned", "Render Planned"
    step, reasons = Step.RESULT, (*grey.TAKES_NEED, nothing_planned)

    def start(self, context):
        take_queue.render_planned(context)


class EX4D_OT_duplicate_take(StepOperator, Operator):
    """Plan a take like the selected one: its settings and its camera; one that was shot lends its very path"""

    bl_idname, bl_label = "ex4d.duplicate_take", "Duplicate Take"
    bl_options = {"UNDO"}
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.no_take)

    def start(self, context):
        state = context.scene.ex4d
        take_list.duplicate(state, take_list.selected(state))


def selected_is_under_way(context):
    state = context.scene.ex4d
    item = take_list.selected(state)
    is_busy = item is not None and take_queue.is_under_way(state, item.name)
    return "The take is under way: cancel it first" if is_busy else None


def selected_is_on_disk(context):
    item = take_list.selected(context.scene.ex4d)
    is_there = item is not None and not item.is_planned and item.summary != take_list.GONE
    return "The take's files lie beside the shot: the list shows what is there" if is_there else None


class EX4D_OT_remove_take(StepOperator, Operator):
    """Take the selected take out of the list: one that is planned, or whose files are gone"""

    bl_idname, bl_label = "ex4d.remove_take", "Remove Take"
    bl_options = {"UNDO"}
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_take, selected_is_under_way, selected_is_on_disk)

    def start(self, context):
        state = context.scene.ex4d
        take_list.remove(state, take_list.selected(state))


def no_take_under_way(context):
    return None if current.followed or take_queue.sent else "No take is under way"


class EX4D_OT_cancel_take(StepOperator, Operator):
    """Stop rendering this take; it stays in the list, planned"""

    bl_idname, bl_label = "ex4d.cancel_take", "Cancel Take"
    reasons = (no_take_under_way,)

    take: StringProperty(name="Take", description="Empty: the one selected in the list", options={"SKIP_SAVE"})

    def start(self, context):
        state = context.scene.ex4d
        name = self.take or take_list.selected(state).name
        if take_queue.is_under_way(state, name):  # it may have arrived before the click
            take_queue.cancel(state, name)


class EX4D_OT_refresh_takes(StepOperator, Operator):
    """Look which takes lie beside the shot: those of other files and of the command line too"""

    bl_idname, bl_label = "ex4d.refresh_takes", "Refresh Takes"
    step, reasons = Step.RESULT, (grey.no_shot, grey.no_reconstruction, grey.working)

    def start(self, context):
        thumbnails.forget()
        take_list.refresh(context.scene)


CLASSES = (
    EX4D_OT_render_take,
    EX4D_OT_plan_takes,
    EX4D_OT_render_planned,
    EX4D_OT_duplicate_take,
    EX4D_OT_remove_take,
    EX4D_OT_cancel_take,
    EX4D_OT_refresh_takes,
)
