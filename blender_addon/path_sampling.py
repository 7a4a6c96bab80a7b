# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's camera, frame by frame, as a path of OpenCV cameras relative to the shot's Empty."""

import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import plate_time
from .cameras import Lens, NotRigidError, Picture, intrinsics_of, world_to_camera
from .errors import CameraPathError

SCENE_FILE = "scene.json"  # beside a take's camera.npz

CAMERA_KINDS = {"ORTHO": "orthographic", "PANO": "panoramic", "CUSTOM": "custom"}


@dataclass(frozen=True)
class SampledPath:
    """One pinhole camera per output frame, as camera.npz holds it."""

    world_to_camera: np.ndarray  # float64 [N, 4, 4], OpenCV, rigid, relative to the shot's Empty
    intrinsics: np.ndarray  # float64 [N, 3, 3], pixels from the picture's top left edge
    width: int
    height: int
    source_frame: np.ndarray  # float64 [N], index of the plate's frame that each output frame shows


def picture_of(scene):
    """Return the size of the scene's renders. Blender truncates after the percentage."""
    render = scene.render
    percent = render.resolution_percentage / 100
    return Picture(
        int(render.resolution_x * percent),
        int(render.resolution_y * percent),
        render.pixel_aspect_x,
        render.pixel_aspect_y,
    )


def lens_of_camera(camera):
    """Return the lens of a (preferably evaluated) camera object."""
    data = camera.data
    return Lens(data.lens, data.sensor_width, data.sensor_height, data.sensor_fit, data.shift_x, data.shift_y)


@contextmanager
def frame_restored(scene):
    """Put the scene back on its frame afterwards."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)


@contextmanager
def hidden(*objects):
    """Hide objects for a while: evaluating an animated mesh at every frame costs far more than a camera."""
    before = [(item, item.hide_viewport) for item in objects if item is not None]
    try:
        for item, _ in before:
            item.hide_viewport = True
        yield
    finally:
        for item, was_hidden in before:
            item.hide_viewport = was_hidden


def _camera_at(scene, depsgraph, root, frame, camera):
    """Return (world_to_camera, intrinsics) of a camera, or the scene's, at the frame the depsgraph stands on."""
    camera = camera or scene.camera  # a camera marker may just have changed it
    if camera is None:
        raise CameraPathError(f"The scene has no camera at frame {frame:g}. Make one the scene's camera.")
    evaluated = camera.evaluated_get(depsgraph)
    if camera.type != "CAMERA":
        raise CameraPathError(f"'{camera.name}', the camera at frame {frame:g}, is no camera. Choose one.")
    if evaluated.data.type != "PERSP":
        kind = CAMERA_KINDS.get(evaluated.data.type, evaluated.data.type.lower())
        raise CameraPathError(
            f"Camera '{camera.name}' is {kind} at frame {frame:g}. A plate can only be re-shot with a perspective "
            "camera: change the lens type to Perspective."
        )
    try:
        pose = world_to_camera(
            np.array(evaluated.matrix_world, dtype=np.float64),
            np.array(root.evaluated_get(depsgraph).matrix_world, dtype=np.float64),
        )
    except NotRigidError as error:
        raise CameraPathError(
            f"Camera '{camera.name}' cannot be used at frame {frame:g}: {error}. "
            "Check keyframes, drivers, constraints and the scale of its parents."
        ) from error
    intrinsics = intrinsics_of(lens_of_camera(evaluated), picture_of(scene))
    if not np.isfinite(intrinsics).all() or intrinsics[0, 0] <= 0:
        raise CameraPathError(
            f"Camera '{camera.name}' has no usable lens at frame {frame:g} (focal length {evaluated.data.lens:g} mm). "
            "Check its keyframes and drivers."
        )
    return pose, intrinsics


def sample_camera_path(
    context, root, frames: Iterable[float], plate_start: int, plate_frames: int, hide=(), camera=None
):
    """Sample the scene's camera at scene frames, which may lie between whole ones.

    Args:
        context: its scene and view layer are the ones sampled.
        root: the shot's Empty; the path is relative to it.
        frames: scene frames, one per output frame.
        plate_start: scene frame that shows the plate's first frame.
        plate_frames: length of the plate.
        hide: objects whose evaluation the cameras do not need.
        camera: the one to sample; None for the scene's, with its camera markers.

    Raises:
        CameraPathError: no camera, a camera that is no pinhole, NaN, or frames outside a plate that plays as filmed.
    """
    frames = list(frames)
    last = plate_start + plate_frames - 1
    outside = [frame for frame in frames if not plate_start <= frame <= last]
    if outside and plate_time.PROPERTY not in root:
        raise CameraPathError(
            f"The plate covers frames {plate_start} to {last}, but the scene's range reaches frame {outside[-1]:g}. "
            "Set the scene's start and end inside the plate, or key Plate Time."
        )
    scene = context.scene
    depsgraph = context.evaluated_depsgraph_get()
    poses, matrices, shown = [], [], []
    with hidden(*hide), frame_restored(scene):
        for frame in frames:
            scene.frame_set(int(frame // 1), subframe=frame % 1)
            pose, intrinsics = _camera_at(scene, depsgraph, root, frame, camera)
            poses.append(pose)
            matrices.append(intrinsics)
            retimed = plate_time.shown_frame(root.evaluated_get(depsgraph), plate_start, plate_frames)
            shown.append(frame - plate_start if retimed is None else retimed)
    picture = picture_of(scene)
    return SampledPath(
        np.array(poses),
        np.array(matrices),
        picture.width,
        picture.height,
        np.array(shown, dtype=np.float64),
    )


def write_path(folder: Path, sampled: SampledPath, frame_start: int) -> Path:
    """Write camera.npz, and beside it the scene frame of its first camera; return the path of camera.npz.

    The plate's frames do not tell it where the artist keyed their time.
    """
    path = write_camera_npz(folder / "camera.npz", sampled)
    (folder / SCENE_FILE).write_text(json.dumps({"frame_start": frame_start}), encoding="utf-8")
    return path


def write_camera_npz(path: Path, sampled: SampledPath) -> Path:
    """Write camera.npz whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            world_to_camera=sampled.world_to_camera,
            intrinsics=sampled.intrinsics,
            size=np.array([sampled.width, sampled.height], dtype=np.int64),
            source_frame=sampled.source_frame,
        )
    partial.replace(path)
    return path
