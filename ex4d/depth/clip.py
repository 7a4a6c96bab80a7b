# SPDX-License-Identifier: Apache-2.0
"""What every depth source delivers, and the checks that make an array a depth clip."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ex4d.document import Json
from ex4d.errors import DepthError
from ex4d.progress import ProgressCallback
from ex4d.source_camera import SourceCameras
from ex4d.video import Clip

DepthUnit = Literal["metric", "relative", "reference"]
DepthKind = Literal["z", "ray", "disparity", "inverse"]
DEPTH_KINDS: tuple[DepthKind, ...] = get_args(DepthKind)
"""z: along the camera's axis. ray: along each pixel's ray. inverse: 1/z. disparity: larger is nearer, no scale."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where depth comes from, what may be done with it, and what came with it."""

    source: str  # what made it, as shown to the artist
    licence: str
    commercial_use: bool | None  # whether that licence allows paid work; None when only its maker knows
    licence_accepted: bool = False  # whether the artist accepted a licence that forbids it
    focal_px: float | None = None  # focal length that belongs to this depth, None when the source does not know
    sky: NDArray[np.bool_] | None = None  # [T, H, W]
    valid: NDArray[np.bool_] | None = None  # [T, H, W]
    parameters: dict[str, Json] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DepthClip(Origin):
    """The depth of a clip."""

    depth: NDArray[np.float32]  # z-depth in shot units, finite, > 0. [T, H, W]
    kind: DepthUnit  # true units; right up to scale and offset only; or the release's own rule


@dataclass(frozen=True, kw_only=True)
class DisparityClip(Origin):
    """What a source without scale says: larger is nearer, one unknown scale and offset for the whole clip.

    `ex4d.depth.normalise` brings it to z.
    """

    disparity: NDArray[np.float32]  # finite, any range. [T, H, W]


@dataclass(frozen=True)
class SourceOptions:
    """What a source may be made of; each uses what it needs and refuses what it cannot use."""

    depth_file: Path | None = None
    depth_kind: DepthKind = "z"  # what that file holds
    focal_px: float | None = None  # focal length of the plate in pixels, None when unknown
    cameras: SourceCameras | None = None  # the plate's own camera, when it was solved or given
    values: Mapping[str, str] = field(default_factory=dict)  # --depth-option KEY=VALUE, those of `SourceInfo.options`


class DepthSource(Protocol):
    """Turns the frames of a clip into their depth."""

    name: str  # in the registry and on the command line

    @property
    def label(self) -> str:
        """In the panel."""

    @property
    def licence(self) -> str:
        """Of the depth that comes out."""

    @property
    def commercial_use(self) -> bool | None:
        """Whether the licence allows paid work; None when only the maker of the depth knows.

        False makes `reconstruct` ask for an explicit accept before anything is loaded.
        """

    @property
    def cache_key(self) -> dict[str, Json] | None:
        """Everything beside the clip and the code that decides the outcome; None when reading it again is as fast."""

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip | DisparityClip:
        """Find the depth of every frame.

        Raises:
            DepthError: no depth that fits the clip can be had; the message says why.
        """


def check_size(shape: tuple[int, ...], clip_shape: tuple[int, ...], name: str) -> None:
    """Refuse depth whose frames or size are not the plate's.

    Args:
        shape: of the depth, (T, H, W).
        clip_shape: of the plate's frames, (T, H, W, ...).
        name: of the file, for the message.
    """
    if len(shape) != 3:
        raise DepthError(f"Depth must be [T, H, W], '{name}' holds {list(shape)}. Save one number per pixel and frame.")
    if shape[1:] != clip_shape[1:3]:
        raise DepthError(
            f"'{name}' is {shape[2]} x {shape[1]} pixels, the plate {clip_shape[2]} x {clip_shape[1]}. "
            "Render the depth at the plate's size, or have it resized (--depth-option resize=yes)."
        )
    if shape[0] != clip_shape[0]:
        raise DepthError(
            f"'{name}' has {shape[0]} frames, the plate has {clip_shape[0]}. "
            "Give depth for exactly the frames used, or choose the frames with --frames."
        )


def check_values(values: NDArray[Any], name: str, positive: bool = True) -> None:
    """Refuse numbers that are no depth; nothing is repaired.

    Args:
        values: [T, H, W].
        name: of the file, for the message.
        positive: also refuse zeros and negatives.
    """
    faults: dict[str, Callable[[NDArray[Any]], Any]] = {"NaN": np.isnan, "infinite": np.isinf}
    if positive:
        faults |= {"zero": lambda v: v == 0, "negative": lambda v: v < 0}
    found, first = [], None
    for fault, test in faults.items():
        counts = np.array([np.count_nonzero(test(frame)) for frame in values])
        if counts.any():
            found.append(f"{counts.sum()} {fault}")
            frame = int(np.flatnonzero(counts)[0])
            row, column = (int(i) for i in np.argwhere(test(values[frame]))[0])
            first = min(first, (frame, row, column)) if first else (frame, row, column)
    if first is not None:
        frame, row, column = first
        raise DepthError(
            f"'{name}' holds values that are no depth: {', '.join(found)} of {values.size}; the first in frame {frame} "
            f"at column {column}, row {row}. Give every pixel a finite depth above zero (the sky a far one)."
        )
