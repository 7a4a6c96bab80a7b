# SPDX-License-Identifier: Apache-2.0
"""The shot folder: one plate with its reconstruction, as files that every part of EX-4D reads.

shot.json    what the plate is, its lens, where its depth comes from, and what the artist was told
plate.mkv    the frames used and their sound, lossless
depth.npz    their z-depth, optionally the sky, the valid pixels and where the plate's own camera stood
takes/       one folder per take, see `takes.py`
"""

import platform
import zipfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ex4d
from ex4d.audio import Audio, read_audio
from ex4d.camera import CONVENTIONS, Convention, check_intrinsics, check_world_to_camera
from ex4d.depth import DepthClip, DepthUnit
from ex4d.depth.clip import check_size, check_values
from ex4d.document import Fields, Json, read_document, write_document
from ex4d.errors import CameraError, DepthError, ShapeError, ShotError, VideoError
from ex4d.progress import ProgressCallback
from ex4d.source_camera import SourceCameras
from ex4d.storage import replacing
from ex4d.takes import Take, read_take, read_take_clips, take_folder, write_take, write_take_clips
from ex4d.video import Clip, read_video, write_video

__all__ = [
    "DepthInfo",
    "PlateInfo",
    "Shot",
    "Take",
    "read_shot",
    "read_take",
    "read_take_clips",
    "shot_from",
    "take_folder",
    "write_shot",
    "write_take",
    "write_take_clips",
]

SCHEMA = 1
DEPTH_UNITS: tuple[DepthUnit, ...] = ("metric", "relative", "reference")


@dataclass(frozen=True)
class PlateInfo:
    """Where the frames come from."""

    path: str  # of the file as it was read
    sha256: str  # of that file
    first_frame: int  # index of the shot's frame 0 in that file, 0-based
    timecode: str | None  # of that file's own first frame
    first_number: int | None = None  # of the shot's frame 0 when the plate is numbered pictures
    lens_distortion: str | None = None  # of the file's pictures, undone in the shot's: see ex4d.distortion


@dataclass(frozen=True)
class DepthInfo:
    """Where the depth comes from and what its licence allows."""

    source: str
    licence: str
    commercial_use: bool | None  # None: unknown
    kind: DepthUnit
    focal_px: float | None  # what the source said about the lens
    parameters: dict[str, Json]
    licence_accepted: bool = False  # whether the artist accepted a licence that forbids paid work


@dataclass(frozen=True, eq=False)
class Shot:
    """One plate with its reconstruction."""

    frames: NDArray[np.uint8]  # RGB. [T, H, W, 3]
    fps: Fraction
    depth: NDArray[np.float32]  # z-depth, shot units, finite, > 0. [T, H, W]
    intrinsics: NDArray[np.float64]  # of the plate's camera, pixels from the picture's edge. [3, 3]
    convention: Convention
    plate: PlateInfo
    depth_info: DepthInfo
    sky: NDArray[np.bool_] | None = None  # [T, H, W]
    valid: NDArray[np.bool_] | None = None  # [T, H, W]
    notices: tuple[str, ...] = ()  # what was changed or assumed on the way, for the artist
    # Of a plate whose camera moves: OpenCV camera of each frame to the shot's world, shot units. [T, 4, 4]
    # None: the plate's camera stands still, and its frame is the world.
    source_camera_to_world: NDArray[np.float64] | None = None
    audio: Audio | None = None  # the plate's sound during its frames


def shot_from(
    clip: Clip,
    depth: DepthClip,
    intrinsics: NDArray[np.float64],
    convention: Convention,
    notices: tuple[str, ...] = (),
    cameras: SourceCameras | None = None,
    audio: Audio | None = None,
) -> Shot:
    """Join a clip and its depth.

    Args:
        clip: the plate's frames.
        depth: of the same frames; its notices are kept after the given ones.
        intrinsics: of the plate's camera, pixels. [3, 3]
        convention: pixel convention of the shot.
        notices: of the steps before.
        cameras: of the plate, when it moves and was solved or given.
        audio: of the clip's frames.
    """
    if cameras is not None and depth.kind != "metric":
        slide = "The plate's camera was given, but the depth does not know its unit, so that still things may slide."
        notices += (f"{slide} Give tracked points or measured distances.",)
    return Shot(
        frames=clip.frames,
        fps=clip.fps,
        depth=depth.depth,
        intrinsics=intrinsics,
        convention=convention,
        plate=PlateInfo(
            str(clip.path), clip.sha256, clip.first_frame, clip.timecode, clip.first_number, clip.lens_distortion
        ),
        depth_info=DepthInfo(
            depth.source,
            depth.licence,
            depth.commercial_use,
            depth.kind,
            depth.focal_px,
            depth.parameters,
            depth.licence_accepted,
        ),
        sky=depth.sky,
        valid=depth.valid,
        notices=(*notices, *depth.notices),
        source_camera_to_world=None if cameras is None else cameras.camera_to_world,
        audio=audio,
    )


def write_shot(folder: Path, shot: Shot, progress: ProgressCallback | None = None) -> None:
    """Write a shot folder; shot.json last, so that a folder with it is whole.

    Raises:
        ShapeError: frames and depth do not belong together.
        StorageError: the disk is full or refuses to be written.
    """
    count, height, width = shot.depth.shape
    if shot.frames.shape != (count, height, width, 3):
        raise ShapeError(f"Frames {list(shot.frames.shape)} do not fit depth {list(shot.depth.shape)}.")
    write_video(folder / "plate.mkv", shot.frames, shot.fps, "ffv1", progress, audio=shot.audio)
    arrays: dict[str, NDArray[Any]] = {"depth": shot.depth}
    arrays |= {name: layer for name, layer in (("sky", shot.sky), ("valid", shot.valid)) if layer is not None}
    if shot.source_camera_to_world is not None:
        arrays["source_camera_to_world"] = shot.source_camera_to_world
    with replacing(folder / "depth.npz") as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    info = shot.depth_info
    content = {
        "plate": {
            "path": shot.plate.path,
            "sha256": shot.plate.sha256,
            "first_frame": shot.plate.first_frame,
            "first_number": shot.plate.first_number,
            "lens_distortion": shot.plate.lens_distortion,
            "timecode": shot.plate.timecode,
            "frame_count": count,
            "width": width,
            "height": height,
            "fps": f"{shot.fps.numerator}/{shot.fps.denominator}",
        },
        "intrinsics": shot.intrinsics.tolist(),
        "convention": shot.convention,
        "depth": {
            "source": info.source,
            "licence": info.licence,
            "commercial_use": info.commercial_use,
            "licence_accepted": info.licence_accepted,
            "kind": info.kind,
            "focal_px": info.focal_px,
            "parameters": info.parameters,
        },
        "notices": list(shot.notices),
        "made_with": {"ex4d": ex4d.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    write_document(folder / "shot.json", SCHEMA, content)


def read_shot(folder: Path, progress: ProgressCallback | None = None) -> Shot:
    """Read a shot folder.

    Raises:
        ShotError: a file is missing, damaged or of a newer version; the message names the file.
    """
    fields = read_document(folder / "shot.json", SCHEMA)
    plate, info = fields.inside("plate"), fields.inside("depth")
    shape = (plate.integer("frame_count"), plate.integer("height"), plate.integer("width"))
    try:
        clip = read_video(folder / "plate.mkv", progress=progress)
        audio = read_audio(folder / "plate.mkv", 0, len(clip.frames), clip.fps)
    except VideoError as error:
        raise ShotError(f"The shot's plate.mkv cannot be used. {error} Or reconstruct the shot again.") from error
    if clip.frames.shape[:3] != shape:
        raise ShotError(
            f"'{folder / 'plate.mkv'}' is [T, H, W] {list(clip.frames.shape[:3])}, shot.json says {list(shape)}. "
            "Reconstruct the shot again."
        )
    depth, sky, valid, poses = _read_depth(folder / "depth.npz", shape)
    return Shot(
        frames=clip.frames,
        fps=_fps(plate, folder),
        depth=depth,
        intrinsics=_intrinsics(fields, folder),
        convention=fields.choice("convention", CONVENTIONS),
        plate=PlateInfo(
            plate.text("path"),
            plate.text("sha256"),
            plate.integer("first_frame"),
            plate.optional_text("timecode"),
            plate.optional_integer("first_number") if plate.has("first_number") else None,
            plate.optional_text("lens_distortion") if plate.has("lens_distortion") else None,
        ),
        depth_info=DepthInfo(
            source=info.text("source"),
            licence=info.text("licence"),
            commercial_use=info.optional_boolean("commercial_use"),
            kind=info.choice("kind", DEPTH_UNITS),
            focal_px=info.optional_number("focal_px"),
            parameters=info.json_object("parameters"),
            licence_accepted=info.has("licence_accepted") and info.boolean("licence_accepted"),
        ),
        sky=sky,
        valid=valid,
        notices=fields.texts("notices"),
        source_camera_to_world=poses,
        audio=audio,
    )


def _fps(plate: Fields, folder: Path) -> Fraction:
    text = plate.text("fps")
    try:
        fps = Fraction(text)
        if fps > 0:
            return fps
    except (ValueError, ZeroDivisionError):
        pass
    raise ShotError(f"'{folder / 'shot.json'}': plate.fps must be a fraction such as 24000/1001, got '{text}'.")


def _intrinsics(fields: Fields, folder: Path) -> NDArray[np.float64]:
    matrix = np.array(fields.numbers("intrinsics", (3, 3)), dtype=np.float64)
    try:
        check_intrinsics(matrix)
    except CameraError as error:
        raise ShotError(f"'{folder / 'shot.json'}': {error}") from error
    return matrix


def _read_depth(
    path: Path, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, NDArray[np.bool_] | None, NDArray[np.float64] | None]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            depth = arrays["depth"]
            layers = {name: arrays[name] for name in ("sky", "valid") if name in arrays}
            poses = arrays.get("source_camera_to_world")
    except FileNotFoundError as error:
        raise ShotError(f"'{path}' is missing. Reconstruct the shot again.") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ShotError(f"'{path}' is damaged: {error}. Reconstruct the shot again.") from error
    if depth.dtype not in (np.float32, np.float16):
        raise ShotError(f"'{path}': depth must be float32 or float16, got {depth.dtype}. Reconstruct the shot again.")
    try:
        check_size(depth.shape, shape, path.name)
        check_values(depth, path.name)
    except DepthError as error:
        raise ShotError(f"The shot's depth.npz cannot be used. {error}") from error
    for name, layer in layers.items():
        if layer.dtype != np.bool_ or layer.shape != shape:
            raise ShotError(f"'{path}': {name} must be bool {list(shape)}, got {layer.dtype} {list(layer.shape)}.")
    if poses is not None:
        _check_poses(path, poses, shape[0])
    return depth.astype(np.float32), layers.get("sky"), layers.get("valid"), poses


def _check_poses(path: Path, poses: NDArray[Any], count: int) -> None:
    if poses.shape != (count, 4, 4) or poses.dtype != np.float64:
        raise ShotError(
            f"'{path}': source_camera_to_world must be float64 {[count, 4, 4]}, got {poses.dtype} {list(poses.shape)}."
        )
    try:
        for frame, pose in enumerate(poses):
            check_world_to_camera(pose, f"source_camera_to_world, frame {frame}")
    except CameraError as error:
        raise ShotError(f"'{path}': {error}") from error
