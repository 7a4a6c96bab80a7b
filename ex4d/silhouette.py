# SPDX-License-Identifier: Apache-2.0
"""Silhouettes: depth that ramps from a thing to what is behind it becomes a step, so that no rubber sheet hangs there.

Depth models, resized depth and filtered renders blur the edge between two surfaces. A ramp is recognised along rows,
then along columns, by three signs: it is short, both its ends are much flatter than its middle, and a surface in its
place would be seen at a grazing angle. Slanted surfaces fail the first or the last: they run on, or face the camera.
"""

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled

# A surface in a ramp's place would be seen below this angle: twice the 2.5 degrees at which a face is cut, since a
# blurred edge is steep in the middle only.
RAMP_ANGLE_DEG = 5.0
RAMP_STEEPNESS = float(1 / np.tan(np.radians(RAMP_ANGLE_DEG)))
# A ramp ends where its disparity changes by less than this share of its steepest step: 2.1 sigma of a Gaussian blur.
SHOULDER = 0.1
# But not while depth changes by this many times the least of a ramp: the blur of near things reaches far into depth.
FAR_SHOULDER = 4.0
# The longest ramp, as a share of the picture's longer side: depth models work at about 512 pixels and blur up to 12.
RAMP_SHARE = 1 / 40
MIN_RAMP_PX = 8


def snapped_silhouettes(depth: Array, intrinsics: Array) -> Array:
    """Move every pixel on a ramp between two surfaces to the surface that is nearer to it in disparity.

    Args:
        depth: z-depth, shot units, finite and > 0. float32 [H, W]
        intrinsics: of the depth's camera, pixels. [3, 3]

    Returns:
        z-depth, the same where there is no ramp. float32 [H, W]
    """
    longest = max(MIN_RAMP_PX, int(max(depth.shape) * RAMP_SHARE))
    rows, columns = depth.shape
    across = depth.copy()
    _snap_lines(depth.ravel(), across.ravel(), rows, columns, columns, 1, RAMP_STEEPNESS / intrinsics[0, 0], longest)
    down = across.copy()
    _snap_lines(across.ravel(), down.ravel(), columns, 1, rows, columns, RAMP_STEEPNESS / intrinsics[1, 1], longest)
    return down


@compiled
def _snap_lines(
    depth: Array, snapped: Array, lines: int, line_stride: int, length: int, stride: int, steepness: float, longest: int
) -> None:
    """Snap along the rows or the columns of a picture.

    Args:
        depth, snapped: flat; `snapped` is filled where it differs.
        lines, line_stride: how many lines there are, and from one to the next.
        length, stride: pixels of a line, and from one to the next.
        steepness: the least change of depth per pixel of a ramp, as a share of the depth.
        longest: steps of a ramp.
    """
    for k in range(1, length - 2):  # along the line outside, so that columns are walked row by row
        for line in range(lines):
            i = line * line_stride + k * stride
            if abs(depth[i + stride] - depth[i]) > steepness * min(depth[i], depth[i + stride]):
                _snap_ramp(depth, snapped, line * line_stride, length, stride, k, steepness, longest)


@compiled
def _snap_ramp(
    depth: Array, snapped: Array, start: int, length: int, stride: int, k: int, steepness: float, longest: int
) -> None:
    """Snap the ramp whose steepest step leads from pixel k of a line to the next, if there is one."""
    peak = _step(depth, start, stride, k)
    before, after = _step(depth, start, stride, k - 1) / peak, _step(depth, start, stride, k + 1) / peak
    if before >= 1 or after > 1 or (before < SHOULDER and after < SHOULDER):
        return
    first, last = k, k + 1
    while first > 0 and last - first <= longest and _goes_on(depth, start, stride, first - 1, peak, steepness):
        first -= 1
    while last < length - 1 and last - first <= longest and _goes_on(depth, start, stride, last, peak, steepness):
        last += 1
    one, other = depth[start + first * stride], depth[start + last * stride]
    if last - first > longest or abs(one - other) < steepness * (last - first) * np.sqrt(one * other):
        return
    middle = 0.5 / one + 0.5 / other
    for pixel in range(first + 1, last):
        towards_one = (1.0 / depth[start + pixel * stride] > middle) == (one < other)
        snapped[start + pixel * stride] = one if towards_one else other


@compiled
def _goes_on(depth: Array, start: int, stride: int, k: int, peak: float, steepness: float) -> bool:
    """Whether the step from pixel k to the next still belongs to the ramp with the steepest step `peak`."""
    step = _step(depth, start, stride, k) / peak
    one, other = depth[start + k * stride], depth[start + (k + 1) * stride]
    return bool(step >= SHOULDER or (step > 0 and abs(one - other) > FAR_SHOULDER * steepness * min(one, other)))


@compiled
def _step(depth: Array, start: int, stride: int, k: int) -> float:
    """Change of disparity from pixel k of a line to the next."""
    return float(1.0 / depth[start + (k + 1) * stride] - 1.0 / depth[start + k * stride])
