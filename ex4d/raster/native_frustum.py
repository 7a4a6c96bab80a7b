# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The cuts of frustum.py in Triton."""

import triton
import triton.language as tl

from ex4d.raster import FAR_DEPTH
from ex4d.raster import SUBPIXELS as STEPS
from ex4d.raster.native_geometry import NEAR

FAR = tl.constexpr(FAR_DEPTH)
SUBPIXELS = tl.constexpr(STEPS)
ROOM = tl.constexpr(16)  # a triangle cut by six planes has 9 corners at most; Triton wants a power of two


@triton.jit
def snapped(p, width, height):
    """A point moved to the sub-pixel grid, which counts from the picture's middle; unchanged before the near plane."""
    before = p[2] >= NEAR
    inverse = 1.0 / tl.where(before, p[2], 1.0)
    x = tl.floor((p[0] * inverse - width * 0.5) * SUBPIXELS + 0.5) / SUBPIXELS + width * 0.5
    y = tl.floor((p[1] * inverse - height * 0.5) * SUBPIXELS + 0.5) / SUBPIXELS + height * 0.5
    return tl.where(before, x * p[2], p[0]), tl.where(before, y * p[2], p[1]), p[2]


@triton.jit
def in_frustum(p, width, height):
    """Whether a point lies in the picture between the planes."""
    in_picture = (p[0] >= 0) & (p[0] <= width * p[2]) & (p[1] >= 0) & (p[1] <= height * p[2])
    return in_picture & (p[2] >= NEAR) & (p[2] <= FAR)


@triton.jit
def _distance(x, y, z, plane, width, height):
    """How far inside of a plane points lie: left, right, top, bottom, near, far."""
    along, side = tl.where(plane < 2, x, y), tl.where(plane < 2, width, height)
    in_picture = tl.where(plane % 2 == 0, along, side * z - along)
    return tl.where(plane < 4, in_picture, tl.where(plane == 4, z - NEAR, FAR - z))


@triton.jit
def in_room(p0, p1, p2):
    """A face's corners as x z, y z and z, float64 [ROOM] each, and their count."""
    slot = tl.arange(0, ROOM)
    x = tl.where(slot == 0, p0[0], tl.where(slot == 1, p1[0], p2[0]))
    y = tl.where(slot == 0, p0[1], tl.where(slot == 1, p1[1], p2[1]))
    z = tl.where(slot == 0, p0[2], tl.where(slot == 1, p1[2], p2[2]))
    return x, y, z, 3


@triton.jit
def cut_at_frustum(x, y, z, count, width, height):
    """What of a face lies in the picture between the planes. x, y, z, count and result: see `in_room`."""
    slot = tl.arange(0, ROOM)
    for plane in range(6):
        there = slot < count
        here = tl.where(there, _distance(x, y, z, plane, width, height), 0.0)
        if tl.min(here) < 0:
            previous = tl.where(slot == 0, count, slot) - 1
            x0, y0, z0 = tl.gather(x, previous, 0), tl.gather(y, previous, 0), tl.gather(z, previous, 0)
            before = tl.gather(here, previous, 0)
            cut = there & (((before < 0) & (here > 0)) | ((here < 0) & (before > 0)))
            kept = there & (here >= 0)
            entering = here > 0  # cuts go from the inside outwards, so that both faces of an edge cut it alike
            share = tl.maximum(here, before) / tl.where(cut, tl.abs(here - before), 1.0)
            cut_x = tl.where(entering, x + share * (x0 - x), x0 + share * (x - x0))
            cut_y = tl.where(entering, y + share * (y0 - y), y0 + share * (y - y0))
            cut_z = tl.where(entering, z + share * (z0 - z), z0 + share * (z - z0))
            made = cut.to(tl.int32) + kept.to(tl.int32)
            end = tl.cumsum(made, 0)
            count = tl.sum(made)
            # Of each corner there will be: after how many of the others, that is from which of them, it is made.
            source = tl.minimum(tl.sum((end[None, :] <= slot[:, None]).to(tl.int32), 1), ROOM - 1)
            # Of two that one makes, the cut comes first.
            uncut = (tl.gather(kept.to(tl.int32), source, 0) > 0) & (slot == tl.gather(end, source, 0) - 1)
            x = tl.where(uncut, tl.gather(x, source, 0), tl.gather(cut_x, source, 0))
            y = tl.where(uncut, tl.gather(y, source, 0), tl.gather(cut_y, source, 0))
            z = tl.where(uncut, tl.gather(z, source, 0), tl.gather(cut_z, source, 0))
    return x, y, tl.maximum(z, NEAR), count  # the near plane's cuts lie on it but for rounding


@triton.jit
def corner(x, y, z, k):
    """Corner k of a cut face."""
    wanted = tl.arange(0, ROOM) == k
    return (
        tl.sum(tl.where(wanted, x, 0.0), 0),
        tl.sum(tl.where(wanted, y, 0.0), 0),
        tl.sum(tl.where(wanted, z, 0.0), 0),
    )
