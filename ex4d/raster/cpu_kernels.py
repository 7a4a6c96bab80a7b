# SPDX-License-Identifier: Apache-2.0
"""The loops of the processor rasteriser: project the grid's vertices, draw a band of the picture, shade it.

They share one file because numba's store on disk looks at the time of a function's own file only: a change in another
one would leave old machine code in use.
"""

from typing import NamedTuple

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import FAR_DEPTH, NEAR_DEPTH, SLACK_PX

SEGMENT = 32  # cells of one grid row that are skipped together
SMALL_PX = 6  # a cell of at most this many samples across is tested sample by sample
WEIGHT_BITS = 12  # texture weights are whole numbers of 1 / 4096: faster than floats, error below 0.2 grey levels
WEIGHT_STEPS = 1 << WEIGHT_BITS
ROUNDING_PX = 1e-7  # covers rounding of the edge functions, so that neighbours never leave a crack

Weights = tuple[float, float, float, float, float]
Corner = tuple[float, float, float]  # x and y in pixels and 1 / z; 1 / z is 0 before the near plane


class Grid(NamedTuple):
    """The mesh before one camera."""

    ray_x: Array  # float64 [W'], x / z of each column
    ray_y: Array  # float64 [H'], y / z of each row
    depth: Array  # float32 [H', W'], in the source camera's frame
    matrix: Array  # float64 [3, 4], from a point of the source camera's frame to (x z, y z, z), x and y in pixels
    screen: Array  # float32 [H', W', 3], each vertex as a `Corner`; reference: on a grid of sub-pixels


class Canvas(NamedTuple):
    """The band of the picture that one call draws."""

    exact: bool  # the convention
    begin: int  # first row
    end: int  # the row after the last
    nearest: Array  # float32 [h, w], largest 1 / z so far, 0 for nothing
    faces: Array  # int32 [h, w], whose it is: `_face_code`, -1 for nothing


@compiled
def project(grid: Grid, begin: int, end: int, spans: Array, subpixels: int, middle_x: float, middle_y: float) -> None:
    """Fill rows begin..end of the grid's screen and of spans.

    subpixels: steps per pixel of the grid that vertices move to, counted from the picture's middle; 0 for none.

    spans [H, S, 2]: lowest and highest y of each segment's vertices; infinite when one lies before the near plane.
    """
    ray_x, ray_y, depth, matrix, screen = grid
    columns = depth.shape[1]
    for j in range(begin, end):
        x0, x1 = matrix[0, 1] * ray_y[j] + matrix[0, 2], matrix[0, 0]
        y0, y1 = matrix[1, 1] * ray_y[j] + matrix[1, 2], matrix[1, 0]
        z0, z1 = matrix[2, 1] * ray_y[j] + matrix[2, 2], matrix[2, 0]
        for i in range(columns):
            d = np.float64(depth[j, i])
            z = d * (z0 + z1 * ray_x[i]) + matrix[2, 3]
            inverse_z = 1.0 / z if z >= NEAR_DEPTH else 0.0
            x = (d * (x0 + x1 * ray_x[i]) + matrix[0, 3]) * inverse_z
            y = (d * (y0 + y1 * ray_x[i]) + matrix[1, 3]) * inverse_z
            if subpixels > 0:
                x = np.floor((x - middle_x) * subpixels + 0.5) / subpixels + middle_x
                y = np.floor((y - middle_y) * subpixels + 0.5) / subpixels + middle_y
            screen[j, i, 0], screen[j, i, 1] = x, y
            screen[j, i, 2] = inverse_z
        for s in range(spans.shape[1]):
            low, high = np.float32(np.inf), np.float32(-np.inf)
            for i in range(s * SEGMENT, min(columns, (s + 1) * SEGMENT + 1)):
                if screen[j, i, 2] == 0:
                    low, high = np.float32(-np.inf), np.float32(np.inf)
                    break
                low, high = min(low, screen[j, i, 1]), max(high, screen[j, i, 1])
            spans[j, s, 0], spans[j, s, 1] = low, high


@compiled
def _vertex(screen: Array, j: int, i: int) -> Corner:
    """A vertex in double precision. screen: float32 [H, W, 3]"""
    return np.float64(screen[j, i, 0]), np.float64(screen[j, i, 1]), np.float64(screen[j, i, 2])


@compiled
def _lower(a: float, b: float) -> float:
    """min for numbers that are never NaN: one instruction."""
    return a if a < b else b


@compiled
def _higher(a: float, b: float) -> float:
    return a if a > b else b


@compiled
def _keep_nearest(weights: Corner, inverse: Corner, slope: float, face: int, y: int, x: int, canvas: Canvas) -> None:
    """Give pixel (x, y) to the face if it is nearer than what is there.

    weights: of the corners on the screen, not normalised, below 0 just outside. inverse: 1 / z of the corners.
    slope: how far an occluder is pushed back, in inverse depth; 0 for plate faces.
    """
    w0, w1, w2 = _higher(weights[0], 0.0), _higher(weights[1], 0.0), _higher(weights[2], 0.0)
    (q0, q1, q2), nearest = inverse, canvas.nearest
    total = w0 + w1 + w2
    if total <= 0:
        return
    weighted = w0 * q0 + w1 * q1 + w2 * q2
    if weighted <= total * nearest[y, x]:  # farther: spares the division
        return
    q = weighted / total
    if slope > 0:
        q = max(min(q0, q1, q2), q - slope) * (1 - 1e-6)  # 1e-6: above float32 rounding, level occluders lose too
    stored = np.float32(q)
    if stored > nearest[y, x] and (canvas.exact or q >= 1.0 / FAR_DEPTH):
        nearest[y, x] = stored
        canvas.faces[y, x] = face


@compiled
def _draw_triangle(corner0: Corner, corner1: Corner, corner2: Corner, shows: bool, face: int, canvas: Canvas) -> None:
    """Draw one face of any size. shows: whether it shows the plate."""
    (x0, y0, q0), (x1, y1, q1), (x2, y2, q2) = corner0, corner1, corner2
    inverse, exact = (q0, q1, q2), canvas.exact
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    if area == 0 or not np.isfinite(area):
        return
    sign = 1.0 if area > 0 else -1.0
    plate = exact and shows and area > 0
    slack = SLACK_PX if plate else ROUNDING_PX
    # Weight of corner k at (x, y): a_k x + b_k y + c_k, positive inside.
    a0, b0 = -(y2 - y1) * sign, (x2 - x1) * sign
    a1, b1 = -(y0 - y2) * sign, (x0 - x2) * sign
    a2, b2 = -(y1 - y0) * sign, (x1 - x0) * sign
    s0, s1, s2 = slack * (abs(a0) + abs(b0)), slack * (abs(a1) + abs(b1)), slack * (abs(a2) + abs(b2))
    slope = 0.0
    if exact and not plate:
        slope = abs(a0 * q0 + a1 * q1 + a2 * q2) + abs(b0 * q0 + b1 * q1 + b2 * q2)
        slope = SLACK_PX * slope / abs(area) + 1e-30
    width = canvas.nearest.shape[1]
    low, high = min(x0, x1, x2) - 0.5 - slack, max(x0, x1, x2) - 0.5 + slack
    first, last = int(np.ceil(max(low, 0.0))), int(np.floor(min(high, width - 1.0)))
    row_first = int(np.ceil(max(min(y0, y1, y2) - 0.5 - slack, float(canvas.begin))))
    row_last = int(np.floor(min(max(y0, y1, y2) - 0.5 + slack, canvas.end - 1.0)))
    per_a0, per_a1, per_a2 = 1.0 / a0, 1.0 / a1, 1.0 / a2  # infinite for a level side, and then unused
    for y in range(row_first, row_last + 1):
        py = y + 0.5
        r0, r1, r2 = b0 * (py - y1) - a0 * x1, b1 * (py - y2) - a1 * x2, b2 * (py - y0) - a2 * x0
        # The part of the row that can be inside; one pixel more on both sides, for rounding.
        left, right = float(first), float(last)
        for a, per_a, r, s in ((a0, per_a0, r0, s0), (a1, per_a1, r1, s1), (a2, per_a2, r2, s2)):
            if a > 0:
                left = _higher(left, (-s - r) * per_a - 1.5)
            elif a < 0:
                right = _lower(right, (-s - r) * per_a + 0.5)
        if not left <= right:
            continue
        for x in range(int(left), int(right) + 1):
            px = x + 0.5
            w0 = (px - x1) * a0 + (py - y1) * b0
            w1 = (px - x2) * a1 + (py - y2) * b1
            w2 = (px - x0) * a2 + (py - y0) * b2
            if w0 >= -s0 and w1 >= -s1 and w2 >= -s2:
                _keep_nearest((w0, w1, w2), inverse, slope, face, y, x, canvas)


@compiled
def _homogeneous(grid: Grid, j: int, i: int) -> tuple[float, float, float]:
    """(x z, y z, z) of a vertex, also before the near plane."""
    matrix = grid.matrix
    d = np.float64(grid.depth[j, i])
    x, y = d * grid.ray_x[i], d * grid.ray_y[j]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * d + matrix[0, 3],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * d + matrix[1, 3],
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * d + matrix[2, 3],
    )


@compiled
def _face_code(j: int, i: int, k: int) -> int:
    """A face in 32 bits: row and column of its cell (MAX_SIDE_PX fits into 15 bits) and 0 or 1.

    The closing quad is the cell (H' - 1, 0), one row below the last. Shifts, since divisions cost more than the rest.
    """
    return (j << 16) | (i << 1) | k


@compiled
def _corners(face: int, rows: int, columns: int) -> tuple[int, int, int, int, int, int]:
    """Row and column of the three corners of a face."""
    j, i = face >> 16, (face >> 1) & 0x7FFF
    if j == rows - 1:
        if face & 1:
            return rows - 1, columns - 1, 0, 0, rows - 1, 0
        return 0, columns - 1, 0, 0, rows - 1, columns - 1
    if face & 1:
        return j + 1, i, j, i + 1, j + 1, i + 1
    return j + 1, i, j, i, j, i + 1


@compiled
def _draw_face(grid: Grid, shows: bool, face: int, canvas: Canvas) -> None:
    """Draw a face of any size, clipped at the near plane."""
    screen = grid.screen
    rows, columns = grid.depth.shape
    j0, i0, j1, i1, j2, i2 = _corners(face, rows, columns)
    jj, ii = (j0, j1, j2), (i0, i1, i2)
    corners = [(0.0, 0.0, 0.0)] * 4  # a triangle less one corner has four
    count = 0
    for k in range(3):
        j, i, next_j, next_i = jj[k], ii[k], jj[(k + 1) % 3], ii[(k + 1) % 3]
        inside, next_inside = screen[j, i, 2] > 0, screen[next_j, next_i, 2] > 0
        if inside:
            corners[count] = _vertex(screen, j, i)
            count += 1
        if inside != next_inside:
            if not inside:  # always from the inside outwards, so that both faces of an edge cut it at the same place
                j, i, next_j, next_i = next_j, next_i, j, i
            x0, y0, z0 = _homogeneous(grid, j, i)
            x1, y1, z1 = _homogeneous(grid, next_j, next_i)
            t = (z0 - NEAR_DEPTH) / (z0 - z1)
            x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
            corners[count] = (x / NEAR_DEPTH, y / NEAR_DEPTH, 1.0 / NEAR_DEPTH)
            count += 1
    for k in range(1, count - 1):
        first, second, third = corners[0], corners[k], corners[k + 1]
        _draw_triangle(first, second, third, shows, face, canvas)


@compiled
def _draw_small_cell(
    a: Corner,
    b: Corner,
    c: Corner,
    e: Corner,
    shows0: bool,
    shows1: bool,
    face: int,
    row_first: int,
    row_last: int,
    first: int,
    last: int,
    canvas: Canvas,
) -> None:
    """Draw both faces of a cell by testing every sample in the given rows and columns.

    The rules are those of `_draw_triangle`; the faces share the edge from c to b.
    """
    (ax, ay, qa), (bx, by, qb), (cx, cy, qc), (ex, ey, qe) = a, b, c, e
    # Edges, all measured from c or b: cb (shared), ca, ab, be, ec.
    cb_x, cb_y, ca_x, ca_y, ab_x, ab_y = bx - cx, by - cy, ax - cx, ay - cy, bx - ax, by - ay
    be_x, be_y, ec_x, ec_y = ex - bx, ey - by, cx - ex, cy - ey
    area0, area1 = ca_x * cb_y - ca_y * cb_x, cb_x * (ey - cy) - cb_y * (ex - cx)
    sign0, sign1 = (1.0 if area0 > 0 else -1.0), (1.0 if area1 > 0 else -1.0)
    plate0 = canvas.exact and shows0 and area0 > 0
    plate1 = canvas.exact and shows1 and area1 > 0
    slack0, slack1 = (SLACK_PX if plate0 else ROUNDING_PX), (SLACK_PX if plate1 else ROUNDING_PX)
    cb_span = abs(cb_x) + abs(cb_y)
    ca_slack, ab_slack = -slack0 * (abs(ca_x) + abs(ca_y)), -slack0 * (abs(ab_x) + abs(ab_y))
    be_slack, ec_slack = -slack1 * (abs(be_x) + abs(be_y)), -slack1 * (abs(ec_x) + abs(ec_y))
    slope0, slope1 = 0.0, 0.0
    if canvas.exact and not plate0 and area0 != 0:
        dx = qc * ab_y - qa * cb_y + qb * ca_y
        dy = qc * ab_x - qa * cb_x + qb * ca_x
        slope0 = SLACK_PX * (abs(dx) + abs(dy)) / abs(area0) + 1e-30
    if canvas.exact and not plate1 and area1 != 0:
        dx = qc * be_y + qb * ec_y + qe * cb_y
        dy = qc * be_x + qb * ec_x + qe * cb_x
        slope1 = SLACK_PX * (abs(dx) + abs(dy)) / abs(area1) + 1e-30
    for y in range(row_first, row_last + 1):
        py = y + 0.5
        for x in range(first, last + 1):
            px = x + 0.5
            shared = cb_x * (py - cy) - cb_y * (px - cx)  # above 0: on e's side, below 0: on a's
            wa = -sign0 * shared
            if wa >= -slack0 * cb_span:
                wb = sign0 * (ca_x * (py - cy) - ca_y * (px - cx))
                wc = sign0 * (ab_x * (py - ay) - ab_y * (px - ax))
                if (wb >= ca_slack) & (wc >= ab_slack):
                    _keep_nearest((wa, wb, wc), (qa, qb, qc), slope0, face, y, x, canvas)
            we = sign1 * shared
            if we >= -slack1 * cb_span:
                wc = sign1 * (be_x * (py - by) - be_y * (px - bx))
                wb = sign1 * (ec_x * (py - ey) - ec_y * (px - ex))
                if (wc >= be_slack) & (wb >= ec_slack):
                    _keep_nearest((we, wb, wc), (qe, qb, qc), slope1, face + 1, y, x, canvas)


@compiled
def draw_band(grid: Grid, spans: Array, visible: Array, canvas: Canvas) -> None:
    """Fill the canvas with the nearest faces. spans: see `project`. visible: bool [H' - 1, W' - 1, 2]"""
    screen, begin, end = grid.screen, canvas.begin, canvas.end
    rows, columns = grid.depth.shape
    width = canvas.nearest.shape[1]
    canvas.nearest[begin:end] = 0.0
    canvas.faces[begin:end] = -1
    reach = SLACK_PX if canvas.exact else ROUNDING_PX
    for j in range(rows - 1):
        for s in range(spans.shape[1]):
            if min(spans[j, s, 0], spans[j + 1, s, 0]) - reach > end - 0.5:
                continue
            if max(spans[j, s, 1], spans[j + 1, s, 1]) + reach < begin + 0.5:
                continue
            b, e = _vertex(screen, j, s * SEGMENT), _vertex(screen, j + 1, s * SEGMENT)
            for i in range(s * SEGMENT, min(columns - 1, (s + 1) * SEGMENT)):
                a, c = b, e
                b, e = _vertex(screen, j, i + 1), _vertex(screen, j + 1, i + 1)
                face = _face_code(j, i, 0)
                show0, show1 = visible[j, i, 0], visible[j, i, 1]
                if a[2] == 0 or b[2] == 0 or c[2] == 0 or e[2] == 0:
                    if a[2] > 0 or b[2] > 0 or c[2] > 0 or e[2] > 0:
                        _draw_face(grid, show0, face, canvas)
                        _draw_face(grid, show1, face + 1, canvas)
                    continue
                low = _lower(_lower(a[1], b[1]), _lower(c[1], e[1])) - 0.5 - reach
                high = _higher(_higher(a[1], b[1]), _higher(c[1], e[1])) - 0.5 + reach
                if not (low <= end - 1 and high >= begin):
                    continue
                left = _lower(_lower(a[0], b[0]), _lower(c[0], e[0])) - 0.5 - reach
                right = _higher(_higher(a[0], b[0]), _higher(c[0], e[0])) - 0.5 + reach
                if not (left <= width - 1 and right >= 0):
                    continue
                if right - left > SMALL_PX or high - low > SMALL_PX:
                    _draw_triangle(c, a, b, show0, face, canvas)
                    _draw_triangle(c, b, e, show1, face + 1, canvas)
                    continue
                row_first, row_last = int(np.ceil(_higher(low, float(begin)))), int(np.floor(_lower(high, end - 1.0)))
                first, last = int(np.ceil(_higher(left, 0.0))), int(np.floor(_lower(right, width - 1.0)))
                _draw_small_cell(a, b, c, e, show0, show1, face, row_first, row_last, first, last, canvas)
    for k in range(2):
        face = _face_code(rows - 1, 0, k)
        _draw_face(grid, False, face, canvas)


@compiled
def _weights(corner0: Corner, corner1: Corner, corner2: Corner, x: float, y: float) -> Weights:
    """Perspective-correct weights of a face's corners at the sample (x, y), its z-depth, and twice its area in pixels.

    The area is above 0 when the face shows its front.
    """
    (x0, y0, q0), (x1, y1, q1), (x2, y2, q2) = corner0, corner1, corner2
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    sign = 1.0 if area > 0 else -1.0
    w0 = max(0.0, sign * ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)))
    w1 = max(0.0, sign * ((x0 - x2) * (y - y2) - (y0 - y2) * (x - x2)))
    w2 = max(0.0, sign * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)))
    p0, p1, p2 = w0 * q0, w1 * q1, w2 * q2
    total = p0 + p1 + p2
    if total == 0:  # a sliver on which rounding leaves nothing
        return 1.0, 0.0, 0.0, 1.0 / q0, area
    scale = 1.0 / total
    return p0 * scale, p1 * scale, p2 * scale, (w0 + w1 + w2) * scale, area


@compiled
def _weights_across_near(a: Corner, b: Corner, c: Corner, px: float, py: float) -> Weights:
    """The same for corners (x z, y z, z) on both sides of the near plane: solve z (px, py, 1) = sum of w_k corner_k."""
    bc_x, bc_y, bc_z = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
    ca_x, ca_y, ca_z = c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0]
    ab_x, ab_y, ab_z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    area = a[0] * bc_x + a[1] * bc_y + a[2] * bc_z
    sign = 1.0 if area > 0 else -1.0
    w0 = max(0.0, sign * (px * bc_x + py * bc_y + bc_z))
    w1 = max(0.0, sign * (px * ca_x + py * ca_y + ca_z))
    w2 = max(0.0, sign * (px * ab_x + py * ab_y + ab_z))
    total = w0 + w1 + w2
    if total == 0:  # a sliver on which rounding leaves nothing
        return 1.0, 0.0, 0.0, max(a[2], NEAR_DEPTH), area
    w0, w1, w2 = w0 / total, w1 / total, w2 / total
    return w0, w1, w2, max(w0 * a[2] + w1 * b[2] + w2 * c[2], NEAR_DEPTH), area


@compiled
def _torn_pixel(
    grid: Grid, visible: Array, to_source: Array, face: int, px: float, py: float
) -> tuple[int, int, float]:
    """Row and column of the plate's pixel that a torn face shows at the sample, and its z-depth; row -1 for none."""
    rows, columns = grid.depth.shape
    j0, i0, j1, i1, j2, i2 = _corners(face, rows, columns)
    d0, d1, d2 = np.float64(grid.depth[j0, i0]), np.float64(grid.depth[j1, i1]), np.float64(grid.depth[j2, i2])
    # Along the sample's ray, by depth d in the source camera's frame: z = slope d + ..., u d and v d likewise.
    slope = 1.0 / (to_source[2, 0] * px + to_source[2, 1] * py + to_source[2, 2])
    slope_u = (to_source[0, 0] * px + to_source[0, 1] * py + to_source[0, 2]) * slope
    slope_v = (to_source[1, 0] * px + to_source[1, 1] * py + to_source[1, 2]) * slope
    start_u, start_v = to_source[0, 3] - slope_u * to_source[2, 3], to_source[1, 3] - slope_v * to_source[2, 3]
    found_row, found_column, nearest = -1, -1, np.inf
    for k in range(3):
        j, i, d = (j0, i0, d0) if k == 0 else (j1, i1, d1) if k == 1 else (j2, i2, d2)
        row, column = min(max(j - 2, 0), rows - 5), min(max(i - 2, 0), columns - 5)
        across, down = start_u + (slope_u - column) * d, start_v + (slope_v - row) * d
        if not (0 <= across < d and 0 <= down < d):
            continue
        z = (d - to_source[2, 3]) * slope
        if not NEAR_DEPTH <= z < nearest:
            continue
        if not _on_surface(visible, j, i):
            inside = True
            for other in (d0, d1, d2):
                across, down = start_u + (slope_u - column) * other, start_v + (slope_v - row) * other
                inside = inside and 0 <= across < other and 0 <= down < other
            if not inside:
                continue
        found_row, found_column, nearest = row, column, z
    return found_row, found_column, nearest


@compiled
def _on_surface(visible: Array, j: int, i: int) -> bool:
    """Whether one of the six faces around a vertex inside the grid shows the plate."""
    return bool(
        visible[j, i, 0]
        or visible[j, i - 1, 0]
        or visible[j, i - 1, 1]
        or visible[j - 1, i, 0]
        or visible[j - 1, i, 1]
        or visible[j - 1, i - 1, 1]
    )


@compiled
def shade_band(
    grid: Grid,
    visible: Array,
    to_source: Array,
    canvas: Canvas,
    u: Array,
    v: Array,
    vertex_alpha: Array,
    texels: Array,
    plate_height: int,
    plate_width: int,
    color: Array,
    mask: Array,
    rgba: Array,
    out_depth: Array,
) -> None:
    """Turn the nearest face of each of the canvas' pixels into colour, mask and depth.

    rgba: float32 [h, w, 4], 0 to 255, filled instead of color and mask in the reference convention.
    """
    screen, faces, exact = grid.screen, canvas.faces, canvas.exact
    rows, columns = grid.depth.shape
    for y in range(canvas.begin, canvas.end):
        py = y + 0.5
        for x in range(faces.shape[1]):
            px = x + 0.5
            face = faces[y, x]
            if exact:
                color[y, x, 0], color[y, x, 1], color[y, x, 2] = 0, 0, 0
                mask[y, x] = False
            else:
                rgba[y, x, 0], rgba[y, x, 1], rgba[y, x, 2], rgba[y, x, 3] = 0, 0, 0, 0
            out_depth[y, x] = np.inf
            if face < 0:
                continue
            j0, i0, j1, i1, j2, i2 = _corners(face, rows, columns)
            one, two, three = _vertex(screen, j0, i0), _vertex(screen, j1, i1), _vertex(screen, j2, i2)
            if exact and one[2] > 0 and two[2] > 0 and three[2] > 0:
                w0, w1, w2, z, area = _weights(one, two, three, px, py)
            else:
                w0, w1, w2, z, area = _weights_across_near(
                    _homogeneous(grid, j0, i0),
                    _homogeneous(grid, j1, i1),
                    _homogeneous(grid, j2, i2),
                    px,
                    py,
                )
            out_depth[y, x] = z
            if exact:
                j, i = face >> 16, (face >> 1) & 0x7FFF
                if area <= 0 or j == rows - 1:  # seen from behind, or the closing quad
                    continue
                if not visible[j, i, face & 1]:
                    if j == 0 or i == 0 or j == rows - 2 or i == columns - 2:  # the skirt
                        continue
                    row, column, z = _torn_pixel(grid, visible, to_source, face, px, py)
                    if row < 0:
                        continue
                    at = 3 * (row * plate_width + column)
                    color[y, x, 0], color[y, x, 1], color[y, x, 2] = texels[at], texels[at + 1], texels[at + 2]
                    mask[y, x], out_depth[y, x] = True, z
                    continue
                tx = w0 * u[i0] + w1 * u[i1] + w2 * u[i2] - 0.5
                ty = w0 * v[j0] + w1 * v[j1] + w2 * v[j2] - 0.5
                tx, ty = min(max(tx, 0.0), plate_width - 1.0), min(max(ty, 0.0), plate_height - 1.0)
                left, top = int(tx), int(ty)
                fx, fy = int((tx - left) * WEIGHT_STEPS + 0.5), int((ty - top) * WEIGHT_STEPS + 0.5)
                w00, w01 = (WEIGHT_STEPS - fx) * (WEIGHT_STEPS - fy), fx * (WEIGHT_STEPS - fy)
                w10, w11 = (WEIGHT_STEPS - fx) * fy, fx * fy
                # Unsigned, which spares numba the test for negative indices.
                at00 = np.uint64(3 * (top * plate_width + left))
                at01 = at00 + np.uint64(3 if left + 1 < plate_width else 0)
                at10 = at00 + np.uint64(3 * plate_width if top + 1 < plate_height else 0)
                at11 = at10 + (at01 - at00)
                for channel in range(3):
                    c = np.uint64(channel)
                    upper = w00 * texels[at00 + c] + w01 * texels[at01 + c]
                    lower = w10 * texels[at10 + c] + w11 * texels[at11 + c]
                    color[y, x, channel] = (upper + lower + (1 << 2 * WEIGHT_BITS - 1)) >> 2 * WEIGHT_BITS
                mask[y, x] = True
            else:
                w0, w1, w2 = w0 * vertex_alpha[j0, i0], w1 * vertex_alpha[j1, i1], w2 * vertex_alpha[j2, i2]
                at0, at1, at2 = 3 * (j0 * columns + i0), 3 * (j1 * columns + i1), 3 * (j2 * columns + i2)
                for channel in range(3):
                    value = w0 * texels[at0 + channel] + w1 * texels[at1 + channel] + w2 * texels[at2 + channel]
                    rgba[y, x, channel] = value
                rgba[y, x, 3] = 255 * (w0 + w1 + w2)
