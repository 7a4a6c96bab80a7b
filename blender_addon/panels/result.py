# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: the takes there are, and what goes on to others."""

from bpy.types import Panel, UIList

from ..session import Step
from .parts import SidebarPanel, facts, is_under_way, outcome


class EX4D_UL_takes(UIList):
    """The takes of a shot by name, with what painted them."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_propname, index):
        split = layout.split(factor=0.4)
        split.label(text=item.name, icon="SEQUENCE", translate=False)
        split.label(text=item.summary)


class EX4D_PT_result(SidebarPanel, Panel):
    bl_label = "Result"

    @classmethod
    def poll(cls, context):
        return context.scene.ex4d.is_reconstructed

    def draw_step(self, layout, context, state):
        self.draw_takes(layout, state)
        outcome(layout, context, Step.RESULT)
        if state.last_take and not is_under_way(Step.TAKE):  # else what is said would be of another take
            where, *said = state.take_notice.splitlines()
            coverage = [(state.take_coverage, "MOD_MASK")] if state.take_coverage else []
            facts(layout, context, [(where, "SEQUENCE"), *coverage, *((line, "INFO") for line in said)])

    def draw_takes(self, layout, state):
        """The takes of the shot, with what can be done with the selected one."""
        row = layout.row()
        row.template_list("EX4D_UL_takes", "", state, "takes", state, "active_take", rows=2)
        side = row.column(align=True)
        side.operator("ex4d.refresh_takes", text="", icon="FILE_REFRESH")
        if 0 <= state.active_take < len(state.takes):
            layout.prop(state.takes[state.active_take], "notes")
        row = layout.row(align=True)
        row.operator("ex4d.load_result", icon="SEQUENCE")
        row.operator_menu_enum("ex4d.load_result", "part", text="", icon="DOWNARROW_HLT")
        layout.operator("ex4d.hand_over", icon="EXPORT")
