# SPDX-License-Identifier: GPL-3.0-or-later
"""A strip in the timeline that shows, while the camera is edited, how much of each picture a take would have to paint.

What it shows is neither saved nor undone: after each change of the scene the camera's curves are read anew.
"""

from dataclasses import dataclass
from functools import partial

import bpy
import numpy as np
from bpy.app.handlers import persistent

from . import session, shots
from .coverage_estimate import PlateSamples, read_samples, unseen_shares
from .errors import CameraPathError
from .quiet_path import quiet_path

MOST_FRAMES = 33  # that are looked at; those between them lie between them
PAUSE_S = 0.2  # between two looks at a camera that is being moved
SCRUB_PX, STRIP_PX = 24, 7  # of the timeline at scale 1: where frames are clicked, and our strip below it

# The library's verdict (ex4d/coverage.py) is Good up to a tenth and Mostly Painted from two fifths on.
COLOURS = ((0.0, (0.15, 0.55, 0.25)), (0.1, (0.55, 0.65, 0.2)), (0.4, (0.85, 0.25, 0.15)), (1.0, (0.5, 0.05, 0.1)))


@dataclass(frozen=True)
class Strip:
    """What is shown."""

    shot_id: str
    path_key: bytes  # what tells the path apart from others
    frames: np.ndarray  # scene frames, whole. int64 [N]
    unseen: np.ndarray  # share of each picture. float64 [N]


_shown: Strip | None = None
_why_not = ""  # instead of a strip
_samples: tuple[tuple, PlateSamples] | None = None  # the background thread's
_handle = None


def look(scene) -> bool:
    """Read the camera's curves and, if they changed, estimate its coverage in the background; True if that began."""
    global _why_not, _shown
    state = scene.ex4d
    if not state.is_reconstructed or not state.use_coverage_strip or not shots.in_scene(scene, state.root):
        _shown, _why_not = None, ""
        return False
    count = scene.frame_end - scene.frame_start + 1
    frames = np.unique(np.linspace(scene.frame_start, scene.frame_end, min(count, MOST_FRAMES)).round()).astype(int)
    try:
        path = quiet_path(scene, frames.tolist())
        _why_not = ""
    except CameraPathError as error:
        _shown, _why_not = None, str(error)
        return False
    size = np.array([path.width, path.height])
    arrays = (frames, size, path.world_to_camera, path.intrinsics, path.source_frame)
    path_key = b"".join(array.tobytes() for array in arrays)
    if _shown is not None and (_shown.shot_id, _shown.path_key) == (state.shot_id, path_key):
        return False
    on_done = partial(_show, state.shot_id, path_key, frames)
    file = shots.shot_folder(scene) / "display.npz"
    session.call("Coverage strip", _estimate, file, path, on_done=on_done, is_quiet=True)
    return True


def _estimate(file, path):
    """Runs in the background thread."""
    global _samples
    key = file, file.stat().st_mtime_ns
    if _samples is None or _samples[0] != key:
        _samples = key, read_samples(file)
    return unseen_shares(_samples[1], path)


def _show(shot_id, path_key, frames, unseen):
    global _shown
    _shown = Strip(shot_id, path_key, frames, unseen)


def forget():
    """The shot is another one: what is known of it is old."""
    global _shown
    _shown = None
    touch()


def said(state) -> str:
    """Return what the strip shows, as a sentence; why there is none; or nothing yet."""
    if _why_not:
        return _why_not
    if _shown is None or _shown.shot_id != state.shot_id:
        return ""
    worst = int(_shown.unseen.argmax())
    mean, most, frame = _shown.unseen.mean(), _shown.unseen[worst], _shown.frames[worst]
    return f"About {mean:.0%} unseen" + (f", {most:.0%} on frame {frame}." if most >= 0.005 else ".")


def colour_of(share: float) -> tuple[float, float, float]:
    """Return the strip's colour for an unseen share."""
    stops, colours = zip(*COLOURS, strict=True)
    red, green, blue = (float(np.interp(share, stops, channel)) for channel in zip(*colours, strict=True))
    return red, green, blue


def spans(strip: Strip) -> list[tuple[float, float, float]]:
    """Return (first, end, unseen share) of what is shown, in scene frames without gaps."""
    middles = (strip.frames[1:] + strip.frames[:-1]) / 2
    edges = [strip.frames[0] - 0.5, *middles, strip.frames[-1] + 0.5]
    return list(zip(edges[:-1], edges[1:], strip.unseen, strict=True))


def _draw():
    """In every timeline and dope sheet."""
    import gpu  # not where no window is
    from gpu_extras.batch import batch_for_shader

    context = bpy.context
    state = context.scene.ex4d
    if _shown is None or not state.use_coverage_strip or _shown.shot_id != state.shot_id:
        return
    view, scale = context.region.view2d, context.preferences.system.ui_scale
    top = context.region.height - SCRUB_PX * scale
    places, colours = [], []
    for first, end, share in spans(_shown):
        left, right = (view.view_to_region(frame, 0, clip=False)[0] for frame in (first, end))
        corners = [(left, top), (right, top), (right, top - STRIP_PX * scale), (left, top - STRIP_PX * scale)]
        places += [corners[i] for i in (0, 1, 2, 0, 2, 3)]
        colours += [(*colour_of(share), 1.0)] * 6
    shader = gpu.shader.from_builtin("FLAT_COLOR")
    batch_for_shader(shader, "TRIS", {"pos": places, "color": colours}).draw(shader)


def touch():
    """Something changed: look again soon. Without a window no timer fires; a script looks itself."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=PAUSE_S)


def _tick():
    screen = bpy.context.screen
    if screen is not None and screen.is_animation_playing:
        return PAUSE_S
    if any(call.is_quiet for call in session.current.calls.values()):
        return PAUSE_S  # one at a time; the newest camera waits
    look(bpy.context.scene)
    return None


@persistent
def _on_change(scene, depsgraph):
    if any(
        isinstance(update.id, bpy.types.Object | bpy.types.Camera | bpy.types.Action | bpy.types.Scene)
        for update in depsgraph.updates
    ):
        touch()


@persistent
def _on_load(*_):
    forget()


@persistent
def _on_undo(*_):
    touch()


HANDLERS = {
    "depsgraph_update_post": _on_change,
    "undo_post": _on_undo,
    "redo_post": _on_undo,
    "load_post": _on_load,
}


def register():
    global _handle
    if bpy.app.background:  # handlers would hang some Blender modules at their exit, and nobody sees the strip
        return
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)
    _handle = bpy.types.SpaceDopeSheetEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister():
    global _handle, _samples
    _samples = None
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _handle is None:
        return
    bpy.types.SpaceDopeSheetEditor.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
