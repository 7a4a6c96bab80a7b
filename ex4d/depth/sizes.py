# SPDX-License-Identifier: Apache-2.0
"""The sizes at which the release and the depth sources look at the frames."""

import cv2
import numpy as np
from numpy.typing import NDArray

RELEASE_SIDE = 1024  # EX-4D release, recon.py: the longer side at most
SIDE_MULTIPLE = 64  # what the release feeds to DepthCrafter; its networks halve the picture six times


def release_size(width: int, height: int, longest: int = RELEASE_SIDE) -> tuple[int, int]:
    """Multiples of 64 nearest to a size, the longer side at most `longest`; 0 for a side that is too short.

    As the release rounds them, recon.py; halves go to the even multiple.
    """
    sides = [SIDE_MULTIPLE * round(side / SIDE_MULTIPLE) for side in (width, height)]
    if max(sides) > longest:
        sides = [SIDE_MULTIPLE * round(side * longest / max(width, height) / SIDE_MULTIPLE) for side in (width, height)]
    return sides[0], sides[1]


def work_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height at which the depth is drawn: as the release has them, but never less than 64."""
    work_width, work_height = release_size(width, height, longest)
    return max(work_width, SIDE_MULTIPLE), max(work_height, SIDE_MULTIPLE)


def resized(frames: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Frames at another size. [T, H, W, 3] -> [T, height, width, 3]"""
    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames]).astype(np.uint8)
