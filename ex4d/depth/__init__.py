# SPDX-License-Identifier: Apache-2.0
"""Where the depth of a plate comes from. A new source is one file here and one line in `SOURCES`."""

from collections.abc import Callable
from dataclasses import dataclass

from ex4d.depth.blender import BLENDER_OPTIONS, BlenderDepth
from ex4d.depth.clip import (
    DEPTH_KINDS,
    DepthClip,
    DepthKind,
    DepthSource,
    DepthUnit,
    DisparityClip,
    SourceOptions,
)
from ex4d.depth.depthcrafter import DEPTHCRAFTER_OPTIONS, DepthCrafterDepth
from ex4d.depth.file import FILE_OPTIONS, FileDepth
from ex4d.depth.preview import PREVIEW_OPTIONS, PreviewDepth
from ex4d.depth.tracked import TRACKED_OPTIONS, TrackedDepth
from ex4d.depth.transformer_models import TRANSFORMERS_OPTIONS, TransformersDepth
from ex4d.errors import DepthError

__all__ = [
    "DEPTH_KINDS",
    "SOURCES",
    "DepthClip",
    "DepthKind",
    "DepthSource",
    "DepthUnit",
    "DisparityClip",
    "SourceInfo",
    "SourceOptions",
    "best_source",
    "depth_source",
]


@dataclass(frozen=True)
class SourceInfo:
    """One entry of the registry."""

    make: Callable[[SourceOptions], DepthSource]  # quick: weights load in `estimate`
    options: tuple[str, ...] = ()  # keys of --depth-option that it takes
    needs_file: bool = False


SOURCES: dict[str, SourceInfo] = {
    "file": SourceInfo(FileDepth.made_of, FILE_OPTIONS, needs_file=True),
    "blender": SourceInfo(BlenderDepth.made_of, BLENDER_OPTIONS, needs_file=True),
    "tracked": SourceInfo(lambda options: TrackedDepth.made_of(options, depth_source), TRACKED_OPTIONS),
    "depthcrafter": SourceInfo(DepthCrafterDepth.made_of, DEPTHCRAFTER_OPTIONS),
    "transformers": SourceInfo(TransformersDepth.made_of, TRANSFORMERS_OPTIONS),
    "preview": SourceInfo(PreviewDepth.made_of, PREVIEW_OPTIONS),
}


def depth_source(name: str, options: SourceOptions | None = None) -> DepthSource:
    """Make a depth source by name.

    Raises:
        DepthError: no such source, or it cannot be made of these options.
    """
    options = options or SourceOptions()
    if name not in SOURCES:
        raise DepthError(f"There is no depth source '{name}'. Choose one of {', '.join(SOURCES)}.")
    info = SOURCES[name]
    if options.depth_kind not in DEPTH_KINDS:
        raise DepthError(f"The kind of a depth file is one of {', '.join(DEPTH_KINDS)}, got '{options.depth_kind}'.")
    if info.needs_file and options.depth_file is None:
        raise DepthError(f"The depth source '{name}' needs a file: give --depth-file.")
    if not info.needs_file and options.depth_file is not None:
        raise DepthError(
            f"The depth source '{name}' reads no file, but '{options.depth_file}' was given. Choose 'file'."
        )
    unknown = [key for key in options.values if key not in info.options]
    if unknown:
        known = f"it takes {', '.join(info.options)}" if info.options else "it takes none"
        raise DepthError(f"The depth source '{name}' has no option {', '.join(unknown)}: {known}.")
    return info.make(options)


def best_source() -> str:
    """The best source that needs no file on this machine."""
    return "preview"
