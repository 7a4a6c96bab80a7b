# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files on disk are the depth that the artist chose."""

from pathlib import Path

from .errors import ShotDataError
from .picture_files import digits_of, name_parts, numbered

PICTURE_SUFFIXES = {".exr", ".png"}
LONGEST_SEQUENCE = 300  # files in one job: each takes up to 200 bytes of a request's header (64 KiB)


def depth_inputs(path: Path, plate_frames: int) -> dict[str, Path]:
    """Return the input files of a depth by role.

    A picture with a number in its name stands for its whole sequence: roles depth-<number>. Any other file has the
    role depth. What says what the numbers mean is depth.json: beside the file, or beside the sequence under its name.

    Args:
        path: an existing file.
        plate_frames: a single picture is enough for a plate of one frame.

    Raises:
        ShotDataError: the file is no depth, or its sequence is too long for one job.
    """
    if path.suffix.lower() == ".json":
        raise ShotDataError(f"{path.name} only says what the numbers mean: choose the depth file beside it.")
    if path.suffix.lower() not in PICTURE_SUFFIXES or digits_of(path) is None or plate_frames == 1:
        return {"depth": path, **_side_file(path.with_suffix(".json"))}
    found = numbered(path)
    if len(found) > LONGEST_SEQUENCE:
        raise ShotDataError(
            f"{path.name} belongs to {len(found)} files, a job takes {LONGEST_SEQUENCE}. Move the files of the plate's "
            f"{plate_frames} frames into a folder of their own, or save them as one 16-bit .mkv or .npz."
        )
    shared_name = name_parts(path)[0].rstrip("._-") or "depth"
    side = _side_file(path.with_suffix(".json")) or _side_file(path.with_name(f"{shared_name}.json"))
    return {**{f"depth-{digits_of(file)}": file for file in found.values()}, **side}


def _side_file(path: Path) -> dict[str, Path]:
    return {"depth.json": path} if path.is_file() else {}
