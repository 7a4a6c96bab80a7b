# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: the scene from the plate."""

from bpy.types import Panel

from .. import reconstruct_job, reconstruction, solve
from ..properties.reconstruct import READ_FROM_FILE
from ..session import Step
from .parts import SidebarPanel, button, facts, outcome


class EX4D_PT_reconstruct(SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw_step(self, layout, context, state):
        if state.source_camera is not None:
            lens = layout.column(align=True)
            lens.active = not reconstruct_job.uses_solve(state)  # else the solve decides
            lens.prop(state.source_camera.data, "lens", text="Source Lens")
            lens.prop(state.source_camera.data, "sensor_width", text="Film Back")
        self.draw_solve(layout, state)
        layout.prop(state, "depth_source")
        if state.depth_source in READ_FROM_FILE:
            layout.prop(state, "depth_file", text="File")
        if state.depth_source == "file":
            layout.prop(state, "depth_kind")
        self.draw_distances(layout, state)
        layout.prop(state, "use_scene_range")
        if state.use_scene_range:
            layout.prop(state, "handles")
        if reconstruction.asks_for_licence(state):
            layout.prop(state, "accept_licence")
        button(layout, Step.RECONSTRUCT, "ex4d.reconstruct", "MESH_GRID")
        outcome(layout, context, Step.RECONSTRUCT)
        if state.is_reconstructed:
            said = [(line, "INFO") for line in state.shot_notice.splitlines()]
            facts(
                layout,
                context,
                [(state.depth_notice, "MOD_OCEAN"), (f"Licence: {state.licence_notice}", "TEXT"), *said],
            )

    def draw_solve(self, layout, state):
        """The plate's solved camera motion, if it has one."""
        if not state.shot_id or not solve.is_solved(state.plate_clip):
            return
        row = layout.row()
        row.enabled = state.depth_source != "tracked"  # which needs it
        row.prop(state, "use_solve")
        layout.label(text=solve.facts(state.plate_clip), icon="TRACKER")

    def draw_distances(self, layout, state):
        """What the artist knows, for depth that does not know how far."""
        if state.depth_source == "tracked":
            layout.prop(state, "tracked_prior")
        is_scaled_by_solve = reconstruct_job.uses_solve(state)
        if reconstruct_job.takes_near_and_far(state) and not is_scaled_by_solve:
            reach = layout.column(align=True)
            reach.prop(state, "depth_near")
            reach.prop(state, "depth_far")
        if reconstruct_job.takes_distances(state) and not is_scaled_by_solve:
            layout.prop(state, "known_distance")
            if state.known_distance:
                layout.row().prop(state, "known_at", text="Measured At")
