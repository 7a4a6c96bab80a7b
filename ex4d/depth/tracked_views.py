# SPDX-License-Identifier: Apache-2.0
"""Before any depth is known: with which frames to compare one, and between which distances to look."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.depth.alignment import motion_between
from ex4d.errors import DepthError
from ex4d.progress import ProgressCallback, track

LOOKS = 5  # frames from which the range is found
STRIDES = (1, 2, 4, 8, 16, 32)  # frames apart, from which the widest baseline that still sees the same is taken
LEAST_SEEN = 0.4  # share of the picture that two frames must both see
MISS_PX = 1.0  # how far the flow may end from where the camera's motion allows
LEAST_PARALLAX_PX = 2.0  # of the nearest things, at the size of comparison: less cannot be told from noise
WIDE_SHARE, WIDE_PX = 0.12, 48.0  # parallax of the wider neighbours: of the width, and half a pixel per plane


def inverse_depth_range(
    frames: NDArray[np.uint8],
    intrinsics: NDArray[np.float64],
    camera_to_world: NDArray[np.float64],
    near: float | None = None,
    far: float | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[float, float]:
    """Between which inverse depths a still scene lies, from optical flow and the camera's path.

    Args:
        frames: RGB. [T, H, W, 3]
        intrinsics: pixels of these frames. [3, 3]
        camera_to_world: [T, 4, 4].
        near, far: what the artist knows; found when None.

    Returns:
        Lowest (0 for infinity) and highest inverse depth.

    Raises:
        DepthError: the camera does not move enough, or nothing in the clip follows its motion.
    """
    if len(frames) < 2:
        raise DepthError("The depth source 'tracked' needs at least two frames, the clip has one.")
    if near is not None and far is not None:
        return 1 / far, 1 / near
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    found, parallax = [], 0.0
    looks = np.unique(np.linspace(0, len(frames) - 1, LOOKS).round().astype(int))
    for frame in track(looks, "Finding near and far", progress, len(looks)):
        inverse, pixels = _triangulated(grey, intrinsics, camera_to_world, int(frame))
        found.append(inverse)
        parallax = max(parallax, pixels)
    every = np.concatenate(found)
    if parallax < LEAST_PARALLAX_PX:
        raise DepthError(
            f"The camera moves too little to tell distances: the nearest things shift by {parallax:.1f} pixels against "
            "the rest. Use a plate whose camera travels, or another depth source."
        )
    if every.size < 100:
        raise DepthError(
            "Almost nothing in the clip moves as its camera says. Check that the solve belongs to this clip and its "
            "frames, or give near and far."
        )
    low, high = np.percentile(every, [1, 99])
    low, high = max(0.0, float(low - 0.1 * (high - low))), float(1.4 * high)
    return (1 / far if far is not None else low), (1 / near if near is not None else high)


def _triangulated(
    grey: list[NDArray[np.uint8]], intrinsics: NDArray[np.float64], poses: NDArray[np.float64], frame: int
) -> tuple[NDArray[np.float64], float]:
    """Inverse depths of what one frame sees and its flow confirms [P]; parallax of its nearest things in pixels."""
    best: tuple[NDArray[np.float64], float] = (np.empty(0), 0.0)
    height, width = grey[0].shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.linalg.inv(intrinsics) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    for stride in STRIDES:
        other = frame + stride if frame + stride < len(grey) else frame - stride
        if other < 0:
            break
        motion = motion_between(grey[frame], grey[other])
        if motion.seen.mean() < LEAST_SEEN:
            break
        way = np.linalg.inv(poses[other]) @ poses[frame]
        still = intrinsics @ way[:3, :3] @ rays  # where it would lie if it were infinitely far
        shift = intrinsics @ way[:3, 3]  # and how that moves with the inverse depth, both homogeneous
        u, v = x.ravel() + motion.flow[..., 0].ravel(), y.ravel() + motion.flow[..., 1].ravel()
        along = np.stack([shift[0] - u * shift[2], shift[1] - v * shift[2]])
        missing = np.stack([u * still[2] - still[0], v * still[2] - still[1]])
        strength = (along**2).sum(axis=0)
        inverse = (along * missing).sum(axis=0) / np.maximum(strength, 1e-12)
        missed = np.linalg.norm(missing - along * inverse, axis=0) / np.maximum(still[2], 1e-6)
        good = motion.seen.ravel() & (missed < MISS_PX) & (inverse > 0)
        if not good.any():
            continue
        pixels = float(np.percentile(inverse[good] * np.sqrt(strength[good]), 90))
        if pixels > best[1]:
            best = (inverse[good], pixels)
    return best


def chosen_neighbours(
    camera_to_world: NDArray[np.float64], intrinsics: NDArray[np.float64], width: int, inverse_range: float, count: int
) -> NDArray[np.int64]:
    """With which frames each frame is compared: wide and half as wide baselines, on both sides where there are.

    Args:
        camera_to_world: [T, 4, 4].
        intrinsics: pixels of the frames that are compared. [3, 3]
        width: of those frames, pixels.
        inverse_range: highest minus lowest inverse depth.
        count: of neighbours, less than T.

    Returns:
        [T, count]
    """
    places, axes = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    parallax = np.linalg.norm(places[:, None] - places[None], axis=-1) * intrinsics[0, 0] * inverse_range
    turned = np.arccos(np.clip(axes @ axes.T, -1, 1))
    half_view = np.arctan(width / 2 / intrinsics[0, 0])
    wide = min(WIDE_SHARE * width, WIDE_PX)
    chosen = np.empty((len(places), count), np.int64)
    for frame in range(len(places)):
        taken: list[int] = []
        for i in range(count):
            wish = wide if i % 2 == 0 else wide / 2
            price = np.abs(np.log(np.maximum(parallax[frame], 1e-6) / wish))
            price += 4 * (turned[frame] > half_view)  # looks elsewhere
            after = np.sign(np.arange(len(places)) - frame)
            price += 0.7 * (after != (1 if i < (count + 1) // 2 else -1))  # the other side sees round the other edge
            price[[frame, *taken]] = np.inf
            taken.append(int(price.argmin()))
        chosen[frame] = taken
    return chosen
