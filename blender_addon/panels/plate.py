# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: the plate."""

import bpy
from bpy.types import Panel

from .. import scene_match
from ..session import Step
from .parts import SidebarPanel, button, facts, outcome, wrapped


class EX4D_PT_plate(SidebarPanel, Panel):
    bl_label = "Plate"

    def draw_step(self, layout, context, state):
        layout.operator("ex4d.import_plate", icon="FILE_MOVIE")
        row = layout.row(align=True)
        row.operator_menu_enum("ex4d.plate_from_clip", "clip", text="Clip", icon="TRACKER")
        row.operator("ex4d.plate_from_strip", text="Strip", icon="SEQUENCE")
        row.operator("ex4d.plate_from_plane", text="Plane", icon="IMAGE_PLANE")
        if state.shot_id:
            layout.label(text=state.shot_name, icon="CAMERA_DATA")
            size, length = f"{state.plate_width} x {state.plate_height}", f"{state.film_frames} frames"
            layout.label(text=f"{size}, {length}, {scene_match.plate_rate(context.scene):.6g} fps", icon="BLANK1")
            if scene_match.differs(context.scene):
                layout.operator("ex4d.match_scene", icon="SCENE_DATA")
            if state.plate_notice and not state.is_reconstructed:
                facts(layout, context, [(line, "INFO") for line in state.plate_notice.splitlines()])
            if not bpy.data.filepath:
                wrapped(layout, context, "Save the file first: the shot then lies beside it.", "INFO")
            elif state.shot_image is not None and not state.shot_image.filepath.startswith("//"):
                wrapped(layout, context, "The shot does not lie beside the file.", "INFO")
                button(layout, Step.PLATE, "ex4d.gather_files", "FILE_FOLDER")
        outcome(layout, context, Step.PLATE)
