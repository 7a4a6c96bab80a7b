# SPDX-License-Identifier: GPL-3.0-or-later
"""At the top of the tab: what to do next, for whoever does not know the way yet."""

import bpy
from bpy.types import Panel

from .. import take_list
from ..compat import fcurves_of
from ..session import current
from .parts import SidebarPanel, wrapped


def next_step(scene) -> str:
    """Return the step that the shot waits for, as a sentence."""
    state, camera = scene.ex4d, scene.camera
    if not state.shot_id:
        return "Next: Import Plate, a movie or numbered pictures." + _save_first()
    if current.activity:
        return f"{current.activity} is under way. You can look around and go on working."
    if not state.is_reconstructed:
        if not _is_connected(state):
            return "Next: Connect to the Server, which makes the scene from the plate."
        return "Next: set the lens, choose a Depth, then press Reconstruct." + _save_first()
    if camera is None or camera.type != "CAMERA" or camera == state.source_camera:
        return "Next: Add Camera. It starts at the plate's own view."
    if not _moves(camera, state):
        return "Next: choose a Camera Move, or key the camera yourself, as any camera of Blender."
    if not _is_connected(state):
        return "Next: Connect to the Server, to render the take."
    if not any(not item.is_planned for item in state.takes):
        return "Next: Check Coverage, then Render Take."
    item = take_list.selected(state)
    if item is not None and not item.is_planned and not item.check:
        return (
            "Next: look at the result in the sequencer; Check Result measures it. Then change the camera, or hand over."
        )
    return "Next: Hand Over the camera and the mesh, or change the camera for another take."


def _is_connected(state):
    return current.is_connected and current.server.name == state.server


def _moves(camera, state):
    """Tell whether the artist has done anything to a camera: it comes with one keyframe."""
    curves = [*fcurves_of(camera), *fcurves_of(camera.data)]
    is_animated = any(len(curve.keyframe_points) > 1 or curve.modifiers for curve in curves)
    return is_animated or bool(camera.constraints) or camera.parent not in (state.root, state.source_camera)


def _save_first():
    return "" if bpy.data.filepath else " Save the file first: the shot then lies beside it."


class EX4D_PT_next(SidebarPanel, Panel):
    bl_label = "Next Step"
    bl_options = {"HIDE_HEADER"}

    def draw_step(self, layout, context, state):
        wrapped(layout.box(), context, next_step(context.scene), "FORWARD")  # without a header there is no ground
