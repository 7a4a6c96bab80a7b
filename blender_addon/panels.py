# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar tab "EX-4D" of the 3D view. Draws what properties and session remember; asks nobody."""

import blf
import bpy
from bpy.types import Panel, UIList

from . import coverage_strip, display_mesh, job_picture, painting, plate_time, reconstruct_job, reconstruction, solve
from .properties import READ_FROM_FILE
from .session import Step, current

# What a sidebar's line loses to tabs, margins, a box around it and an icon, in pixels at scale 1.
LINE_OVERHEAD = 90

COUNTABLE = 10_000  # steps; beyond that they are bytes, and a share says more

PICTURE_SCALE = 9  # of a job's picture, in lines of the panel


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


def facts(layout, context, blocks):
    """Draw (text, icon) blocks in one box, each wrapped, with a little air between them."""
    box = layout.box().column()
    for text, icon in blocks:
        wrapped(box, context, text, icon)


def is_under_way(step):
    """Tell whether a step's own button started what is under way."""
    return current.step is step and bool(current.activity)


def button(layout, step, operator, icon):
    """Draw a step's button; while the step is under way its progress stands in that place, with a way to stop it."""
    if not is_under_way(step):
        layout.operator(operator, icon=icon)
        return
    row = layout.row(align=True)
    job, work = current.job, current.work
    counted = job or work
    factor = counted.i / counted.n if counted is not None and counted.n else 0.0
    row.progress(factor=factor, text=job_text(job) if job is not None else f"{current.activity}...", type="BAR")
    if job is not None:
        row.operator("ex4d.cancel", text="", icon="CANCEL")
        if (icon := job_picture.icon_id()) is not None:
            layout.template_icon(icon_value=icon, scale=PICTURE_SCALE)


def job_text(job):
    """Return what a job does now, and how long that still takes."""
    if job.is_cancelling:
        return "Cancelling..."
    if not current.is_connected:
        return "Waiting for the server"
    text = job.message or job.stage
    if job.n > COUNTABLE:
        text = f"{job.stage} {job.i / job.n:.0%}"
    if job.eta_s is not None and job.eta_s >= 1:
        text += f", {job.eta_s:.0f} s left"
    return text


def outcome(layout, context, step):
    """Draw how a step ended, if it was the last one."""
    if current.step is not step:
        return
    if current.error and not current.is_link_error:
        wrapped(layout.box(), context, current.error, "ERROR")
    if current.notice:
        wrapped(layout.box(), context, current.notice, "INFO")


class SidebarPanel:
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "EX-4D"

    def draw(self, context):
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False  # none of these can be animated
        self.draw_step(self.layout, context, context.scene.ex4d)


class EX4D_PT_plate(SidebarPanel, Panel):
    bl_label = "Plate"

    def draw_step(self, layout, context, state):
        layout.operator("ex4d.import_plate", icon="FILE_MOVIE")
        row = layout.row(align=True)
        row.operator_menu_enum("ex4d.plate_from_clip", "clip", text="From Clip", icon="TRACKER")
        row.operator("ex4d.plate_from_strip", text="From Strip", icon="SEQUENCE")
        if state.shot_id:
            layout.label(text=state.shot_name, icon="CAMERA_DATA")
            size, length = f"{state.plate_width} x {state.plate_height}", f"{state.film_frames} frames"
            layout.label(text=f"{size}, {length}, {state.plate_fps:.6g} fps", icon="BLANK1")
            if state.plate_notice and not state.is_reconstructed:
                facts(layout, context, [(line, "INFO") for line in state.plate_notice.splitlines()])
            if not bpy.data.filepath:
                wrapped(layout, context, "Save the file first: the shot then lies beside it.", "INFO")
            elif state.shot_image is not None and not state.shot_image.filepath.startswith("//"):
                wrapped(layout, context, "The shot does not lie beside the file.", "INFO")
                button(layout, Step.PLATE, "ex4d.gather_files", "FILE_FOLDER")
        outcome(layout, context, Step.PLATE)


class EX4D_PT_reconstruct(SidebarPanel, Panel):
    bl_label = "Reconstruct"

    def draw_step(self, layout, context, state):
        self.draw_server(layout, context)
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
        if reconstruction.asks_for_licence(state):
            layout.prop(state, "accept_licence")
        button(layout, Step.RECONSTRUCT, "ex4d.reconstruct", "MESH_GRID")
        outcome(layout, context, Step.RECONSTRUCT)
        if state.is_reconstructed:
            self.draw_mesh(layout, context, state)

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

    def draw_server(self, layout, context):
        if current.is_connected:
            layout.label(text="Server connected", icon="CHECKMARK")
            return
        text = "Connecting..." if current.is_connecting else "Connect to the Server"
        layout.operator("ex4d.connect_server", text=text, icon="LINKED")
        if current.is_link_error:
            wrapped(layout.box(), context, current.error, "ERROR")
            if not current.was_lost:
                layout.operator("preferences.addon_show", text="Preferences", icon="PREFERENCES").module = __package__

    def draw_mesh(self, layout, context, state):
        row = layout.row(align=True)
        row.prop(state, "mesh_stride", text="Detail")
        row.operator("ex4d.show_mesh", text="", icon="FILE_REFRESH")
        switch = display_mesh.show_cut_property(state.mesh) if state.mesh is not None else None
        if switch is not None:
            layout.prop(*switch, text=display_mesh.SHOW_CUT_NAME)
        said = [(line, "INFO") for line in state.shot_notice.splitlines()]
        facts(layout, context, [(state.depth_notice, "MOD_OCEAN"), (f"Licence: {state.licence_notice}", "TEXT"), *said])


class EX4D_PT_take(SidebarPanel, Panel):
    bl_label = "Take"

    def draw_step(self, layout, context, state):
        layout.operator("ex4d.add_camera", icon="OUTLINER_OB_CAMERA")
        layout.prop(context.scene, "camera", text="Shoot With")
        layout.operator_menu_enum("ex4d.add_move", "move", text="Camera Move", icon="CON_FOLLOWPATH")
        layout.prop(state, "move_target")
        layout.operator_menu_enum("ex4d.key_plate_time", "time", text="Plate Time", icon="TIME")
        if plate_time.is_keyed(state):
            row = layout.row()
            row.use_property_decorate = True  # this one can be keyed
            row.prop(state.root, plate_time.DATA_PATH, text=plate_time.PROPERTY)
        button(layout, Step.COVERAGE, "ex4d.check_coverage", "MOD_MASK")
        outcome(layout, context, Step.COVERAGE)
        if state.coverage_check and not is_under_way(Step.COVERAGE):
            frames, *said = state.coverage_check.splitlines()
            facts(layout, context, [(frames, "CAMERA_DATA"), *((line, "MOD_MASK") for line in said)])
        self.draw_strip(layout, context, state)
        layout.prop(state, "take_name")
        self.draw_painting(layout, state)
        button(layout, Step.TAKE, "ex4d.render_take", "RENDER_ANIMATION")
        self.draw_takes(layout, state)
        outcome(layout, context, Step.TAKE)
        if state.last_take and not is_under_way(Step.TAKE):  # else what is said would be of another take
            where, *said = state.take_notice.splitlines()
            coverage = [(state.take_coverage, "MOD_MASK")] if state.take_coverage else []
            facts(layout, context, [(where, "SEQUENCE"), *coverage, *((line, "INFO") for line in said)])

    def draw_strip(self, layout, context, state):
        """What the strip in the timeline shows, in words."""
        if not state.is_reconstructed:
            return
        layout.prop(state, "use_coverage_strip")
        if state.use_coverage_strip and (said := coverage_strip.said(state)):
            wrapped(layout, context, said, "BLANK1")

    def draw_takes(self, layout, state):
        """The takes of the shot, with what can be done with the selected one."""
        if not state.is_reconstructed:
            return
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


class EX4D_UL_takes(UIList):
    """The takes of a shot by name, with what painted them."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_propname, index):
        split = layout.split(factor=0.4)
        split.label(text=item.name, icon="SEQUENCE", translate=False)
        split.label(text=item.summary)


CLASSES = (EX4D_UL_takes, EX4D_PT_plate, EX4D_PT_reconstruct, EX4D_PT_take)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
