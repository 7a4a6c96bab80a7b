# SPDX-License-Identifier: Apache-2.0
"""Takes of any length in windows that the model can paint: 4n + 1 frames, at most 81.

Each window after the first starts from frames that the one before it has painted, and is cross-faded with them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import Array

TUNED_FRAMES = 49  # EX-4D release: what the adapter was tuned for; a shorter take is padded up to it
MOST_FRAMES = 81  # Wan2.1's own length
OVERLAP = 9  # frames that two windows share at least: 3 latent frames

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Span:
    """One window over the frames."""

    start: int
    count: int  # 4n + 1
    overlap: int  # how many of its first frames the window before it has painted


def spans(count: int, shortest: int = TUNED_FRAMES, longest: int = MOST_FRAMES, overlap: int = OVERLAP) -> list[Span]:
    """Part a number of frames into as few windows as possible, all of one length.

    Args:
        count: frames to paint.
        shortest, longest: of a window, 4n + 1.
        overlap: that two windows share at least.

    Returns:
        Windows which together cover at least `count` frames; only a single one may reach beyond them.
    """
    if count <= longest:
        return [Span(0, max(shortest, _paintable(count)), 0)]
    windows = -(-(count - overlap) // (longest - overlap))
    length = _paintable(-(-(count + (windows - 1) * overlap) // windows))
    starts = [round(window * (count - length) / (windows - 1)) for window in range(windows)]
    ends = [0, *(start + length for start in starts)]
    return [Span(start, length, max(0, end - start)) for start, end in zip(starts, ends[:-1], strict=True)]


def held(clip: Array, count: int) -> Array:
    """A clip that stands still at its end until it has that many frames. clip: [N, ...]"""
    return np.concatenate([clip, np.repeat(clip[-1:], max(0, count - len(clip)), axis=0)])


def paint_spans(
    color: Picture, mask: Mask, parts: list[Span], paint: Callable[[int, Picture, Mask], Picture]
) -> Picture:
    """Paint window after window and join them.

    Args:
        color: RGB, black where the mask is False. [N, h, w, 3]
        mask: True where the plate shows. [N, h, w]
        parts: the windows, from `spans`.
        paint: (number of the window, its colour, its mask) -> its frames [count, h, w, 3]

    Returns:
        RGB [N, h, w, 3]
    """
    reach = parts[-1].start + parts[-1].count
    long_color, long_mask = held(color, reach), held(mask, reach)
    result = np.empty(long_color.shape, np.uint8)
    for number, span in enumerate(parts):
        first, shared, end = span.start, span.start + span.overlap, span.start + span.count
        # Copies: what was painted before takes the place of the plate, whole.
        part_color, part_mask = long_color[first:end].copy(), long_mask[first:end].copy()
        part_color[: span.overlap], part_mask[: span.overlap] = result[first:shared], True
        painted = paint(number, part_color, part_mask)
        result[first:shared] = crossfaded(result[first:shared], painted[: span.overlap])
        result[shared:end] = painted[span.overlap :]
    return result[: len(color)]


def crossfaded(before: Picture, after: Picture) -> Picture:
    """Go evenly over from one run of frames to another of the same moments. [n, h, w, 3]"""
    share = (np.arange(1, len(before) + 1, dtype=np.float32) / (len(before) + 1))[:, None, None, None]
    return np.rint(before * (1 - share) + after * share).astype(np.uint8)


def _paintable(count: int) -> int:
    """The next number of frames that the model takes."""
    return -(-(count - 1) // 4) * 4 + 1
