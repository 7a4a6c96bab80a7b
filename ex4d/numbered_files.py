# SPDX-License-Identifier: Apache-2.0
"""Numbered files: which of a folder belong together, as plate.0001.exr and plate.0002.exr do."""

import re
from pathlib import Path

PATTERN = re.compile(r"#+|%0?\d*d")  # plate.####.exr, plate.%04d.exr
LAST_NUMBER = re.compile(r"(\d+)(?=\D*$)")


def name_parts(name: str) -> tuple[str, str] | None:
    """What stands before and after the number in a file's name or a pattern; None where there is no number."""
    place = PATTERN.search(name)
    if place is None:
        place = LAST_NUMBER.search(Path(name).stem)
    return None if place is None else (name[: place.start()], name[place.end() :])


def numbered_files(path: Path) -> dict[int, Path]:
    """The files of a numbered sequence by their number; empty when there are none.

    Args:
        path: a pattern, or one file of the sequence.
    """
    parts = name_parts(path.name)
    if parts is None or not path.parent.is_dir():
        return {}
    before, after = parts
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found: dict[int, Path] = {}
    for file in sorted(path.parent.iterdir()):
        match = name.fullmatch(file.name)
        if match is not None:
            found.setdefault(int(match[1]), file)
    return dict(sorted(found.items())) if is_pattern(path) or path in found.values() else {}


def is_pattern(path: Path) -> bool:
    """Whether a name stands for all files of a sequence."""
    return PATTERN.search(path.name) is not None


def shared_name(path: Path) -> str:
    """The name that the files of a sequence share: depth of depth.0001.exr; empty when they share none."""
    parts = name_parts(path.name)
    return (path.stem if parts is None else parts[0]).rstrip("._-")
