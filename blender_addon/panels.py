# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar tab "EX-4D" of the 3D view. Draws what properties and session remember; asks nobody."""

import blf
import bpy
from bpy.types import Panel

from . import display_mesh
from .session import current

# What a sidebar's line loses to tabs, margins, a box around it and an icon, in pixels at scale 1.
LINE_OVERHEAD = 90


def lines_of(text, fits):
    """Break a text into lines, each as long as `fits(line)` allows."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and not fits(longer):
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]


def wrapped(layout, context, text, icon="NONE"):
    """Draw a text as lines that fit the sidebar: labels do not wrap."""
    preferences = context.preferences
    blf.size(0, preferences.ui_styles[0].widget.points * preferences.system.ui_scale)
    available = context.region.width - LINE_OVERHEAD * preferences.system.ui_scale
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(lines_of(text, lambda line: blf.dimensions(0, line)[0] <= available)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


class SidebarPanel:
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "EX-4D"


class EX4D_PT_plate(SidebarPanel, Panel):
    bl_label = "Plate"

    def draw(self, context):
        layout, state = self.layout, context.scene.ex4d
        layout.operator("ex4d.import_plate", icon="FILE_MOVIE")
        if not state.shot_id:
            return
        layout.label(text=state.shot_name, icon="CAMERA_DATA")
        layout.label(
            text=f"{state.plate_width} x {state.plate_height}, {state.plate_frames} frames, {state.plate_fps:.6g} fps"
        )
        if not bpy.data.filepath:
            wrapped(layout, context, "Save the file first: the shot then lies beside it.", "INFO")
        elif state.shot_image is not None and not state.shot_image.filepath.startswith("//"):
            wrapped(layout, context, "The shot does not lie beside the file.", "INFO")
            layout.operator("ex4d.gather_files", icon="FILE_FOLDER")


class EX4D_PT_reconstruct(SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw(self, context):
        layout, state = self.layout, context.scene.ex4d
        layout.use_property_split = True
        if current.is_connected:
            layout.label(text="Server connected", icon="CHECKMARK")
        else:
            text = "Connecting..." if current.is_connecting else "Connect to the Server"
            layout.operator("ex4d.connect_server", text=text, icon="LINKED")
        if state.source_camera is not None:
            lens = layout.column(align=True)
            lens.prop(state.source_camera.data, "lens", text="Source Lens")
            lens.prop(state.source_camera.data, "sensor_width", text="Film Back")
        layout.prop(state, "depth_source")
        if state.depth_source == "file":
            layout.prop(state, "depth_file", text="File")
            layout.prop(state, "depth_kind")
        layout.operator("ex4d.reconstruct", icon="MESH_GRID")
        if state.is_reconstructed:
            row = layout.row(align=True)
            row.prop(state, "mesh_stride", text="Detail")
            row.operator("ex4d.show_mesh", text="", icon="FILE_REFRESH")
            switch = display_mesh.show_cut_property(state.mesh) if state.mesh is not None else None
            if switch is not None:
                layout.prop(*switch, text=display_mesh.SHOW_CUT_NAME)
            notes = layout.box()
            wrapped(notes, context, f"Depth: {state.depth_notice}", "INFO")
            wrapped(notes, context, f"Licence: {state.licence_notice}", "TEXT")
            if state.shot_notice:
                wrapped(notes, context, state.shot_notice, "INFO")


class EX4D_PT_take(SidebarPanel, Panel):
    bl_label = "Take"

    def draw(self, context):
        layout, state = self.layout, context.scene.ex4d
        layout.use_property_split = True
        layout.operator("ex4d.add_camera", icon="OUTLINER_OB_CAMERA")
        layout.prop(context.scene, "camera", text="Shoot With")
        layout.prop(state, "take_name")
        layout.prop(state, "seed")
        layout.operator("ex4d.render_take", icon="RENDER_ANIMATION")
        layout.operator("ex4d.load_result", icon="SEQUENCE")
        if state.last_take:
            notes = layout.box()
            if state.take_coverage:
                wrapped(notes, context, state.take_coverage, "MOD_MASK")
            wrapped(notes, context, state.take_notice, "INFO")


class EX4D_PT_status(SidebarPanel, Panel):
    """What is under way, what went wrong"""

    bl_label = "Status"

    @classmethod
    def poll(cls, context):
        return bool(current.activity or current.error or current.notice)

    def draw(self, context):
        layout = self.layout
        if current.job is not None:
            draw_job(layout, current.job)
        elif current.work is not None:
            factor = current.work.i / current.work.n if current.work.n else 0.0
            layout.progress(factor=factor, text=current.work.title, type="BAR")
        elif current.activity:
            layout.label(text=f"{current.activity}...")
        if current.error:
            wrapped(layout.box(), context, current.error, "ERROR")
        if current.notice:
            wrapped(layout.box(), context, current.notice, "INFO")


def draw_job(layout, job):
    text = job.message or job.stage
    if job.eta_s is not None:
        text += f", {job.eta_s:.0f} s left"
    layout.label(text=job.title)
    layout.progress(factor=job.i / job.n if job.n else 0.0, text=text, type="BAR")
    layout.operator("ex4d.cancel", text="Cancelling..." if job.is_cancelling else "Cancel", icon="CANCEL")


CLASSES = (EX4D_PT_plate, EX4D_PT_reconstruct, EX4D_PT_take, EX4D_PT_status)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
