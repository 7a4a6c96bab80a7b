# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The reference convention's last step, in Triton: edge antialiasing as the release has it from nvdiffrast.

Where two neighbouring pixels show different faces, the nearer face's edge that passes between their centres is looked
for. If the mesh folds or ends at that edge, the pixel that the edge cuts takes a share of its neighbour's RGBA, up to
half of it. After S. Laine et al., Modular Primitives for High-Performance Differentiable Rendering, 2020, section 3.
"""

import triton
import triton.language as tl

from ex4d.raster import ALPHA_THRESHOLD, EDGE_REACH_PX
from ex4d.raster.native_cover import EMPTY
from ex4d.raster.native_geometry import cell_sides, face_corners, matrix, point
from ex4d.raster.native_launch import kernel

ALPHA_LIMIT = tl.constexpr(255 * ALPHA_THRESHOLD)
REACH = tl.constexpr(EDGE_REACH_PX)
NEVER = tl.constexpr(-1e30)


@triton.jit
def _vertex(depth, ray_x, ray_y, camera, columns, j, i, x, y):
    """A vertex on the picture, from the point (x, y)."""
    p = point(depth, ray_x, ray_y, camera, columns, j, i)
    inverse = 1.0 / tl.where(p[2] != 0, p[2], 1e-30)
    return p[0] * inverse - x, p[1] * inverse - y


@triton.jit
def _turn(p, q, r):
    """Whether three points turn left, as twice the area between them."""
    return (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1])


@triton.jit
def _crossing(p, q, silhouette, side, down):
    """Where the edge from p to q meets the line to the neighbour, in pixels; NEVER if it does not, and whether it may.

    Only edges that are steep against that line count.
    """
    px, py = tl.where(down, p[1], p[0]), tl.where(down, p[0], p[1])
    qx, qy = tl.where(down, q[1], q[0]), tl.where(down, q[0], q[1])
    dx, dy = qx - px, qy - py
    meets = (py < 0) != (qy < 0)
    place = tl.where(meets, side * (px * dy - py * dx) / tl.where(meets, dy, 1.0), NEVER)
    return place, silhouette & (tl.abs(dy) >= tl.abs(dx))


@triton.jit
def _share(depth, ray_x, ray_y, camera, rows, columns, face, x, y, side, down):
    """How far from (x, y) towards its neighbour a silhouette of the face there passes, in pixels; NEVER without one.

    side: 1 when the neighbour lies to the right or below, else -1.
    """
    cell, second = face // 2, face % 2 == 1
    top, bottom, left, right = cell_sides(cell, rows, columns)
    closing = cell == (rows - 1) * (columns - 1)
    j0, i0, j1, i1, j2, i2 = face_corners(face, rows, columns)
    # The corners beyond the sides opposite to them; where the mesh ends at a side, the corner itself.
    wing0 = ~closing & tl.where(second, right + 1 < columns, top > 0)
    wing1 = ~second | (~closing & (bottom + 1 < rows))
    wing2 = second | (~closing & (left > 0))
    oj0 = tl.where(wing0, tl.where(second, top, top - 1), j0)
    oi0 = tl.where(wing0, tl.where(second, right + 1, right), i0)
    oj1 = tl.where(wing1, tl.where(second, bottom + 1, bottom), j1)
    oi1 = tl.where(wing1, tl.where(second, left, right), i1)
    oj2 = tl.where(wing2, tl.where(second, top, bottom), j2)
    oi2 = tl.where(wing2, tl.where(second, left, left - 1), i2)
    p0 = _vertex(depth, ray_x, ray_y, camera, columns, j0, i0, x, y)
    p1 = _vertex(depth, ray_x, ray_y, camera, columns, j1, i1, x, y)
    p2 = _vertex(depth, ray_x, ray_y, camera, columns, j2, i2, x, y)
    o0 = _vertex(depth, ray_x, ray_y, camera, columns, oj0, oi0, x, y)
    o1 = _vertex(depth, ray_x, ray_y, camera, columns, oj1, oi1, x, y)
    o2 = _vertex(depth, ray_x, ray_y, camera, columns, oj2, oi2, x, y)
    turned = _turn(p0, p1, p2) < 0  # a side is a silhouette when the next face folds back over this one
    place0, may0 = _crossing(p1, p2, (_turn(o0, p1, p2) < 0) == turned, side, down)
    place1, may1 = _crossing(p2, p0, (_turn(o1, p2, p0) < 0) == turned, side, down)
    place2, may2 = _crossing(p0, p1, (_turn(o2, p0, p1) < 0) == turned, side, down)
    place = tl.maximum(tl.maximum(place0, place1), place2)
    may = tl.where(place == place0, may0, tl.where(place == place1, may1, may2))
    return tl.where(may, place, NEVER)


@kernel
def finish(
    depth,
    ray_x,
    ray_y,
    matrices,
    source,
    rows,
    columns,
    width,
    height,
    keys,
    rgba,
    nearness,
    color,
    mask,
    block: tl.constexpr,
):
    """Blend, then cut the mask and truncate. rgba, nearness: see `shade`. Grid: [blocks of pixels, N]."""
    n = tl.program_id(1).to(tl.int64)
    depth += tl.load(source + n).to(tl.int64) * rows * columns
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    alive = pixel < width * height
    pixel = tl.where(alive, pixel, 0)
    y = pixel // width
    x = pixel - y * width
    keys += n * width * height + pixel
    rgba += (n * width * height + pixel) * 4
    nearness += n * width * height + pixel
    key, near = tl.load(keys), tl.load(nearness)
    red, green = tl.load(rgba), tl.load(rgba + 1)
    blue, opacity = tl.load(rgba + 2), tl.load(rgba + 3)
    own0, own1, own2, own3 = red, green, blue, opacity
    camera = matrix(matrices, n)
    for direction in range(4):  # right, down, left, up
        down, towards = direction % 2 == 1, 1 - direction // 2 * 2
        step = towards * tl.where(down, width, 1)
        beside_x, beside_y = x + tl.where(down, 0, towards), y + tl.where(down, towards, 0)
        pair = alive & (beside_x >= 0) & (beside_x < width) & (beside_y >= 0) & (beside_y < height)
        other = tl.load(keys + step, mask=pair, other=EMPTY)
        pair = pair & ((key & 0xFFFFFFFF) != (other & 0xFFFFFFFF))
        if tl.max(pair.to(tl.int32)) > 0:
            # Of equally near faces, that of the pixel to the right or below.
            near_other = tl.load(nearness + step, mask=pair, other=0.0)
            mine = (near > near_other) | ((near == near_other) & (direction >= 2))
            face = tl.where(pair, tl.where(mine, key, other) & 0xFFFFFFFF, 0).to(tl.int32)
            at_x, at_y = tl.where(mine, x, beside_x) + 0.5, tl.where(mine, y, beside_y) + 0.5
            side = tl.where(mine, towards, -towards).to(tl.float64)
            place = _share(depth, ray_x, ray_y, camera, rows, columns, face, at_x, at_y, side, down)
            passes = pair & (place > -REACH) & (place < 1 + REACH)
            place = tl.minimum(tl.maximum(place, 0.0), 1.0)
            # `place` counts from the nearer face's pixel: short of the middle the edge cuts that one, else the other.
            share = tl.where(mine, 0.5 - place, place - 0.5)
            share = tl.where(passes & (share > 0), share, 0.0).to(tl.float32)
            red += share * (tl.load(rgba + step * 4, mask=pair, other=0.0) - own0)
            green += share * (tl.load(rgba + step * 4 + 1, mask=pair, other=0.0) - own1)
            blue += share * (tl.load(rgba + step * 4 + 2, mask=pair, other=0.0) - own2)
            opacity += share * (tl.load(rgba + step * 4 + 3, mask=pair, other=0.0) - own3)
    seen = opacity > ALPHA_LIMIT
    color += (n * width * height + pixel) * 3
    # Truncated; 1e-3, well above float32's rounding, so that a whole number stays whole.
    tl.store(color, tl.where(seen, red + 1e-3, 0.0).to(tl.uint8), mask=alive)
    tl.store(color + 1, tl.where(seen, green + 1e-3, 0.0).to(tl.uint8), mask=alive)
    tl.store(color + 2, tl.where(seen, blue + 1e-3, 0.0).to(tl.uint8), mask=alive)
    tl.store(mask + n * width * height + pixel, seen.to(tl.uint8), mask=alive)
