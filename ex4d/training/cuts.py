# SPDX-License-Identifier: Apache-2.0
"""Finding a cut inside a clip: nothing can be followed across it, and no camera sees both of its sides."""

import cv2
import numpy as np

from ex4d.camera import Array

# PySceneDetect's AdaptiveDetector and its defaults: the mean change of hue, saturation and value must be this large,
# and this many times that of the frames around it, so that a whip pan or a flicker is no cut.
LEAST_CHANGE = 15.0
OUTSTANDING = 3.0
AROUND = 2  # frames to either side
THUMBNAIL_PX = 96  # width at which frames are compared


def cut_after(frames: Array) -> int | None:
    """The last frame before the first hard cut, 0-based; None when there is none. frames: RGB [T, H, W, 3]"""
    height = max(1, round(THUMBNAIL_PX * frames.shape[1] / frames.shape[2]))
    small = [cv2.resize(frame, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA) for frame in frames]
    colours = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2HSV) for frame in small]).astype(np.int16)
    changes = np.abs(np.diff(colours, axis=0)).mean(axis=(1, 2, 3))
    for n, change in enumerate(changes):
        others = np.concatenate([changes[max(0, n - AROUND) : n], changes[n + 1 : n + 1 + AROUND]])
        if change >= LEAST_CHANGE and len(others) and change >= OUTSTANDING * others.mean():
            return n
    return None
