# SPDX-License-Identifier: Apache-2.0
"""Drawing for the processor rasteriser: which face is nearest at each sample of a band of the picture."""

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import FAR_DEPTH, HALF_STEP, NEAR_DEPTH, SLACK_PX
from ex4d.raster.cpu_frustum import MOST_CORNERS, cut_at_frustum
from ex4d.raster.cpu_grid import SEGMENT, Canvas, Corner, Grid, face_code, face_corners, homogeneous, vertex

SMALL_PX = 6  # a cell of at most this many samples across is tested sample by sample
ROUNDING_PX = 1e-7  # covers rounding of the edge functions, so that neighbours never leave a crack


@compiled
def _lower(a: float, b: float) -> float:
    """min for numbers that are never NaN: one instruction."""
    return a if a < b else b


@compiled
def _higher(a: float, b: float) -> float:
    return a if a > b else b


@compiled
def _least_inside(dx: float, dy: float, slack: float, exact: bool) -> float:
    """The smallest value of an edge function that counts as inside. (dx, dy): the edge, with the face to its right.

    slack: pixels beyond the edge that count in the exact convention.
    """
    if exact:
        return -slack * (abs(dx) + abs(dy))
    return HALF_STEP if dy > 0 or (dy == 0 and dx <= 0) else -HALF_STEP


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
    least0, least1 = _least_inside(b0, -a0, slack, exact), _least_inside(b1, -a1, slack, exact)
    least2 = _least_inside(b2, -a2, slack, exact)
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
        for a, per_a, r, least in ((a0, per_a0, r0, least0), (a1, per_a1, r1, least1), (a2, per_a2, r2, least2)):
            if a > 0:
                left = _higher(left, (least - r) * per_a - 1.5)
            elif a < 0:
                right = _lower(right, (least - r) * per_a + 0.5)
        if not left <= right:
            continue
        for x in range(int(left), int(right) + 1):
            px = x + 0.5
            w0 = (px - x1) * a0 + (py - y1) * b0
            w1 = (px - x2) * a1 + (py - y2) * b1
            w2 = (px - x0) * a2 + (py - y0) * b2
            if w0 >= least0 and w1 >= least1 and w2 >= least2:
                _keep_nearest((w0, w1, w2), inverse, slope, face, y, x, canvas)


@compiled
def _draw_face(grid: Grid, shows: bool, face: int, canvas: Canvas, rooms: Array) -> None:
    """Draw a face of any size, clipped at the near plane; reference: at the frustum, in `rooms` (`cut_at_frustum`)."""
    screen = grid.screen
    rows, columns = grid.depth.shape
    j0, i0, j1, i1, j2, i2 = face_corners(face, rows, columns)
    if not canvas.exact:
        height, width = canvas.faces.shape
        whole = (homogeneous(grid, j0, i0), homogeneous(grid, j1, i1), homogeneous(grid, j2, i2))
        count = cut_at_frustum(whole, rooms, width, height)
        for k in range(1, count - 1):
            _draw_triangle(vertex(rooms, 0, 0), vertex(rooms, 0, k), vertex(rooms, 0, k + 1), shows, face, canvas)
        return
    jj, ii = (j0, j1, j2), (i0, i1, i2)
    corners = [(0.0, 0.0, 0.0)] * 4  # a triangle less one corner has four
    count = 0
    for k in range(3):
        j, i, next_j, next_i = jj[k], ii[k], jj[(k + 1) % 3], ii[(k + 1) % 3]
        inside, next_inside = screen[j, i, 2] > 0, screen[next_j, next_i, 2] > 0
        if inside:
            corners[count] = vertex(screen, j, i)
            count += 1
        if inside != next_inside:
            if not inside:  # always from the inside outwards, so that both faces of an edge cut it at the same place
                j, i, next_j, next_i = next_j, next_i, j, i
            x0, y0, z0 = homogeneous(grid, j, i)
            x1, y1, z1 = homogeneous(grid, next_j, next_i)
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
    bc_least = _least_inside(-sign0 * cb_x, -sign0 * cb_y, slack0, canvas.exact)
    ca_least = _least_inside(sign0 * ca_x, sign0 * ca_y, slack0, canvas.exact)
    ab_least = _least_inside(sign0 * ab_x, sign0 * ab_y, slack0, canvas.exact)
    cb_least = _least_inside(sign1 * cb_x, sign1 * cb_y, slack1, canvas.exact)
    be_least = _least_inside(sign1 * be_x, sign1 * be_y, slack1, canvas.exact)
    ec_least = _least_inside(sign1 * ec_x, sign1 * ec_y, slack1, canvas.exact)
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
            if wa >= bc_least:
                wb = sign0 * (ca_x * (py - cy) - ca_y * (px - cx))
                wc = sign0 * (ab_x * (py - ay) - ab_y * (px - ax))
                if (wb >= ca_least) & (wc >= ab_least):
                    _keep_nearest((wa, wb, wc), (qa, qb, qc), slope0, face, y, x, canvas)
            we = sign1 * shared
            if we >= cb_least:
                wc = sign1 * (be_x * (py - by) - be_y * (px - bx))
                wb = sign1 * (ec_x * (py - ey) - ec_y * (px - ex))
                if (wc >= be_least) & (wb >= ec_least):
                    _keep_nearest((we, wb, wc), (qe, qb, qc), slope1, face + 1, y, x, canvas)


@compiled
def draw_band(grid: Grid, spans: Array, visible: Array, picture: Canvas, begin: int, end: int) -> None:
    """Fill rows begin..end of the picture with the nearest faces.

    spans: see `project`. visible: bool [H' - 1, W' - 1, 2]
    """
    canvas = Canvas(picture.exact, begin, end, picture.nearest, picture.faces)
    screen, rooms = grid.screen, np.empty((2, MOST_CORNERS, 3))
    rows, columns = grid.depth.shape
    height, width = canvas.nearest.shape
    canvas.nearest[begin:end] = 0.0
    canvas.faces[begin:end] = -1
    reach = SLACK_PX if canvas.exact else ROUNDING_PX
    for j in range(rows - 1):
        for s in range(spans.shape[1]):
            if min(spans[j, s, 0], spans[j + 1, s, 0]) - reach > end - 0.5:
                continue
            if max(spans[j, s, 1], spans[j + 1, s, 1]) + reach < begin + 0.5:
                continue
            b, e = vertex(screen, j, s * SEGMENT), vertex(screen, j + 1, s * SEGMENT)
            for i in range(s * SEGMENT, min(columns - 1, (s + 1) * SEGMENT)):
                a, c = b, e
                b, e = vertex(screen, j, i + 1), vertex(screen, j + 1, i + 1)
                face = face_code(j, i, 0)
                show0, show1 = visible[j, i, 0], visible[j, i, 1]
                if a[2] == 0 or b[2] == 0 or c[2] == 0 or e[2] == 0:
                    if a[2] != 0 or b[2] != 0 or c[2] != 0 or e[2] != 0:
                        _draw_face(grid, show0, face, canvas, rooms)
                        _draw_face(grid, show1, face + 1, canvas, rooms)
                    continue
                low = _lower(_lower(a[1], b[1]), _lower(c[1], e[1])) - 0.5 - reach
                high = _higher(_higher(a[1], b[1]), _higher(c[1], e[1])) - 0.5 + reach
                if not (low <= end - 1 and high >= begin):
                    continue
                left = _lower(_lower(a[0], b[0]), _lower(c[0], e[0])) - 0.5 - reach
                right = _higher(_higher(a[0], b[0]), _higher(c[0], e[0])) - 0.5 + reach
                if not (left <= width - 1 and right >= 0):
                    continue
                if not canvas.exact and not (  # it may reach out of the frustum, which cuts it
                    left > -0.5
                    and right < width - 0.5
                    and low > -0.5
                    and high < height - 0.5
                    and _lower(_lower(a[2], b[2]), _lower(c[2], e[2])) > 0
                ):
                    if _higher(_higher(a[2], b[2]), _higher(c[2], e[2])) > 0:
                        _draw_face(grid, show0, face, canvas, rooms)
                        _draw_face(grid, show1, face + 1, canvas, rooms)
                    continue
                if right - left > SMALL_PX or high - low > SMALL_PX:
                    _draw_triangle(c, a, b, show0, face, canvas)
                    _draw_triangle(c, b, e, show1, face + 1, canvas)
                    continue
                row_first, row_last = int(np.ceil(_higher(low, float(begin)))), int(np.floor(_lower(high, end - 1.0)))
                first, last = int(np.ceil(_higher(left, 0.0))), int(np.floor(_lower(right, width - 1.0)))
                _draw_small_cell(a, b, c, e, show0, show1, face, row_first, row_last, first, last, canvas)
    for k in range(2):
        face = face_code(rows - 1, 0, k)
        _draw_face(grid, False, face, canvas, rooms)
