# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: look through the plate's own camera, the new one, or both side by side."""

import bpy
from bpy.types import Operator

from .. import view
from . import grey
from .step import StepOperator


def no_view(context):
    """Blender without a window has no views, and a script's view is not the one that the artist sees."""
    if bpy.app.background:
        return "Needs Blender's window: without one there is no view to change"
    return None if context.area is not None and context.area.type == "VIEW_3D" else "Press it in a 3D view"


def no_source_camera(context):
    state = context.scene.ex4d
    is_there = state.source_camera is not None and context.scene.objects.get(state.source_camera.name)
    return None if is_there else "The plate's own camera was deleted: undo that, or import the plate again"


def no_room(context):
    if view.other_half(context.screen, context.area, context.scene.ex4d.source_camera) or view.can_split(context):
        return None
    return "No room for two views here: leave the full-screen view, or make this one wider"


def show(context, shows_new):
    """Show one camera where was clicked, and join what was split."""
    state = context.scene.ex4d
    other = view.other_half(context.screen, context.area, state.source_camera)
    if shows_new:
        view.see_new(context.area)
    else:
        view.see_source(context.area, state.source_camera)
    if other is not None:
        view.join(context, other)  # last: Blender forgets then which view was clicked in


class EX4D_OT_view_source(StepOperator, Operator):
    """Look through the plate's own camera. The scene's camera stays what it is"""

    bl_idname, bl_label = "ex4d.view_source", "Source"
    reasons = (no_view, grey.no_shot, no_source_camera)

    def start(self, context):
        show(context, shows_new=False)


class EX4D_OT_view_new(StepOperator, Operator):
    """Look through the camera that takes are shot with"""

    bl_idname, bl_label = "ex4d.view_new", "New"
    reasons = (no_view, grey.no_shot, grey.no_camera)

    def start(self, context):
        show(context, shows_new=True)


class EX4D_OT_view_split(StepOperator, Operator):
    """Source camera on the left, new camera on the right; the other two buttons make it one view again"""

    bl_idname, bl_label = "ex4d.view_split", "Split"
    reasons = (no_view, grey.no_shot, no_source_camera, grey.no_camera, no_room)

    def start(self, context):
        state = context.scene.ex4d
        if view.other_half(context.screen, context.area, state.source_camera) is None:
            view.split(context, state.source_camera)
