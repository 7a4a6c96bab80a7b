# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: the takes there are and those on their way, and what goes on to others."""

from bpy.types import Panel, UIList

from .. import job_picture, sequencer, take_list, take_queue, thumbnails
from ..session import Step
from . import check
from .parts import PICTURE_SCALE, SidebarPanel, facts, is_under_way, job_text, outcome, wrapped
from .take import draw_painting

THUMBNAIL_SCALE = 6  # of a take's picture, in lines of the panel


def status_of(state, item) -> str:
    """Return where a take stands, in a few words."""
    found = take_queue.sent_take(state, item.name)
    if found is not None:
        return "failed" if found.failure else job_text(found)
    if item.is_planned:
        return f"planned, {item.camera.name}" if item.camera is not None else "planned"
    return item.summary


class EX4D_UL_takes(UIList):
    """The takes of a shot by name: what painted them, or where they stand."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_propname, index):
        is_going = take_queue.is_under_way(data, item.name)
        split = layout.split(factor=0.4)
        icon = "RENDER_ANIMATION" if is_going else "TIME" if item.is_planned else "SEQUENCE"
        split.label(text=item.name, icon=icon, translate=False)
        row = split.row()
        row.label(text=status_of(data, item))
        if is_going:
            row.operator("ex4d.cancel_take", text="", icon="CANCEL", emboss=False).take = item.name


class EX4D_PT_result(SidebarPanel, Panel):
    bl_label = "Result"

    @classmethod
    def poll(cls, context):
        return context.scene.ex4d.is_reconstructed

    def draw_step(self, layout, context, state):
        self.draw_takes(layout, state)
        item = take_list.selected(state)
        if item is not None:
            self.draw_selected(layout, context, state, item)
        row = layout.row(align=True)
        row.operator("ex4d.load_result", icon="SEQUENCE")
        row.operator_menu_enum("ex4d.load_result", "part", text="", icon="DOWNARROW_HLT")
        self.draw_comparison(layout, context, state, item)
        if item is not None and not item.is_planned:
            layout.operator_menu_enum("ex4d.use_result", "use", text="Use Result", icon="OUTLINER_OB_IMAGE")
            check.draw(layout, context, state, item)
        layout.operator("ex4d.hand_over", icon="EXPORT")
        outcome(layout, context, Step.RESULT)
        if item is not None and item.name == state.last_take and not is_under_way(Step.TAKE):
            where, *said = state.take_notice.splitlines()
            coverage = [(state.take_coverage, "MOD_MASK")] if state.take_coverage else []
            facts(layout, context, [(where, "SEQUENCE"), *coverage, *((line, "INFO") for line in said)])

    def draw_takes(self, layout, state):
        """The takes of the shot, with what changes the list."""
        row = layout.row()
        row.template_list("EX4D_UL_takes", "", state, "takes", state, "active_take", rows=4)
        side = row.column(align=True)
        side.operator("ex4d.duplicate_take", text="", icon="DUPLICATE")
        side.operator("ex4d.remove_take", text="", icon="REMOVE")
        side.operator("ex4d.refresh_takes", text="", icon="FILE_REFRESH")
        for name in take_queue.unlisted(state):
            row = layout.row()
            row.label(text=f"{name}: {job_text(take_queue.sent_take(state, name))}", icon="RENDER_ANIMATION")
            row.operator("ex4d.cancel_take", text="", icon="CANCEL").take = name

    def draw_selected(self, layout, context, state, item):
        """What is known of the selected take, and what can be set of it."""
        found = take_queue.sent_take(state, item.name)
        if found is not None and found.failure:
            wrapped(layout.box(), context, found.failure, "ERROR")
        if found is not None and found.is_under_way:
            row = layout.row(align=True)
            row.progress(factor=found.i / found.n if found.n else 0.0, text=job_text(found), type="BAR")
            row.operator("ex4d.cancel_take", text="", icon="CANCEL").take = item.name
            if take_queue.has_picture(state, item.name) and (icon := job_picture.icon_id()) is not None:
                layout.template_icon(icon_value=icon, scale=PICTURE_SCALE)
        elif item.is_planned:
            self.draw_planned(layout, item)
        elif item.summary not in (take_list.GONE, take_list.UNREADABLE):
            layout.template_icon(icon_value=thumbnails.icon_id(context.scene, item.name), scale=THUMBNAIL_SCALE)
        layout.prop(item, "notes")

    def draw_comparison(self, layout, context, state, item):
        """The wipe between the selected take and the plate or another one."""
        row = layout.row(align=True)
        can_compare = item is not None and not item.is_planned
        if can_compare:
            row.operator_menu_enum("ex4d.compare_take", "other", text="Compare", icon="MOD_LENGTH")
        wipe = sequencer.wipe_strip(context.scene, state.shot_id)
        if wipe is None:
            return
        row.operator("ex4d.stop_comparing", text="" if can_compare else "Stop Comparing", icon="X")
        row = layout.row()
        row.use_property_decorate = True  # this one can be keyed
        row.prop(wipe, "effect_fader", text="Wipe")

    def draw_planned(self, layout, item):
        """The settings of a take that is not rendered yet."""
        layout.prop(item, "name", text="Name")
        if item.path_of:
            layout.prop(item, "path_of", text="Path Of")
        else:
            layout.prop(item, "camera")
            range_ = layout.column(align=True)
            range_.prop(item, "frame_start")
            range_.prop(item, "frame_end")
        draw_painting(layout, item)
