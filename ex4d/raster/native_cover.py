# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Which samples a face covers and how near it is there, in Triton: the rules of raster/__init__.py.

A sample is covered where all three edge functions have the face's sign, and kept where its z-depth is beyond the near
plane. A pixel's key holds depth and face in 64 bits: nearer faces have smaller keys, of equal ones the first counts.
"""

import triton
import triton.language as tl

from ex4d.raster import HALF_STEP, SLACK_PX
from ex4d.raster.native_frustum import FAR
from ex4d.raster.native_geometry import NEAR, at, edges

SLACK = tl.constexpr(SLACK_PX)
ROUNDING = tl.constexpr(1e-7)  # pixels; neighbours never leave a crack where a sample lies on their edge
STEP = tl.constexpr(HALF_STEP)  # reference convention only
FOREVER = tl.constexpr(float("inf"))

NOTHING = 2**63 - 1  # key of a pixel that no face covers
EMPTY = tl.constexpr(NOTHING)
LARGEST_FLOAT = tl.constexpr(0x7F7FFFFF)  # the bits of the largest float32: positive floats sort like their bits


@triton.jit
def span(edge):
    """How much an edge function changes over a pixel to the side and a pixel down."""
    return tl.abs(edge[0]) + tl.abs(edge[1])


@triton.jit
def _least(edge, depths):
    """The smallest value of an edge function that counts as inside (reference): see HALF_STEP in raster/__init__.py.

    depths: of the edge's two ends, multiplied; the edge function's factors are the edge's -dy and dx times that.
    """
    near_zero = tl.abs(depths) * STEP
    left_out = (edge[0] < -near_zero) | ((edge[0] <= near_zero) & (edge[1] <= near_zero))
    return tl.where(left_out, near_zero, -near_zero)


@triton.jit
def face_setup(p0, p1, p2, shows, exact: tl.constexpr):
    """All that `cover` needs of a face. shows: whether it shows the plate.

    back: how much inverse depth an occluder loses; least: what it keeps at least, that of its farthest corner.
    """
    n0, n1, n2, volume = edges(p0, p1, p2)
    plate = shows & (volume > 0) & exact
    if exact:
        slack = tl.where(plate, SLACK, ROUNDING)
        least0, least1, least2 = -slack * span(n0), -slack * span(n1), -slack * span(n2)
    else:
        least0, least1, least2 = _least(n0, p1[2] * p2[2]), _least(n1, p2[2] * p0[2]), _least(n2, p0[2] * p1[2])
    seen = volume != 0  # a face seen edge on covers nothing
    leasts = (tl.where(seen, least0, FOREVER), tl.where(seen, least1, FOREVER), tl.where(seen, least2, FOREVER))
    slope = tl.abs(n0[0] + n1[0] + n2[0]) + tl.abs(n0[1] + n1[1] + n2[1])
    back = slope * SLACK / tl.where(volume != 0, tl.abs(volume), 1.0)
    least = 1.0 / tl.maximum(tl.maximum(p0[2], tl.maximum(p1[2], p2[2])), NEAR)
    return (n0, n1, n2), leasts, (p0[2], p1[2], p2[2]), (plate, back, least)


@triton.jit
def cover(setup, face, x, y, exact: tl.constexpr):
    """The face's key at the sample (x, y), EMPTY where it does not cover it. Nearer faces have smaller keys."""
    sides, leasts, z, occluder = setup
    plate, back, least = occluder
    w0, w1, w2 = at(sides[0], x, y), at(sides[1], x, y), at(sides[2], x, y)
    covered = (w0 >= leasts[0]) & (w1 >= leasts[1]) & (w2 >= leasts[2])
    w0, w1, w2 = tl.maximum(w0, 0.0), tl.maximum(w1, 0.0), tl.maximum(w2, 0.0)
    total, weighted = w0 + w1 + w2, w0 * z[0] + w1 * z[1] + w2 * z[2]
    covered = covered & (total > 0) & (weighted >= total * (NEAR * (1 - 1e-12)))
    inverse = total / tl.where(covered, weighted, 1.0)
    if exact:
        pushed = tl.maximum(least, inverse - back) * (1 - 1e-6)  # 1e-6: above float32 rounding, level ones lose too
        inverse = tl.where(plate, inverse, pushed)
    else:
        covered = covered & (inverse >= 1 / FAR)
    bits = inverse.to(tl.float32).to(tl.int32, bitcast=True)
    key = ((-bits + LARGEST_FLOAT).to(tl.int64) << 32) | face
    return tl.where(covered, key, EMPTY)


@triton.jit
def box_samples(low_x, high_x, low_y, high_y, reach, width, height):
    """First and last column and row of the samples in a box; none where first > last."""
    first = tl.ceil(tl.minimum(tl.maximum(low_x - 0.5 - reach, 0.0), 32768.0)).to(tl.int32)
    last = tl.floor(tl.minimum(tl.maximum(high_x - 0.5 + reach, -1.0), width - 1.0)).to(tl.int32)
    row_first = tl.ceil(tl.minimum(tl.maximum(low_y - 0.5 - reach, 0.0), 32768.0)).to(tl.int32)
    row_last = tl.floor(tl.minimum(tl.maximum(high_y - 0.5 + reach, -1.0), height - 1.0)).to(tl.int32)
    return first, last, row_first, row_last


@triton.jit
def _stretch(box, p, q):
    """Widen a box (low x, high x, low y, high y) by corner p and by where the edge from p to q meets the near plane."""
    low_x, high_x, low_y, high_y = box
    before, crossing = p[2] >= NEAR, (p[2] >= NEAR) != (q[2] >= NEAR)
    inverse = 1.0 / tl.where(before, p[2], 1.0)
    t = (p[2] - NEAR) / tl.where(crossing, p[2] - q[2], 1.0)
    cut_x, cut_y = (p[0] + t * (q[0] - p[0])) / NEAR, (p[1] + t * (q[1] - p[1])) / NEAR
    x, y = p[0] * inverse, p[1] * inverse
    low_x = tl.minimum(low_x, tl.minimum(tl.where(before, x, low_x), tl.where(crossing, cut_x, low_x)))
    high_x = tl.maximum(high_x, tl.maximum(tl.where(before, x, high_x), tl.where(crossing, cut_x, high_x)))
    low_y = tl.minimum(low_y, tl.minimum(tl.where(before, y, low_y), tl.where(crossing, cut_y, low_y)))
    high_y = tl.maximum(high_y, tl.maximum(tl.where(before, y, high_y), tl.where(crossing, cut_y, high_y)))
    return low_x, high_x, low_y, high_y


@triton.jit
def face_samples(p0, p1, p2, reach, width, height):
    """The samples of a face's box, as `box_samples`, with the face cut at the near plane."""
    huge = p0[0] * 0.0 + 1e30
    box = _stretch((huge, -huge, huge, -huge), p0, p1)
    box = _stretch(box, p1, p2)
    box = _stretch(box, p2, p0)
    return box_samples(box[0], box[1], box[2], box[3], reach, width, height)


@triton.jit
def meets(edge, least, first, last, row_first, row_last):
    """Whether an edge function is positive anywhere on a box of samples."""
    x = tl.where(edge[0] > 0, last, first) + 0.5
    y = tl.where(edge[1] > 0, row_last, row_first) + 0.5
    return at(edge, x, y) >= least


@triton.jit
def span_of_row(setup, y, first, last):
    """The first and last column of a face's samples on rows; `cover` decides, this may be one sample too wide."""
    left, right = y * 0.0 + first, y * 0.0 + last
    for k in tl.static_range(3):
        edge, least = setup[0][k], setup[1][k]
        crossing = (least - edge[1] * y - edge[2]) / tl.where(edge[0] != 0, edge[0], 1.0) - 0.5
        left = tl.where(edge[0] > 0, tl.maximum(left, crossing - 1 / 64), left)
        right = tl.where(edge[0] < 0, tl.minimum(right, crossing + 1 / 64), right)
    left, right = tl.ceil(tl.minimum(left, last + 1.0)), tl.floor(tl.maximum(right, first - 1.0))
    return left.to(tl.int32), right.to(tl.int32)
