# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: how the scene is looked at."""

from bpy.types import Panel

from .. import coverage_strip, display_mesh
from ..session import Step
from .parts import SidebarPanel, button, facts, is_under_way, outcome, wrapped


class EX4D_PT_look(SidebarPanel, Panel):
    bl_label = "Look"

    @classmethod
    def poll(cls, context):
        return context.scene.ex4d.is_reconstructed

    def draw_step(self, layout, context, state):
        row = layout.row(align=True)
        row.prop(state, "mesh_stride", text="Detail")
        row.operator("ex4d.show_mesh", text="", icon="FILE_REFRESH")
        switch = display_mesh.show_cut_property(state.mesh) if state.mesh is not None else None
        if switch is not None:
            layout.prop(*switch, text=display_mesh.SHOW_CUT_NAME)


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
