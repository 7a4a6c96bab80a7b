# SPDX-License-Identifier: Apache-2.0
"""The reference convention's last step for the processor rasteriser: what antialias.py computes, in compiled loops."""

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import ALPHA_THRESHOLD, EDGE_REACH_PX
from ex4d.raster.cpu_grid import Canvas, Grid

ALPHA_LIMIT = np.float32(255 * ALPHA_THRESHOLD)
WHOLE = np.float32(1e-3)  # well above float32's rounding, so that a whole number stays whole when truncated

Point = tuple[float, float]


@compiled
def place_vertices(grid: Grid, vertices: Array, begin: int, end: int) -> None:
    """Fill rows begin..end of vertices, float64 [H', W', 2]: pixels, meaningless before the near plane."""
    ray_x, ray_y, depth, matrix, _ = grid
    x0, y0, z0 = matrix[0, 0], matrix[1, 0], matrix[2, 0]
    for j in range(begin, end):
        x1 = matrix[0, 1] * ray_y[j] + matrix[0, 2]
        y1 = matrix[1, 1] * ray_y[j] + matrix[1, 2]
        z1 = matrix[2, 1] * ray_y[j] + matrix[2, 2]
        for i in range(depth.shape[1]):
            d = np.float64(depth[j, i])
            z = d * (z0 * ray_x[i] + z1) + matrix[2, 3]
            vertices[j, i, 0] = (d * (x0 * ray_x[i] + x1) + matrix[0, 3]) / z
            vertices[j, i, 1] = (d * (y0 * ray_x[i] + y1) + matrix[1, 3]) / z


@compiled
def _vertex(vertices: Array, j: int, i: int) -> Point:
    return vertices[j, i, 0], vertices[j, i, 1]


@compiled
def _turn(a: Point, b: Point, c: Point) -> float:
    """Twice the area of a triangle, above 0 when it turns like x to y."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@compiled
def find_turns(vertices: Array, turned: Array, begin: int, end: int) -> None:
    """Fill rows begin..end of turned, bool [H'-1, W'-1, 2]: whether a cell's faces turn against x to y."""
    for j in range(begin, end):
        b, e = _vertex(vertices, j, 0), _vertex(vertices, j + 1, 0)
        for i in range(vertices.shape[1] - 1):
            a, c = b, e
            b, e = _vertex(vertices, j, i + 1), _vertex(vertices, j + 1, i + 1)
            turned[j, i, 0], turned[j, i, 1] = _turn(c, a, b) < 0, _turn(c, b, e) < 0


@compiled
def _on_outline(turned: Array, face: int) -> bool:
    """Whether the mesh ends or folds at a side of the face. That is few of a picture's faces."""
    j, i, last_j, last_i = face >> 16, (face >> 1) & 0x7FFF, turned.shape[0] - 1, turned.shape[1] - 1
    if j > last_j:  # the closing quad
        return True
    own, other = turned[j, i, face & 1], turned[j, i, 1 - (face & 1)]
    if own != other or (j == last_j or i == last_i if face & 1 else j == 0 or i == 0):
        return True
    beside = 1 if face & 1 else -1
    return bool(own != turned[j + beside, i, 1 - (face & 1)] or own != turned[j, i + beside, 1 - (face & 1)])


@compiled
def _crossing(p: Point, q: Point, beyond: Point, turned: bool, side: float, down: bool) -> tuple[float, bool]:
    """Where the side from p to q meets the line to the neighbour, pixels, -inf if it does not; and whether it counts.

    All points are measured from the pixel's centre. beyond: the corner of the face on the other side of that side.
    """
    folds = (_turn(beyond, p, q) < 0) == turned
    (px, py), (qx, qy) = ((p[1], p[0]), (q[1], q[0])) if down else (p, q)
    along, across = qx - px, qy - py
    place = side * (px - py * along / across) if (py < 0) != (qy < 0) else -np.inf
    return place, folds and abs(across) >= abs(along)


@compiled
def _silhouette(vertices: Array, face: int, x: float, y: float, side: float, down: bool) -> float:
    """How far from (x, y) towards its neighbour a silhouette of the face there passes, pixels; -inf for none.

    side: 1 when the neighbour lies to the right or below, else -1.
    """
    rows, columns = vertices.shape[:2]
    j, i, second = face >> 16, (face >> 1) & 0x7FFF, face & 1 == 1
    closing = j == rows - 1
    top, bottom, left, right = (0, rows - 1, columns - 1, 0) if closing else (j, j + 1, i, i + 1)
    # The corners (c, a, b) or (c, b, e), and those beyond the sides opposite to them. Where the mesh ends at a side,
    # the corner itself stands for the one beyond, so that the side is a silhouette.
    j0, i0, j1, i1 = bottom, left, top, right if second else left
    j2, i2 = (bottom, right) if second else (top, right)
    if second:
        oj0, oi0 = (top, right + 1) if not closing and right + 1 < columns else (j0, i0)
        oj1, oi1 = (bottom + 1, left) if not closing and bottom + 1 < rows else (j1, i1)
        oj2, oi2 = top, left
    else:
        oj0, oi0 = (top - 1, right) if not closing and top > 0 else (j0, i0)
        oj1, oi1 = bottom, right
        oj2, oi2 = (bottom, left - 1) if not closing and left > 0 else (j2, i2)
    p0, p1 = (vertices[j0, i0, 0] - x, vertices[j0, i0, 1] - y), (vertices[j1, i1, 0] - x, vertices[j1, i1, 1] - y)
    p2, o0 = (vertices[j2, i2, 0] - x, vertices[j2, i2, 1] - y), (vertices[oj0, oi0, 0] - x, vertices[oj0, oi0, 1] - y)
    o1, o2 = (
        (vertices[oj1, oi1, 0] - x, vertices[oj1, oi1, 1] - y),
        (vertices[oj2, oi2, 0] - x, vertices[oj2, oi2, 1] - y),
    )
    turned = _turn(p0, p1, p2) < 0
    nearest, counts = -np.inf, False
    for start, end, beyond in ((p1, p2, o0), (p2, p0, o1), (p0, p1, o2)):
        place, may = _crossing(start, end, beyond, turned, side, down)
        if np.isnan(place):  # a vertex in the camera plane
            return -np.inf
        if place > nearest:
            nearest, counts = place, may
    return nearest if counts else -np.inf


@compiled
def find_shares(canvas: Canvas, vertices: Array, turned: Array, shares: Array, begin: int, end: int) -> None:
    """Fill rows begin..end of shares, float64 [h, w, 2].

    What each pixel takes of its neighbour to the right and below; below 0: what the neighbour takes of it.
    """
    faces, nearest = canvas.faces, canvas.nearest
    height, width = faces.shape
    for y in range(begin, end):
        for x in range(width):
            for down in range(2):
                shares[y, x, down] = 0.0
                beside_y, beside_x = y + down, x + 1 - down
                if beside_y == height or beside_x == width:
                    continue
                # The nearer one's face counts; of equals that of the pixel to the right or below.
                first = nearest[y, x] > nearest[beside_y, beside_x]
                face, other = faces[y, x], faces[beside_y, beside_x]
                if not first:
                    face, other = other, face
                if face < 0 or face == other or not _on_outline(turned, face):
                    continue
                side = 1.0 if first else -1.0
                centre_y, centre_x = (y + 0.5, x + 0.5) if first else (beside_y + 0.5, beside_x + 0.5)
                place = _silhouette(vertices, face, centre_x, centre_y, side, down == 1)
                if -EDGE_REACH_PX < place < 1 + EDGE_REACH_PX:
                    shares[y, x, down] = side * (0.5 - min(max(place, 0.0), 1.0))


@compiled
def _blended(own: float, rgba: Array, at: tuple[int, int], other: tuple[int, int], channel: int, share: float) -> float:
    (y, x), (other_y, other_x) = at, other
    return float(np.float32(own + share * (rgba[other_y, other_x, channel] - rgba[y, x, channel])))


@compiled
def finish_band(shares: Array, rgba: Array, color: Array, mask: Array, begin: int, end: int) -> None:
    """Blend the edges of rows begin..end, then cut the mask and truncate. rgba: float32 [h, w, 4], 0 to 255"""
    width = mask.shape[1]
    for y in range(begin, end):
        for x in range(width):
            red, green, blue, alpha = rgba[y, x, 0], rgba[y, x, 1], rgba[y, x, 2], rgba[y, x, 3]
            right, below = shares[y, x, 0], shares[y, x, 1]
            left, above = -shares[y, x - 1, 0] if x > 0 else 0.0, -shares[y - 1, x, 1] if y > 0 else 0.0
            if right > 0 or left > 0 or below > 0 or above > 0:
                beside = ((right, y, x + 1), (left, y, x - 1), (below, y + 1, x), (above, y - 1, x))
                for share, other_y, other_x in beside:
                    if share > 0:
                        at, other = (y, x), (other_y, other_x)
                        red = _blended(red, rgba, at, other, 0, share)
                        green = _blended(green, rgba, at, other, 1, share)
                        blue = _blended(blue, rgba, at, other, 2, share)
                        alpha = _blended(alpha, rgba, at, other, 3, share)
            seen = alpha > ALPHA_LIMIT
            mask[y, x] = seen
            color[y, x, 0] = red + WHOLE if seen else 0
            color[y, x, 1] = green + WHOLE if seen else 0
            color[y, x, 2] = blue + WHOLE if seen else 0
