# SPDX-License-Identifier: Apache-2.0
"""How a take's picture lies in the picture that the model paints, and the way back.

The model was tuned at one number of pixels and paints sides that are multiples of 16. A take keeps its shape: it is
scaled evenly, and the few pixels that are left over are mirrored from its edge and cut off again.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.camera import Array

TUNED_PIXELS = 512 * 512  # EX-4D release, generate.py: its default size
RELEASE_SIZE = (512, 512)
SIDE_STEP = 16  # pixels of a token: the VAE's 8 times the patch's 2
PIXELS_TOLERANCE = 0.06  # how far from the tuned number a better-fitting shape may be

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Framing:
    """Where a take lies in the working picture. Sizes are (width, height) in pixels."""

    take: tuple[int, int]
    working: tuple[int, int]  # what the model paints, multiples of 16
    inner: tuple[int, int]  # the take within it; the rest is mirrored from its edge
    bilinear: bool = False  # scaled as the release does it

    @property
    def offset(self) -> tuple[int, int]:
        """Of the inner picture's left and top edge."""
        return (self.working[0] - self.inner[0]) // 2, (self.working[1] - self.inner[1]) // 2


def framing(width: int, height: int, pixels: int = TUNED_PIXELS) -> Framing:
    """Fit a take's shape into the best working size.

    Args:
        width, height: of the take.
        pixels: about how many the model should paint.
    """
    least = math.inf, math.inf, math.inf
    best = SIDE_STEP, SIDE_STEP
    tokens = max(1, pixels // SIDE_STEP**2)
    for rows in range(1, tokens + 1):
        for fitting in (math.floor(rows * width / height), math.ceil(rows * width / height)):
            columns = min(max(1, fitting), tokens)
            excess = abs(math.log(rows * columns * SIDE_STEP**2 / pixels))
            squash = abs(math.log(columns / rows * height / width))
            cost = max(0.0, excess - math.log1p(PIXELS_TOLERANCE)), squash, excess
            if cost < least:
                least, best = cost, (columns * SIDE_STEP, rows * SIDE_STEP)
    scale = min(best[0] / width, best[1] / height)
    inner = min(best[0], max(1, round(width * scale))), min(best[1], max(1, round(height * scale)))
    return Framing((width, height), best, inner)


def release_framing(width: int, height: int, size: tuple[int, int] = RELEASE_SIZE) -> Framing:
    """What the EX-4D release does: whatever the shape, it becomes 512 x 512, bilinearly."""
    return Framing((width, height), size, size, bilinear=True)


def into_working(layout: Framing, color: Picture, mask: Mask) -> tuple[Picture, Mask]:
    """Bring one frame of the conditioning to the size that the model paints.

    Args:
        layout: of the take.
        color: RGB, black where the mask is False. [h, w, 3]
        mask: True where the plate shows. [h, w]

    Returns:
        the same at `layout.working`.
    """
    inner_color, inner_mask = _scaled(layout, color, mask)
    if layout.inner == layout.working:
        return inner_color, inner_mask
    left, top = layout.offset
    right, bottom = layout.working[0] - layout.inner[0] - left, layout.working[1] - layout.inner[1] - top
    edges = (top, bottom, left, right, cv2.BORDER_REFLECT_101)
    wide_mask = cv2.copyMakeBorder(inner_mask.view(np.uint8), *edges)
    return np.asarray(cv2.copyMakeBorder(inner_color, *edges)), np.asarray(wide_mask, np.bool_)


def into_take(layout: Framing, frame: Picture) -> Picture:
    """Bring one painted frame back to the take's size. frame: RGB at `layout.working`. [h, w, 3]"""
    (left, top), (width, height) = layout.offset, layout.inner
    inner = np.ascontiguousarray(frame[top : top + height, left : left + width])
    if layout.inner == layout.take:
        return inner
    grows = layout.take[0] * layout.take[1] > width * height
    return _resized(inner, layout.take, cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA)


def _scaled(layout: Framing, color: Picture, mask: Mask) -> tuple[Array, Array]:
    """The take's picture and mask at the inner size."""
    if layout.inner == layout.take:
        return color, mask
    if layout.bilinear:
        levels = _resized(mask.astype(np.uint8) * np.uint8(255), layout.inner, cv2.INTER_LINEAR)
        return _resized(color, layout.inner, cv2.INTER_LINEAR), levels > 127
    # Colour counts as far as the plate shows, so that no black leaks in at the edges of holes.
    filter_ = cv2.INTER_CUBIC if layout.inner[0] > layout.take[0] else cv2.INTER_AREA
    shows = mask.astype(np.float32)
    share = _resized(shows, layout.inner, filter_)
    sums = _resized(color * shows[..., None], layout.inner, filter_)
    mean = np.clip(np.rint(sums / np.maximum(share, 0.5)[..., None]), 0, 255)
    return (mean * (share > 0.5)[..., None]).astype(np.uint8), share > 0.5


def _resized(picture: Array, size: tuple[int, int], filter_: int) -> Array:
    return np.asarray(cv2.resize(picture, size, interpolation=filter_))
