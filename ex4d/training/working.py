# SPDX-License-Identifier: Apache-2.0
"""Bringing a video to the size at which the model learns, without squash and without made-up edges."""

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.generation.wan.framing import framing


def working_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which a take of this shape is painted: about 512 x 512 pixels, multiples of 16."""
    return framing(width, height).working


def fitted(pictures: Array, size: tuple[int, int], nearest: bool = False) -> Array:
    """Scale pictures evenly until they fill a size, and cut off what is left over, at both sides alike.

    A take's few left-over pixels are mirrored instead (see `framing`); to learn from, only what was filmed will do.

    Args:
        pictures: [T, H, W] or [T, H, W, 3]
        size: width and height.
        nearest: take the nearest pixel: depth must not be mixed across silhouettes.
    """
    height, width = pictures.shape[1:3]
    if (width, height) == size:
        return pictures
    scale = scale_to(width, height, size)
    inner = max(size[0], round(width * scale)), max(size[1], round(height * scale))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    left, top = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
    result = np.empty((len(pictures), size[1], size[0], *pictures.shape[3:]), pictures.dtype)
    for n, picture in enumerate(pictures):
        plain = picture.view(np.uint8) if picture.dtype == np.bool_ else picture
        large = cv2.resize(plain, inner, interpolation=cv2.INTER_NEAREST_EXACT if nearest else smooth)
        result[n] = large[top : top + size[1], left : left + size[0]]
    return result


def scale_to(width: int, height: int, size: tuple[int, int]) -> float:
    """By how much `fitted` scales, for lenses."""
    return max(size[0] / width, size[1] / height)
