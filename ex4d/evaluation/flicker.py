# SPDX-License-Identifier: Apache-2.0
"""How much a clip flickers: what changes from frame to frame although its motion has been followed.

As the warping error of Lai et al. 2018, "Learning blind video temporal consistency", with the clip's own dense optical
flow, and only where the flow there and back returns.
"""

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.progress import ProgressCallback, track

SMALLEST_PX = 32  # OpenCV's flow fails, or ends the process, on pictures of a dozen pixels
RETURNS_PX = 1.0  # a point has been followed when the flow there and back ends within this of where it began


def flicker(
    frames: Array, where: Array | None = None, progress: ProgressCallback | None = None
) -> list[tuple[float | None, float | None]]:
    """Measure each frame against the one before it.

    Args:
        frames: uint8 [N, h, w, 3]
        where: the pixels of the second number. bool [N, h, w]

    Returns:
        N pairs: the mean absolute change in levels of 255 over all followed pixels, and over those of them in `where`.
        None for the first frame, where no pixel could be followed, and for pictures too small to follow anything in.
    """
    if min(frames.shape[1:3]) < SMALLEST_PX:
        return [(None, None)] * len(frames)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    height, width = frames.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), axis=-1)
    start = np.zeros_like(grid)
    found: list[tuple[float | None, float | None]] = [(None, None)]
    for n in track(range(1, len(frames)), "Measuring flicker", progress):
        back = grid + flow.calc(greys[n], greys[n - 1], start.copy())
        forth = flow.calc(greys[n - 1], greys[n], start.copy())
        returned = back + cv2.remap(forth, back[..., 0], back[..., 1], cv2.INTER_LINEAR)
        followed = np.linalg.norm(returned - grid, axis=-1) <= RETURNS_PX
        followed &= ((back >= 0) & (back <= (width - 1, height - 1))).all(axis=-1)
        before = cv2.remap(frames[n - 1].astype(np.float32), back[..., 0], back[..., 1], cv2.INTER_LINEAR)
        change = np.abs(frames[n] - before).mean(axis=-1)
        part = followed & where[n] if where is not None else np.zeros_like(followed)
        found.append((_mean(change, followed), _mean(change, part)))
    return found


def _mean(values: Array, where: Array) -> float | None:
    return float(values[where].mean()) if where.any() else None
