# SPDX-License-Identifier: Apache-2.0
"""Depth at another size than its plate: from a smaller proxy, or for a plate that the release's rules squeeze."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.depth.clip import DepthClip, DisparityClip
from ex4d.errors import DepthError

SHAPE_TOLERANCE = 0.02  # how far the ratio of the sides may be off: rounding to multiples of 64 changes it that much


def resized_clip(found: DepthClip | DisparityClip, width: int, height: int) -> DepthClip | DisparityClip:
    """Bring depth to the plate's size, and say so.

    A plane stays a plane: its inverse depth is linear in the picture. Smaller takes the nearest pixel, so that
    silhouettes stay steps; larger has to ramp over one old pixel.

    Raises:
        DepthError: it is the depth of a cropped or squeezed picture.
    """
    inverse = found.disparity if isinstance(found, DisparityClip) else 1 / found.depth
    old_height, old_width = inverse.shape[1:]
    if abs(old_width / old_height / (width / height) - 1) > SHAPE_TOLERANCE:
        raise DepthError(
            f"The depth of '{found.source}' is {old_width} x {old_height} pixels, the plate {width} x {height}: that "
            "is another shape, not only another size. Export the depth of the whole picture."
        )
    method = cv2.INTER_NEAREST_EXACT if width < old_width else cv2.INTER_LINEAR
    inverse = np.stack([cv2.resize(plane, (width, height), interpolation=method) for plane in inverse])
    notice = f"The depth was brought from {old_width} x {old_height} to the plate's {width} x {height} pixels."
    values = {"disparity": inverse} if isinstance(found, DisparityClip) else {"depth": 1 / inverse}
    return dataclasses.replace(
        found,
        **values,
        sky=_resized_layer(found.sky, width, height),
        valid=_resized_layer(found.valid, width, height),
        notices=(*found.notices, notice),
    )


def _resized_layer(layer: NDArray[np.bool_] | None, width: int, height: int) -> NDArray[np.bool_] | None:
    if layer is None:
        return None
    planes = [cv2.resize(p.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for p in layer]
    return np.stack(planes).astype(np.bool_)
