# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: how the scene is looked at."""

from bpy.types import Panel

from .. import coverage_strip, view
from ..session import Step
from .parts import SidebarPanel, button, facts, is_under_way, outcome, wrapped


class EX4D_PT_look(SidebarPanel, Panel):
    bl_label = "Look"

    @classmethod
    def poll(cls, context):
        return bool(context.scene.ex4d.shot_id)

    def draw_step(self, layout, context, state):
        is_split = view.other_half(context.screen, context.area, state.source_camera) is not None
        row = layout.row(align=True)
        for operator, icon, is_on in (
            ("ex4d.view_source", "VIEW_CAMERA", not is_split and view.shows_source(context.area, state.source_camera)),
            ("ex4d.view_split", "SPLIT_VERTICAL", is_split),
            ("ex4d.view_new", "OUTLINER_OB_CAMERA", not is_split and view.shows_new(context.area)),
        ):
            row.operator(operator, icon=icon, depress=is_on)
        if state.is_reconstructed:
            layout.prop(state, "unseen")
            row = layout.row(align=True)
            row.prop(state, "mesh_stride", text="Detail")
            row.operator("ex4d.show_mesh", text="", icon="FILE_REFRESH")


def draw_coverage(layout, context, state):
    """What the scene's camera would not see."""
    button(layout, Step.COVERAGE, "ex4d.check_coverage", "MOD_MASK")
    outcome(layout, context, Step.COVERAGE)
    if state.coverage_check and not is_under_way(Step.COVERAGE):
        frames, *said = state.coverage_check.splitlines()
        facts(layout, context, [(frames, "CAMERA_DATA"), *((line, "MOD_MASK") for line in said)])
    if state.is_reconstructed:
        layout.prop(state, "use_coverage_strip")
        if state.use_coverage_strip and (said := coverage_strip.said(state)):
            wrapped(layout, context, said, "BLANK1")
