# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the next take."""

from bpy.types import Panel

from .. import estimates, painting, take_queue
from ..session import Step
from .parts import SidebarPanel, button, facts, is_under_way, outcome


class EX4D_PT_take(SidebarPanel, Panel):
    bl_label = "Take"

    def draw_step(self, layout, context, state):
        layout.prop(state, "take_name")
        draw_painting(layout, state)
        button(layout, Step.TAKE, "ex4d.render_take", "RENDER_ANIMATION")
        if not is_under_way(Step.TAKE) and (needs := estimates.said(context.scene)):
            facts(layout, context, needs)
        row = layout.row(align=True)
        row.operator_menu_enum("ex4d.plan_takes", "cameras", text="Plan", icon="ADD")
        waiting = len(take_queue.planned(state))
        row.operator("ex4d.render_planned", text=f"Render {waiting} Planned" if waiting else "Render Planned")
        outcome(layout, context, Step.TAKE)


def draw_painting(layout, owner):
    """How a take is painted: the next one, or a planned one.

    Args:
        owner: the scene's state, or the take's line.
    """
    header, body = layout.panel("EX4D_painting", default_closed=True)
    header.label(text="Painting")
    if body is None:
        return
    body.prop(owner, "engine")
    model = body.column()
    model.active = painting.paints_with_model(owner)  # the classical fill knows only the seed
    model.prop(owner, "quality")
    for switch, name, heading in (("use_steps", "steps", "Steps"), ("use_erosion", "erosion_px", "Mask Erosion")):
        row = model.row(heading=heading)
        row.prop(owner, switch, text="")
        value = row.row()
        value.active = getattr(owner, switch)
        value.prop(owner, name, text="")
    model.prop(owner, "prompt", placeholder="The release's")
    model.prop(owner, "negative_prompt", text="Negative", placeholder="The release's")
    body.prop(owner, "seed")
    passes = body.column(heading="Passes")
    passes.prop(owner, "use_depth_pass")
    passes.prop(owner, "use_clean_plate")
