# SPDX-License-Identifier: Apache-2.0
"""The two cameras of the sample. Numpy only: the renderer and the packer both read them.

Poses are OpenCV (+X right, +Y down, +Z forward) in the source camera's frame, metres. Pixels count from the picture's
top left edge: pixel i has its centre at i + 0.5.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH = HEIGHT = 512
FPS = 24
FRAME_COUNT = 49
LENS_MM, SENSOR_WIDTH_MM = 35.0, 36.0
EYE_HEIGHT_M = 1.9

TRUTH_FRAMES = range(0, FRAME_COUNT, 6)  # frames which are also rendered from the second camera

PIVOT_M = np.array([0.0, 0.0, 9.0])  # between the train and the mill
ORBIT_RAD = math.radians(22)
RISE_M = 0.95
LOOK_SHIFT_M = np.array([0.5, 0.25, 0.0])  # where the look drifts to while the camera moves


def intrinsics() -> Array:
    """Pinhole matrix of both cameras, pixels. [3, 3]"""
    f_px = LENS_MM / SENSOR_WIDTH_MM * WIDTH
    return np.array([[f_px, 0.0, WIDTH / 2], [0.0, f_px, HEIGHT / 2], [0.0, 0.0, 1.0]])


def look_at(position: Array, target: Array) -> Array:
    """World to camera for a level camera at `position` [3] that looks at `target` [3]. [4, 4]"""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross((0.0, 1.0, 0.0), forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ position
    return pose


def second_camera() -> Array:
    """World to camera of the second camera: from the source view 22 degrees round the pivot, and up. [49, 4, 4]"""
    poses = []
    for i in range(FRAME_COUNT):
        t = i / (FRAME_COUNT - 1)
        t = 0.5 * t + 0.5 * t * t * (3 - 2 * t)  # starts and stops gently
        radius, angle = PIVOT_M[2], ORBIT_RAD * t
        position = PIVOT_M + np.array([radius * math.sin(angle), -RISE_M * t, -radius * math.cos(angle)])
        poses.append(look_at(position, PIVOT_M + LOOK_SHIFT_M * t))
    return np.stack(poses)
