# SPDX-License-Identifier: Apache-2.0
"""Steadying depth that was found frame by frame.

Such a model answers each frame with another scale and offset, so that its depth pumps. Each frame is brought to the
scale of a running reference: what the frames before it said, carried along the optical flow. What then still shimmers
is averaged along the flow, over pixels that are seen in both frames and agree.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.optical_flow import dense_flow
from ex4d.progress import ProgressCallback, track

Plane = NDArray[np.float32]

FLOW_SIDE = 384  # longer side at which the flow is found; a finer one costs more and fits no better
SOFT_PX = 1.5  # Gaussian over the depth before it is compared
SEEN_PX = 1.0  # a pixel is seen in both frames when the flow there and back misses its start by less
SEEN_GREY = 25.0  # and its brightness (0..255) differs by less
LEAST_SEEN = 0.02  # share of pixels seen in both frames below which the line of the frame before is kept
MEMORY = 0.7  # share of the reference that stays; 1 / (1 - 0.7) = about three frames decide
FIT_ROUNDS = 12
OUTLIER = 4.685  # deviations beyond which a pixel counts nothing: Tukey's biweight at 95 % efficiency
REACH = 2  # frames before and after that are averaged
AGREEMENT = 0.03  # share of the clip's range: pixels farther apart are different things, not shimmer


@dataclass(frozen=True)
class Motion:
    """Where a frame's pixels lie in another frame."""

    flow: Plane  # pixels, x and y. [h, w, 2]
    seen: NDArray[np.bool_]  # in both frames. [h, w]


def steadied(
    disparity: Plane, frames: NDArray[np.uint8], progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Take the flicker out of a clip's disparity; its scale and offset are what the frames say on average.

    Args:
        disparity: found frame by frame, any scale and offset for each. [T, H, W]
        frames: RGB. [T, H, W, 3]
        progress: told after each frame.

    Returns:
        float32 [T, H, W]
    """
    grey = [_grey(frame) for frame in frames]
    lines = frame_lines(disparity, grey, progress)
    aligned = disparity.astype(np.float32) * lines[:, 0, None, None] + lines[:, 1, None, None]
    scale, offset = robust_line(aligned[:, ::8, ::8].ravel(), disparity[:, ::8, ::8].astype(np.float32).ravel())
    return flow_filtered(aligned * np.float32(scale) + np.float32(offset), grey, progress)


def frame_lines(
    disparity: Plane, grey: list[NDArray[np.uint8]], progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Scale and offset that bring each frame to the running reference. [T, H, W] -> float32 [T, 2]"""
    size = grey[0].shape[::-1]
    lines = np.tile(np.array([1, 0], np.float32), (len(disparity), 1))
    reference = _resized(disparity[0], size)
    for i in track(range(1, len(disparity)), "Aligning the depth", progress):
        motion = motion_between(grey[i], grey[i - 1])
        small = _resized(disparity[i], size)
        carried = _carried(reference, motion.flow)
        if motion.seen.mean() < LEAST_SEEN:
            lines[i] = lines[i - 1]
        else:
            lines[i] = robust_line(small[motion.seen], carried[motion.seen])
        aligned = lines[i, 0] * small + lines[i, 1]
        reference = np.where(motion.seen, MEMORY * carried + (1 - MEMORY) * aligned, aligned).astype(np.float32)
    return lines


def robust_line(x: Plane, y: Plane) -> tuple[float, float]:
    """Scale and offset with y = scale * x + offset for most points; both x and y may be noisy. [P], [P]

    The scale is the ratio of the spreads (reduced major axis). A least-squares line would lose some scale to the noise
    of x in every frame, and the clip would flatten as it goes on.
    """
    low_x, mid_x, high_x = np.percentile(x, [10, 50, 90])
    low_y, mid_y, high_y = np.percentile(y, [10, 50, 90])
    if high_x - low_x < 1e-6 * max(abs(mid_x), 1e-6):
        return 1.0, float(mid_y - mid_x)
    scale = float((high_y - low_y) / (high_x - low_x))
    offset = float(mid_y - scale * mid_x)
    for _ in range(FIT_ROUNDS):
        residual = np.abs(y - scale * x - offset)
        reach = OUTLIER * 1.4826 * float(np.median(residual)) + 1e-6 * float(high_y - low_y)
        weight = np.clip(1 - (residual / max(reach, 1e-12)) ** 2, 0, None).astype(np.float64) ** 2
        total = weight.sum()
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        spread_x, spread_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
        if spread_x <= 0 or spread_y <= 0:
            break
        scale = float(np.sqrt(spread_y / spread_x))
        offset = float(mean_y - scale * mean_x)
    return scale, offset


def flow_filtered(
    disparity: Plane, grey: list[NDArray[np.uint8]], progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Average each pixel with itself in the frames around, where it is seen and agrees. [T, H, W] -> [T, H, W]"""
    low, high = np.percentile(disparity[:, ::4, ::4], [1, 99])
    agreement = np.float32(max(AGREEMENT * (high - low), 1e-12))
    filtered = np.empty_like(disparity)
    for i in track(range(len(disparity)), "Steadying the depth", progress):
        total, weights = disparity[i].copy(), np.ones_like(disparity[i])
        for j in range(max(0, i - REACH), min(len(disparity), i + REACH + 1)):
            if j == i:
                continue
            motion = _enlarged(motion_between(grey[i], grey[j]), disparity.shape[1:])
            carried = _carried(disparity[j], motion.flow)
            weight = np.exp(-0.5 * ((carried - disparity[i]) / agreement) ** 2) * motion.seen
            total += weight * carried
            weights += weight
        filtered[i] = total / weights
    return filtered


def flicker(disparity: Plane, frames: NDArray[np.uint8]) -> float:
    """How much a clip's disparity changes from frame to frame where the picture does not, as a share of its range.

    The median change along the flow, averaged over the frames; 0 for depth that stands still.
    """
    grey = [_grey(frame) for frame in frames]
    size = grey[0].shape[::-1]
    small = np.stack([_resized(plane, size) for plane in disparity])
    low, high = np.percentile(small, [1, 99])
    changes = []
    for i in range(1, len(small)):
        motion = motion_between(grey[i], grey[i - 1])
        change = np.abs(small[i] - _carried(small[i - 1], motion.flow))[motion.seen]
        changes.append(np.median(change) if change.size else 0.0)
    return float(np.mean(changes) / max(high - low, 1e-12)) if changes else 0.0


def motion_between(here: NDArray[np.uint8], there: NDArray[np.uint8], finest_scale: int = 2) -> Motion:
    """Where the pixels of one grey picture lie in another. [h, w], [h, w]; finest_scale: see `dense_flow`."""
    flow, back = dense_flow(here, there, finest_scale), dense_flow(there, here, finest_scale)
    missed = np.linalg.norm(flow + _carried(back, flow), axis=2)
    brightness = np.abs(_carried(there.astype(np.float32), flow) - here)
    height, width = here.shape
    x, y = np.arange(width) + flow[..., 0], np.arange(height)[:, None] + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return Motion(flow, (missed < SEEN_PX) & (brightness < SEEN_GREY) & inside)


def _carried(plane: Plane, flow: Plane) -> Plane:
    """What `plane` shows at the ends of the flow. [h, w, ...] -> [h, w, ...]"""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _enlarged(motion: Motion, shape: tuple[int, ...]) -> Motion:
    """The motion at a picture's full size, (H, W)."""
    height, width = motion.seen.shape
    if (height, width) == shape:
        return motion
    size = shape[::-1]
    flow = np.asarray(cv2.resize(motion.flow, size) * np.array([shape[1] / width, shape[0] / height]), np.float32)
    return Motion(flow, cv2.resize(motion.seen.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame's brightness at the size of the flow. [h, w]"""
    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _resized(plane: Plane, size: tuple[int, ...]) -> Plane:
    """The plane at the size of the flow, a little soft: noise in it would cost scale (see `robust_line`)."""
    small = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), SOFT_PX), np.float32)
