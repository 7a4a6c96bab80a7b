# SPDX-License-Identifier: Apache-2.0
"""Making masks unlike each other at their edges, so that the adapter does not learn one kind of edge.

The paper's own jitter is not published; the release shrinks the seen part of every frame by a random block of 2 to 8
pixels when it paints (generate.py). That step is left to training, which does it as painting does. What happens here is
before it: clean specks away, grow or keep the holes by an amount that belongs to the clip, and let it flutter a little.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ex4d.camera import Array

FLUTTER_PX = 1  # a frame's own growth differs from the clip's by at most this


@dataclass(frozen=True)
class Jitter:
    """What was drawn for a clip."""

    grow_px: tuple[int, ...]  # by how much the holes of each frame grow, to all sides


def random_jitter(draw: np.random.Generator, frame_count: int, most_px: int) -> Jitter:
    """Draw the growth of a clip's holes.

    Args:
        draw: the sample's random numbers.
        frame_count: of the clip.
        most_px: largest growth; 0 leaves masks as they are.
    """
    if most_px == 0:
        return Jitter((0,) * frame_count)
    base = int(draw.integers(0, most_px + 1))
    flutter = draw.integers(-FLUTTER_PX, FLUTTER_PX + 1, frame_count)
    return Jitter(tuple(int(size) for size in np.clip(base + flutter, 0, most_px)))


def jittered(seen: Array, jitter: Jitter) -> Array:
    """Grow the holes. seen, result: bool [T, H, W]"""
    result = np.empty_like(seen)
    for n, (plane, grow) in enumerate(zip(seen, jitter.grow_px, strict=True)):
        block = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
        result[n] = cv2.erode(plane.view(np.uint8), block) > 0  # beyond the border counts as seen
    return result
