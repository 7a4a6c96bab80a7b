# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered pictures on disk: which belong together, and all of them as one file to send. For the background thread.

A sequence travels as a plain zip of its used pictures, as they are. Blender's Python has nothing that could decode and
encode pictures off the main thread; a role for each file would have to fit into a request's header (64 KiB); and one
file has one checksum, so that the same pictures are not sent twice.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .errors import PlateError, ShotDataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr"}  # those of ex4d/picture.py
LAST_NUMBER = re.compile(r"(\d+)(?=\D*$)")
CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Pictures:
    """Numbered pictures without a gap; a still without a number counts as number 1."""

    first_file: Path
    first: int
    count: int


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture, and so perhaps one of a sequence."""
    return path.suffix.lower() in SUFFIXES


def digits_of(path: Path) -> str | None:
    """Return the number in a picture's name as it stands there."""
    digits = LAST_NUMBER.search(path.stem)
    return None if digits is None else digits[1]


def number_of(path: Path) -> int | None:
    """Return the number in a picture's name."""
    digits = digits_of(path)
    return None if digits is None else int(digits)


def name_parts(path: Path) -> tuple[str, str]:
    """Return what stands before and after the number in a picture's name."""
    digits = LAST_NUMBER.search(path.stem)
    return path.name[: digits.start()], path.name[digits.end() :]


def pattern_of(path: Path) -> Path:
    """Return what a sequence is called: plate.####.exr."""
    return path if number_of(path) is None else path.with_name("####".join(name_parts(path)))


def numbered(path: Path) -> dict[int, Path]:
    """Return all pictures of the sequence that a picture with a number in its name belongs to, by number."""
    before, after = name_parts(path)
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found = {}
    for file in sorted(path.parent.iterdir()):
        if match := name.fullmatch(file.name):
            found.setdefault(int(match[1]), file)
    return found


def sequence(path: Path, first: int | None = None, last: int | None = None) -> Pictures:
    """Return the sequence that a picture belongs to.

    Args:
        path: one of its pictures, or a still without a number.
        first, last: numbers of the first and last picture to use; None for the lowest and the highest.

    Raises:
        PlateError: a picture is missing; the message says which.
    """
    if number_of(path) is None:
        if not path.is_file():
            raise PlateError(f"There is no file {path}. Choose a movie or a picture of a sequence.")
        return Pictures(path, 1, 1)
    found = numbered(path) if path.parent.is_dir() else {}
    if not found:
        raise PlateError(f"There are no pictures {pattern_of(path)}. Put them back, or choose others.")
    first = min(found) if first is None else first
    last = max(found) if last is None else last
    missing = [number for number in range(first, last + 1) if number not in found]
    if missing:
        several = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PlateError(
            f"Frame {missing[0]}{several} of {pattern_of(path)} is missing. Copy or render it, or choose the frames "
            "before or after the gap by themselves."
        )
    return Pictures(found[first], first, last + 1 - first)


def pack(target: Path, path: Path, numbers: range) -> Path:
    """Write pictures of a sequence into one plain zip, the same bytes for the same pictures; return it.

    Args:
        target: the zip.
        path: one of the pictures, or a still without a number.
        numbers: of those to pack.

    Raises:
        ShotDataError: a picture is missing or cannot be read, or the zip cannot be written.
    """
    found = dict.fromkeys(numbers, path) if number_of(path) is None else numbered(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for number in numbers:
                if number not in found:
                    raise ShotDataError(f"Frame {number} of {pattern_of(path)} is gone. Put it back, then try again.")
                _add(archive, number, found[number])
        partial.replace(target)
    except OSError as error:
        raise ShotDataError(f"{target} cannot be written: {error.strerror}. Check the disk's room.") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _add(archive, number, file):
    try:
        with file.open("rb") as picture, archive.open(zipfile.ZipInfo(file.name), "w", force_zip64=True) as packed:
            while chunk := picture.read(CHUNK_BYTES):
                packed.write(chunk)
    except OSError as error:
        if error.filename is None:  # of writing
            raise
        raise ShotDataError(f"Frame {number}, {file}, cannot be read: {error.strerror}.") from error
