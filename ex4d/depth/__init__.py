# SPDX-License-Identifier: Apache-2.0
"""Where the depth of a plate comes from. A new source is one file here and one line in `SOURCES`."""

from collections.abc import Callable
from pathlib import Path

from ex4d.depth.clip import DepthClip, DepthSource, DepthUnit
from ex4d.depth.file import DEPTH_KINDS, DepthKind, FileDepth
from ex4d.depth.preview import PreviewDepth
from ex4d.errors import DepthError

__all__ = [
    "DEPTH_KINDS",
    "SOURCES",
    "DepthClip",
    "DepthKind",
    "DepthSource",
    "DepthUnit",
    "best_source",
    "depth_source",
]


def _from_file(depth_file: Path | None, depth_kind: DepthKind, focal_px: float | None) -> DepthSource:
    if depth_file is None:
        raise DepthError("The depth source 'file' needs a file: give --depth-file.")
    return FileDepth(depth_file, depth_kind, focal_px)


def _preview(depth_file: Path | None, depth_kind: DepthKind, focal_px: float | None) -> DepthSource:
    if depth_file is not None:
        raise DepthError(f"The depth source 'preview' reads no file, but '{depth_file}' was given. Choose 'file'.")
    return PreviewDepth()


SOURCES: dict[str, Callable[[Path | None, DepthKind, float | None], DepthSource]] = {
    "file": _from_file,
    "preview": _preview,
}


def depth_source(
    name: str, *, depth_file: Path | None = None, depth_kind: DepthKind = "z", focal_px: float | None = None
) -> DepthSource:
    """Make a depth source by name.

    Args:
        name: one of `SOURCES`.
        depth_file: what "file" reads.
        depth_kind: what that file holds.
        focal_px: focal length of the plate in pixels, None when unknown.

    Raises:
        DepthError: no such source, or it cannot be made of these arguments.
    """
    if name not in SOURCES:
        raise DepthError(f"There is no depth source '{name}'. Choose one of {', '.join(SOURCES)}.")
    if depth_kind not in DEPTH_KINDS:
        raise DepthError(f"The kind of a depth file is one of {', '.join(DEPTH_KINDS)}, got '{depth_kind}'.")
    return SOURCES[name](depth_file, depth_kind, focal_px)


def best_source() -> str:
    """The best source that needs no file on this machine."""
    return "preview"
