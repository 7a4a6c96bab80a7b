# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels of all steps are put together from."""

import blf
import bpy

from .. import job_picture
from ..session import current

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
    whole = bpy.app.translations.pgettext_iface(text)  # its lines are no sentences that a translation could know
    for number, line in enumerate(lines_of(whole, lambda line: blf.dimensions(0, line)[0] <= available)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1", translate=False)


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
