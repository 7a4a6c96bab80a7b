# SPDX-License-Identifier: Apache-2.0
"""The sizes at which depth sources look at the frames."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_MULTIPLE = 64  # what the release feeds to DepthCrafter; its networks halve the picture six times


def work_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height at which the depth is drawn: multiples of 64, the longer one at most `longest`.

    As the release rounds them, recon.py; halves go to the even multiple.
    """
    sides = [SIDE_MULTIPLE * round(side / SIDE_MULTIPLE) for side in (width, height)]
    if max(sides) > longest:
        scale = longest / max(width, height)
        sides = [SIDE_MULTIPLE * round(side * scale / SIDE_MULTIPLE) for side in (width, height)]
    return max(sides[0], SIDE_MULTIPLE), max(sides[1], SIDE_MULTIPLE)


def resized(frames: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Frames at another size. [T, H, W, 3] -> [T, height, width, 3]"""
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames]).astype(np.uint8)
