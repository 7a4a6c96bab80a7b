# SPDX-License-Identifier: Apache-2.0
"""The take folder: one camera path over a shot, with everything needed to make it again bit for bit.

take.json              settings, seed, versions, hashes of what it was made from
camera.npz             the path
color.mkv, mask.mkv    what the plate shows along it, lossless; mask 255 where it shows
result.mkv, .mp4       the re-shot plate, once an engine has painted it
depth/, clean.mkv      further passes, see ex4d/passes.py
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath, read_camera_path, write_camera_path
from ex4d.coverage import Coverage
from ex4d.document import Json, read_document, write_document
from ex4d.errors import CameraError, InputError, ShotError, StorageError, VideoError
from ex4d.progress import ProgressCallback
from ex4d.video import read_video, write_video

SCHEMA = 1
# A take's name is a folder's name on every system.
TAKE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESULTS = ("result.mkv", "result.mp4")
DEPTH_FOLDER, CLEAN, CLEAN_MASK = "depth", "clean.mkv", "clean_mask.mkv"


@dataclass(frozen=True)
class Take:
    """What a take was made of and with."""

    name: str
    raster: str  # rasteriser of the conditioning
    engine: str | None  # what painted the unseen part; None before that
    seed: int | None  # of the engine's every random choice
    coverage: Coverage
    hashes: dict[str, str]  # sha256 of what the take was made from, by name
    version: str  # of ex4d
    commercial_use: bool | None = None  # whether the licences of depth and engine allow paid work; None: unknown
    notices: tuple[str, ...] = ()  # of the rendering
    painting_notices: tuple[str, ...] = ()  # of the engine
    settings: dict[str, Json] = field(default_factory=dict)  # of the engine, resolved: what painting it again needs

    @property
    def all_notices(self) -> tuple[str, ...]:
        """What the artist must know about this take."""
        return (*self.notices, *self.painting_notices)


def take_folder(shot_folder: Path, name: str) -> Path:
    """The folder of a take.

    Raises:
        InputError: the name cannot be a folder's name.
    """
    if not TAKE_NAME.fullmatch(name) or name.endswith("."):
        raise InputError(
            "A take's name has 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first, "
            f"got '{name}'."
        )
    return shot_folder / "takes" / name


def write_take(shot_folder: Path, take: Take) -> None:
    """Write take.json.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    coverage = take.coverage
    content: dict[str, Any] = {
        "name": take.name,
        "raster": take.raster,
        "engine": take.engine,
        "seed": take.seed,
        "settings": take.settings,
        "unseen": {
            "mean": coverage.mean,
            "worst": coverage.worst,
            "worst_frame": coverage.worst_frame,
            "frames": list(coverage.unseen),
        },
        "parallax_deg": {"mean": coverage.mean_parallax_deg, "frames": list(coverage.parallax_deg)},
        "verdict": coverage.verdict,
        "hashes": take.hashes,
        "version": take.version,
        "commercial_use": take.commercial_use,
        "notices": list(take.all_notices),
        "painting_notices": list(take.painting_notices),
    }
    write_document(take_folder(shot_folder, take.name) / "take.json", SCHEMA, content)


def read_take(shot_folder: Path, name: str) -> Take:
    """Read take.json.

    Raises:
        ShotError: it is missing, damaged or of a newer version.
    """
    fields = read_document(take_folder(shot_folder, name) / "take.json", SCHEMA)
    coverage = Coverage(fields.inside("unseen").row("frames"), fields.inside("parallax_deg").row("frames"))
    engine, notices = fields.optional_text("engine"), fields.texts("notices")
    if fields.has("painting_notices"):
        painting_notices = fields.texts("painting_notices")
    else:  # before there were several engines, the only one had one notice, the last
        painting_notices = notices[-1:] if engine is not None else ()
    return Take(
        name=fields.text("name"),
        raster=fields.text("raster"),
        engine=engine,
        seed=fields.optional_integer("seed"),
        coverage=coverage,
        hashes=fields.text_map("hashes"),
        version=fields.text("version"),
        commercial_use=fields.optional_boolean("commercial_use") if fields.has("commercial_use") else None,
        notices=notices[: len(notices) - len(painting_notices)],
        painting_notices=painting_notices,
        settings=fields.json_object("settings") if fields.has("settings") else {},
    )


def write_take_clips(
    shot_folder: Path,
    take: Take,
    cameras: CameraPath,
    color: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    fps: Fraction,
    progress: ProgressCallback | None = None,
) -> None:
    """Write a new take: its path and its conditioning. An older take of that name loses its result first.

    Args:
        shot_folder: of the shot.
        take: what it is.
        cameras: its path.
        color: RGB, black where the plate does not show. [N, h, w, 3]
        mask: True where the plate shows. [N, h, w]
        fps: of the shot.
        progress: told after each frame.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    folder = take_folder(shot_folder, take.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("take.json", *RESULTS, CLEAN, CLEAN_MASK):
            (folder / stale).unlink(missing_ok=True)
        for stale_file in (folder / DEPTH_FOLDER).glob("depth.*"):
            stale_file.unlink()
    except OSError as error:
        raise StorageError(f"'{folder}' cannot be written: {error.strerror}. Close programs that use it.") from error
    write_camera_path(folder / "camera.npz", cameras)
    write_video(folder / "color.mkv", color, fps, "ffv1", progress)
    write_video(folder / "mask.mkv", mask.astype(np.uint8) * np.uint8(255), fps, "ffv1", progress)
    write_take(shot_folder, take)


def read_take_clips(
    shot_folder: Path, name: str, progress: ProgressCallback | None = None
) -> tuple[Take, CameraPath, NDArray[np.uint8], NDArray[np.bool_]]:
    """Read a take with its path and its conditioning.

    Returns:
        the take; its path; colour RGB [N, h, w, 3]; mask, True where the plate shows [N, h, w]

    Raises:
        ShotError: a file is missing, damaged, or does not fit the others; the message names it.
    """
    folder = take_folder(shot_folder, name)
    take = read_take(shot_folder, name)
    try:
        cameras = read_camera_path(folder / "camera.npz")
    except CameraError as error:
        raise ShotError(f"The take's camera.npz cannot be used. {error}") from error
    clips = []
    for file in ("color.mkv", "mask.mkv"):
        try:
            clips.append(read_video(folder / file, progress=progress).frames)
        except VideoError as error:
            raise ShotError(f"The take's {file} cannot be used. {error} Or render the take again.") from error
        expected = (len(cameras.world_to_camera), cameras.height, cameras.width)
        if clips[-1].shape[:3] != expected:
            raise ShotError(
                f"'{folder / file}' is [N, h, w] {list(clips[-1].shape[:3])}, camera.npz says {list(expected)}. "
                "Render the take again."
            )
    return take, cameras, clips[0], clips[1][..., 0] > 127
