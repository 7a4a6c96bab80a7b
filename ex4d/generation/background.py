# SPDX-License-Identifier: Apache-2.0
"""The background of a shot as two layers in the plate camera's view: what was seen some time, and what may lie behind.

The clean plate holds, at each pixel, the farthest surface that any frame shows there: what moves is gone where it ever
moved aside. The backdrop goes on from there by guesswork: things that stand before the rest of their row are taken out
and painted over, and the picture is continued beyond its edges (mirrored, the ground at its own slope). Both are
surfaces in space: seen from a moving camera they keep their place and cannot flicker.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.generation.inpaint import far_side_depth, inpaint

Plane = NDArray[np.float32]
Picture = NDArray[np.uint8]

MOMENTS = 13  # frames of the shot that a clean plate is made of, evenly spread
FAR_SHARE = 0.85  # of the frames, sorted by depth: far enough for what is seldom seen, short of single outliers
SAME_SURFACE = 0.9  # colours count when they lie at least at this share of the clean plate's depth
STILL_DEVIATION = 8.0  # grey levels over time of a typical pixel, above which the plate's camera itself moves
ROW_REACH = 0.3  # how far along its row a pixel looks for something behind it, as a share of the width
STANDS_BEFORE = 1.3  # by which factor nearer than that makes a thing that stands before the rest
EDGE_PX = 3  # silhouettes mix colours; what is taken out is taken out with its edge
SMOOTH_SHARE = 0.015  # the backdrop's relief is smoothed by this share of the width: what is flat cannot tear
DETAIL_PX = 960  # longer side of the picture at which a backdrop is made: a guess needs no finer mesh
BEYOND = 0.5  # how far the backdrop goes on beyond each edge of the picture, as a share of its side
SLOPE_SHARE = 0.1  # the ground's slope is read from this share of the rows above the lower edge


@dataclass(frozen=True)
class Layer:
    """A picture with depth."""

    color: Picture  # RGB. [H, W, 3]
    depth: Plane  # z-depth, shot units. [H, W]
    intrinsics: NDArray[np.float64]  # [3, 3], pixels


def moments_of(count: int) -> NDArray[np.intp]:
    """Which frames of a shot of so many a clean plate is made of."""
    return np.unique(np.rint(np.linspace(0, count - 1, MOMENTS)).astype(np.intp))


def stands_still(frames: Picture) -> bool:
    """Whether the plate's camera stands still, so that frames of different times show the same place.

    Args:
        frames: RGB. [M, H, W, 3]
    """
    size = (-(-frames.shape[2] // 4), -(-frames.shape[1] // 4))  # grain does not count as motion
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    return bool(np.median(small.mean(axis=3).std(axis=0)) < STILL_DEVIATION)


def clean_plate(frames: Picture, depth: Plane, intrinsics: NDArray[np.float64]) -> Layer:
    """The farthest surface that was seen at each pixel.

    Args:
        frames: RGB of some moments. [M, H, W, 3]
        depth: their z-depth. [M, H, W]
        intrinsics: the plate camera's. [3, 3]
    """
    order = np.sort(depth, axis=0)
    far = order[round(FAR_SHARE * (len(depth) - 1))]
    behind = depth >= SAME_SURFACE * far
    color = np.empty(frames.shape[1:], np.uint8)
    for channel in range(3):
        seen = np.where(behind, frames[..., channel], 0).astype(np.uint8)
        seen = np.sort(seen, axis=0)  # the unseen zeros come first
        middle = len(frames) - 1 - (behind.sum(axis=0) - 1) // 2
        color[..., channel] = np.take_along_axis(seen, middle[None], axis=0)[0]
    return Layer(color, np.ascontiguousarray(far), intrinsics)


def backdrop(plate: Layer) -> Layer:
    """What may lie behind and beside a plate.

    Args:
        plate: what was seen, for example a `clean_plate`.

    Returns:
        A larger layer: `BEYOND` of each side more at each edge.
    """
    plate = _shrunk(plate)
    height, width = plate.depth.shape
    inverse = np.asarray(1 / plate.depth, np.float32)
    reach = 2 * max(1, round(ROW_REACH * width)) + 1
    row_far = -cv2.dilate(-inverse, np.ones((1, reach), np.uint8))
    stands = (inverse > STANDS_BEFORE * row_far).astype(np.uint8)
    known = cv2.dilate(stands, np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) == 0
    red, green, blue = (float(level) for level in plate.color.mean(axis=(0, 1)))
    color = inpaint(plate.color[None], known[None], plate.depth[None], (red, green, blue))[0]
    inverse = np.asarray(1 / far_side_depth(known, plate.depth), np.float32)

    side, above = round(BEYOND * width), round(BEYOND * height)
    color = np.pad(color, ((above, above), (side, side), (0, 0)), mode="symmetric")
    inverse = np.asarray(np.pad(inverse, ((above, above), (side, side)), mode="edge"), np.float32)
    # A plane's inverse depth is linear in the row: below the picture the ground comes nearer at the slope it has.
    rows = max(1, round(SLOPE_SHARE * height))
    last = above + height - 1
    slope = np.maximum(cv2.blur((inverse[last] - inverse[last - rows])[None], (reach, 1))[0] / rows, 0)
    inverse[last + 1 :] = inverse[last] + slope * np.arange(1, above + 1, dtype=np.float32)[:, None]
    sigma = max(0.5, SMOOTH_SHARE * width)
    inverse = np.asarray(cv2.GaussianBlur(inverse, (0, 0), 2 * sigma, None, sigma), np.float32)
    intrinsics = plate.intrinsics + np.array([[0, 0, side], [0, 0, above], [0, 0, 0]], np.float64)
    return Layer(color, np.asarray(1 / inverse, np.float32), intrinsics)


def _shrunk(layer: Layer) -> Layer:
    height, width = layer.depth.shape
    scale = min(1.0, DETAIL_PX / max(height, width))
    if scale == 1:
        return layer
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    inverse = cv2.resize(1 / layer.depth, size, interpolation=cv2.INTER_AREA)
    return Layer(
        np.asarray(cv2.resize(layer.color, size, interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(1 / inverse, np.float32),
        np.diag([size[0] / width, size[1] / height, 1.0]) @ layer.intrinsics,
    )
