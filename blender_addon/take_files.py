# SPDX-License-Identifier: GPL-3.0-or-later
"""A take's folder as Blender reads it: all here runs in the background thread."""

import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import shots
from .errors import DAMAGED, ShotDataError
from .path_sampling import SCENE_FILE, SampledPath

RECORD = "take.json"
# Of a take's files those that are pictures: lossless, and every frame a key frame for quick scrubbing.
RESULT, DEPTH, DEPTH_ARCHIVE = "result.mkv", "depth", "depth.zip"
PASSES = {
    "RESULT": ("", RESULT),
    "MATTE": (" matte", "mask.mkv"),
    "MESH": (" mesh", "color.mkv"),
    "DEPTH": (" depth", DEPTH),
    "CLEAN": (" clean plate", "clean.mkv"),
}
"""What of a take can become a strip: how that strip is called after the take, and its file, or folder of pictures."""
ASKED_FOR = {
    "DEPTH": "Depth Pass",
    "CLEAN": "Clean Plate",
}  # by which setting those passes come that not all takes have


@dataclass(frozen=True)
class TakeOnDisk:
    """What the background thread read of a take."""

    folder: Path
    record: dict  # take.json
    path: SampledPath
    frame_start: int | None  # scene frame of the first picture; None for a take that was not sent from Blender
    parts: dict[str, tuple[str, ...]]  # of PASSES that are there: the names of numbered pictures, or none
    has_sound: bool
    farthest: float  # of the depth pass

    @property
    def frame_count(self):
        return len(self.path.source_frame)

    @property
    def first_source_frame(self):
        """The index of the plate's frame that the first picture shows."""
        return int(self.path.source_frame[0])

    def begin(self, state):
        """Return the scene frame of the first picture."""
        return state.plate_start + self.first_source_frame if self.frame_start is None else self.frame_start


def read_take(folder, *needed):
    """Read what Blender needs of a take.

    Args:
        needed: parts without which there is nothing to show.
    """
    try:
        record = shots.read_record(folder / RECORD)
        with (folder / "camera.npz").open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            size = (int(side) for side in file["size"])
            path = SampledPath(file["world_to_camera"], file["intrinsics"], *size, file["source_frame"])
        scene_file = folder / SCENE_FILE
        frame_start = json.loads(scene_file.read_text(encoding="utf-8"))["frame_start"] if scene_file.exists() else None
        if (folder / DEPTH_ARCHIVE).exists():
            unpack_depth(folder)
        parts = {part: _pictures(folder / file) for part, (_, file) in PASSES.items() if (folder / file).exists()}
        farthest = _farthest(folder / DEPTH) if "DEPTH" in parts else 0.0
    except DAMAGED as error:
        raise ShotDataError(f"{folder} holds no finished take ({error}). Render the take again.") from error
    for part in needed:
        if part not in parts:
            how = f"Tick {ASKED_FOR[part]} and duplicate the take" if part in ASKED_FOR else "Render the take again"
            raise ShotDataError(f"{folder} holds no {PASSES[part][1]}. {how}.")
    return TakeOnDisk(folder, record, path, frame_start, parts, has_sound(folder / RESULT), farthest)


def unpack_depth(folder):
    """Bring the depth's pictures out of the file in which they came; at once or not at all."""
    arriving = folder / f"{DEPTH}.partial"
    shutil.rmtree(arriving, ignore_errors=True)
    with zipfile.ZipFile(folder / DEPTH_ARCHIVE) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"depth/depth[.](json|[0-9]+[.]exr)", name):
                archive.extract(name, arriving)
    shutil.rmtree(folder / DEPTH, ignore_errors=True)
    (arriving / DEPTH).rename(folder / DEPTH)
    arriving.rmdir()
    (folder / DEPTH_ARCHIVE).unlink()


def _pictures(path):
    return tuple(sorted(file.name for file in path.glob("*.exr"))) if path.is_dir() else ()


def _farthest(folder):
    return float(json.loads((folder / "depth.json").read_text(encoding="utf-8"))["farthest"])


def has_sound(path) -> bool:
    """Tell whether a movie has sound that Blender reads."""
    try:
        import aud
    except ImportError:  # a Blender that was built without sound
        return False
    try:
        return aud.Sound.file(str(path)).specs[1] > 0
    except aud.error:
        return False


def size_and_length(camera_file):
    """Return width, height and number of the pictures along a path."""
    with camera_file.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        width, height = (int(side) for side in file["size"])
        return width, height, len(file["source_frame"])
