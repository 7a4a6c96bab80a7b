# SPDX-License-Identifier: Apache-2.0
"""Where the pixels of one picture lie in another: OpenCV's dense inverse search, made safe for small pictures."""

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_SIDE = (
    32  # below it a patch of 8 pixels no longer fits into the picture halved twice, and OpenCV's search crashes
)


def dense_flow(here: NDArray[np.uint8], there: NDArray[np.uint8], finest_scale: int = 2) -> NDArray[np.float32]:
    """Find the motion of every pixel.

    Args:
        here, there: grey. [h, w]
        finest_scale: 2 searches in a quarter of the size and is the fastest, 1 in half of it and is finer.

    Returns:
        Pixels (right, down) from a place in `here` to the same thing in `there`. [h, w, 2]
    """
    height, width = here.shape
    missing = ((0, max(0, LEAST_SIDE - height)), (0, max(0, LEAST_SIDE - width)))
    first, second = (np.pad(picture, missing, mode="edge") for picture in (here, there))
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    finder.setFinestScale(finest_scale)
    flow = finder.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    return np.asarray(flow[:height, :width], np.float32)
