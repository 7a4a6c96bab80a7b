# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the next take."""

from bpy.types import Panel

from .. import estimates, painting
from ..session import Step
from .parts import SidebarPanel, button, facts, is_under_way, outcome


class EX4D_PT_take(SidebarPanel, Panel):
    bl_label = "Take"

    def draw_step(self, layout, context, state):
        layout.prop(state, "take_name")
        self.draw_painting(layout, state)
        button(layout, Step.TAKE, "ex4d.render_take", "RENDER_ANIMATION")
        if not is_under_way(Step.TAKE) and (needs := estimates.said(context.scene)):
            facts(layout, context, needs)
        outcome(layout, context, Step.TAKE)

    def draw_painting(self, layout, state):
        header, body = layout.panel("EX4D_painting", default_closed=True)
        header.label(text="Painting")
        if body is None:
            return
        body.prop(state, "engine")
        model = body.column()
        model.active = painting.paints_with_model(state)  # the classical fill knows only the seed
        model.prop(state, "quality")
        for switch, name, heading in (("use_steps", "steps", "Steps"), ("use_erosion", "erosion_px", "Mask Erosion")):
            row = model.row(heading=heading)
            row.prop(state, switch, text="")
            value = row.row()
            value.active = getattr(state, switch)
            value.prop(state, name, text="")
        model.prop(state, "prompt", placeholder="The release's")
        model.prop(state, "negative_prompt", text="Negative", placeholder="The release's")
        body.prop(state, "seed")
