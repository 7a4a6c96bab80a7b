# SPDX-License-Identifier: GPL-3.0-or-later
"""A strip in the timeline that shows, while the camera is edited, how much of each picture a take would have to paint.

What it shows is neither saved nor undone: after each change of the scene the camera's curves are read anew.
"""

import time
from dataclasses import dataclass
from functools import partial

import bpy
import numpy as np
from bpy.app.handlers import persistent

from . import coverage_drawing, session, shots
from .coverage_estimate import PlateSamples, read_samples, unseen_shares
from .errors import CameraPathError
from .path_sampling import SampledPath
from .quiet_path import quiet_path

TITLE = "Coverage strip"
MOST_FRAMES = 33  # that are looked at; those between them lie between them
PAUSE_S = 0.2  # between two looks at a camera that is being moved
READ_S = 0.004  # of the main thread in one go, for the camera's curves
READ_FRAMES = 6  # at least, however slow the machine is just now
NEXT_S = 0.01  # until it goes on


@dataclass(frozen=True)
class Strip:
    """What is shown."""

    shot_id: str
    path_key: bytes  # what tells the path apart from others
    frames: np.ndarray  # scene frames, whole. int64 [N]
    unseen: np.ndarray  # share of each picture. float64 [N]


class Reading:
    """The camera's curves on their way, a few frames at a time: a look at all of them would hold Blender up."""

    def __init__(self, scene):
        count = scene.frame_end - scene.frame_start + 1
        wanted = np.linspace(scene.frame_start, scene.frame_end, max(0, min(count, MOST_FRAMES)))
        self.shot_id = scene.ex4d.shot_id
        self.frames = np.unique(wanted.round()).astype(int)
        self._parts: list[SampledPath] = []

    def advance(self, scene, budget_s) -> SampledPath | None:
        """Read for a while; return the path when it is whole.

        Raises:
            CameraPathError: curves alone do not tell this camera's path.
        """
        deadline = time.monotonic() + budget_s
        while (done := READ_FRAMES * len(self._parts)) < len(self.frames):
            self._parts.append(quiet_path(scene, self.frames[done : done + READ_FRAMES].tolist()))
            if time.monotonic() >= deadline:
                break
        if READ_FRAMES * len(self._parts) < len(self.frames):
            return None
        arrays = ("world_to_camera", "intrinsics", "source_frame")
        joined = (np.concatenate([getattr(part, name) for part in self._parts]) for name in arrays)
        poses, intrinsics, shown = joined
        return SampledPath(poses, intrinsics, self._parts[0].width, self._parts[0].height, shown)


_shown: Strip | None = None
_why_not = ""  # instead of a strip
_samples: tuple[tuple, PlateSamples] | None = None  # the background thread's
_reading: Reading | None = None
_is_stale = False  # something changed while it was read
_handle = None


def look(scene) -> bool:
    """Read the camera's curves and, if they changed, estimate its coverage in the background; True if that began."""
    reading = _begin(scene)
    return reading is not None and _advance(scene, reading, float("inf")) is True


def _begin(scene) -> Reading | None:
    """Return what is to be read, if anything."""
    global _why_not, _shown
    state = scene.ex4d
    if not state.is_reconstructed or not state.use_coverage_strip or not shots.in_scene(scene, state.root):
        _shown, _why_not = None, ""
        return None
    reading = Reading(scene)
    return reading if len(reading.frames) else None


def _advance(scene, reading, budget_s) -> bool | None:
    """Read on; None while there is more to read, then whether an estimate began."""
    global _why_not, _shown
    try:
        path = reading.advance(scene, budget_s)
        _why_not = ""
    except CameraPathError as error:
        _shown, _why_not = None, str(error)
        return False
    if path is None:
        return None
    size = np.array([path.width, path.height])
    arrays = (reading.frames, size, path.world_to_camera, path.intrinsics, path.source_frame)
    path_key = b"".join(array.tobytes() for array in arrays)
    if _shown is not None and (_shown.shot_id, _shown.path_key) == (reading.shot_id, path_key):
        return False
    on_done = partial(_show, reading.shot_id, path_key, reading.frames)
    file = shots.shot_folder(scene) / "display.npz"
    session.call(TITLE, _estimate, file, path, on_done=on_done, is_quiet=True)
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


def touch():
    """Something changed: look again soon. Without a window no timer fires; a script looks itself."""
    global _is_stale
    _is_stale = True
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=PAUSE_S)


def _tick():
    """Read on a little; return the seconds until the next time, None when nothing is left to do."""
    global _reading, _is_stale
    screen, scene = bpy.context.screen, bpy.context.scene
    if screen is not None and screen.is_animation_playing:
        return PAUSE_S
    if any(call.title == TITLE for call in session.current.calls.values()):
        return PAUSE_S  # one at a time; the newest camera waits
    if _reading is None or _reading.shot_id != scene.ex4d.shot_id:
        _reading, _is_stale = _begin(scene), False
    if _reading is not None and _advance(scene, _reading, READ_S) is None:
        return NEXT_S
    _reading = None
    return PAUSE_S if _is_stale else None


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


def _draw():
    """In every timeline and dope sheet."""
    state = bpy.context.scene.ex4d
    if _shown is not None and state.use_coverage_strip and _shown.shot_id == state.shot_id:
        coverage_drawing.draw(_shown)


def register():
    global _handle
    if bpy.app.background:  # handlers would hang some Blender modules at their exit, and nobody sees the strip
        return
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)
    _handle = bpy.types.SpaceDopeSheetEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister():
    global _handle, _samples, _reading
    _samples = _reading = None
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _handle is None:
        return
    bpy.types.SpaceDopeSheetEditor.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
