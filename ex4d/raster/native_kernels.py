# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The kernels that find each pixel's nearest face, in Triton. raster/__init__.py tells the rules; this is how.

A point before a camera is (x z, y z, z), x and y in pixels. A face's three cross products of its corners are its edge
functions on the picture, also where the face passes behind the camera, so nothing is clipped: a sample is covered where
all three have the face's sign, and kept where its z-depth is beyond the near plane.

A cell is one number, row by row; the closing quad is the last one. A face is twice its cell, plus 0 or 1. Positions and
edge functions are float64, so that neighbours agree about the samples on their common edge.
"""

import triton
import triton.language as tl

from ex4d.raster import FAR_DEPTH, NEAR_DEPTH, SLACK_PX
from ex4d.raster import SUBPIXELS as STEPS

NEAR = tl.constexpr(NEAR_DEPTH)
FAR = tl.constexpr(FAR_DEPTH)
SLACK = tl.constexpr(SLACK_PX)
ROUNDING = tl.constexpr(1e-7)  # pixels; neighbours never leave a crack where a sample lies on their edge

SUBPIXELS = tl.constexpr(STEPS)  # reference convention only

NOTHING = 2**63 - 1  # key of a pixel that no face covers
EMPTY = tl.constexpr(NOTHING)
LARGEST_FLOAT = tl.constexpr(0x7F7FFFFF)  # the bits of the largest float32: positive floats sort like their bits

SMALL_SAMPLES = tl.constexpr(12)  # a cell of at most this many samples is drawn where it is found
MEDIUM_SAMPLES = tl.constexpr(4096)  # a face of about this many samples at most is drawn by one program


@triton.jit
def matrix(matrices, n):
    """The 3 x 4 matrix of frame n."""
    m = matrices + n * 12
    return (
        (tl.load(m + 0), tl.load(m + 1), tl.load(m + 2), tl.load(m + 3)),
        (tl.load(m + 4), tl.load(m + 5), tl.load(m + 6), tl.load(m + 7)),
        (tl.load(m + 8), tl.load(m + 9), tl.load(m + 10), tl.load(m + 11)),
    )


@triton.jit
def cell_sides(cell, rows, columns):
    """Top and bottom row, left and right column of a cell. The closing quad is a cell seen from its other side."""
    j = cell // (columns - 1)
    i = cell - j * (columns - 1)
    closing = j == rows - 1
    top, bottom = tl.where(closing, 0, j), tl.where(closing, rows - 1, j + 1)
    left, right = tl.where(closing, columns - 1, i), tl.where(closing, 0, i + 1)
    return top, bottom, left, right


@triton.jit
def point(depth, ray_x, ray_y, camera, columns, j, i):
    """A vertex before the camera. camera: from a point of the source camera's frame to (x z, y z, z)."""
    d = tl.load(depth + j * columns + i).to(tl.float64)
    x, y = d * tl.load(ray_x + i), d * tl.load(ray_y + j)
    mx, my, mz = camera
    return (
        mx[0] * x + mx[1] * y + mx[2] * d + mx[3],
        my[0] * x + my[1] * y + my[2] * d + my[3],
        mz[0] * x + mz[1] * y + mz[2] * d + mz[3],
    )


@triton.jit
def _snapped(p, width, height):
    """A point before the camera moved to the sub-pixel grid on which the release's rasteriser decides what covers what.

    The grid counts from the picture's middle. Colour and depth are interpolated between the points as they were.
    """
    before = p[2] >= NEAR
    inverse = 1.0 / tl.where(before, p[2], 1.0)
    x = tl.floor((p[0] * inverse - width * 0.5) * SUBPIXELS + 0.5) / SUBPIXELS + width * 0.5
    y = tl.floor((p[1] * inverse - height * 0.5) * SUBPIXELS + 0.5) / SUBPIXELS + height * 0.5
    return tl.where(before, x * p[2], p[0]), tl.where(before, y * p[2], p[1]), p[2]


@triton.jit
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def _volume(p0, p1, p2):
    """Of the face with the camera, times six; above 0 when the face shows its front."""
    n0 = _cross(p1, p2)
    return p0[0] * n0[0] + p0[1] * n0[1] + p0[2] * n0[2]


@triton.jit
def edges(p0, p1, p2):
    """Edge functions (a x + b y + c, positive inside) of the three corners, and the face's `_volume`."""
    n0, n1, n2, volume = _cross(p1, p2), _cross(p2, p0), _cross(p0, p1), _volume(p0, p1, p2)
    sign = tl.where(volume >= 0, 1.0, -1.0).to(tl.float64)
    n0 = (n0[0] * sign, n0[1] * sign, n0[2] * sign)
    n1 = (n1[0] * sign, n1[1] * sign, n1[2] * sign)
    n2 = (n2[0] * sign, n2[1] * sign, n2[2] * sign)
    return n0, n1, n2, volume


@triton.jit
def at(edge, x, y):
    return edge[0] * x + edge[1] * y + edge[2]


@triton.jit
def _span(edge):
    """How much an edge function changes over a pixel to the side and a pixel down."""
    return tl.abs(edge[0]) + tl.abs(edge[1])


@triton.jit
def _setup(p0, p1, p2, shows, exact: tl.constexpr):
    """All that `_cover` needs of a face. shows: whether it shows the plate.

    back: how much inverse depth an occluder loses; least: what it keeps at least, that of its farthest corner.
    """
    n0, n1, n2, volume = edges(p0, p1, p2)
    plate = shows & (volume > 0) & exact
    slack = tl.where(plate, SLACK, ROUNDING)
    slack = tl.where(volume != 0, slack, -float("inf"))  # a face seen edge on covers nothing
    slacks = (-slack * _span(n0), -slack * _span(n1), -slack * _span(n2))
    slope = tl.abs(n0[0] + n1[0] + n2[0]) + tl.abs(n0[1] + n1[1] + n2[1])
    back = slope * SLACK / tl.where(volume != 0, tl.abs(volume), 1.0)
    least = 1.0 / tl.maximum(tl.maximum(p0[2], tl.maximum(p1[2], p2[2])), NEAR)
    return (n0, n1, n2), slacks, (p0[2], p1[2], p2[2]), (plate, back, least)


@triton.jit
def _cover(setup, face, x, y, exact: tl.constexpr):
    """The face's key at the sample (x, y), EMPTY where it does not cover it. Nearer faces have smaller keys."""
    edges, slacks, z, occluder = setup
    plate, back, least = occluder
    w0, w1, w2 = at(edges[0], x, y), at(edges[1], x, y), at(edges[2], x, y)
    covered = (w0 >= slacks[0]) & (w1 >= slacks[1]) & (w2 >= slacks[2])
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
def _samples(low_x, high_x, low_y, high_y, reach, width, height):
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
def _face_samples(p0, p1, p2, reach, width, height):
    """The samples of a face's box, as `_samples`, with the face cut at the near plane."""
    huge = p0[0] * 0.0 + 1e30
    box = _stretch((huge, -huge, huge, -huge), p0, p1)
    box = _stretch(box, p1, p2)
    box = _stretch(box, p2, p0)
    return _samples(box[0], box[1], box[2], box[3], reach, width, height)


@triton.jit
def _meets(edge, slack, first, last, row_first, row_last):
    """Whether an edge function is positive anywhere on a box of samples."""
    x = tl.where(edge[0] > 0, last, first) + 0.5
    y = tl.where(edge[1] > 0, row_last, row_first) + 0.5
    return at(edge, x, y) >= slack


@triton.jit
def _span_of_row(setup, y, first, last):
    """The first and last column of a face's samples on rows; `_cover` decides, this may be one sample too wide."""
    left, right = y * 0.0 + first, y * 0.0 + last
    for k in tl.static_range(3):
        edge, slack = setup[0][k], setup[1][k]
        crossing = (slack - edge[1] * y - edge[2]) / tl.where(edge[0] != 0, edge[0], 1.0) - 0.5
        left = tl.where(edge[0] > 0, tl.maximum(left, crossing - 1 / 64), left)
        right = tl.where(edge[0] < 0, tl.minimum(right, crossing + 1 / 64), right)
    left, right = tl.ceil(tl.minimum(left, last + 1.0)), tl.floor(tl.maximum(right, first - 1.0))
    return left.to(tl.int32), right.to(tl.int32)


@triton.jit
def _append(faces, counts, face, wanted, position, step):
    """Put the wanted faces on a list that grows from `position` by `step`."""
    order = tl.cumsum(wanted.to(tl.int32), 0)
    base = tl.atomic_add(counts, tl.max(order))
    tl.store(faces + position + step * (base + order - 1), face, mask=wanted)


@triton.jit
def _list_face(p0, p1, p2, setup, face, wanted, reach, width, height, faces, counts, capacity):
    """Put the faces that may cover a sample on the list: medium ones from its front, large ones from its end."""
    first, last, row_first, row_last = _face_samples(p0, p1, p2, reach, width, height)
    wanted = wanted & (first <= last) & (row_first <= row_last)
    for k in tl.static_range(3):
        wanted = wanted & _meets(setup[0][k], setup[1][k], first, last, row_first, row_last)
    # Of a thin face the area counts, not its box; a face across the camera plane has none.
    samples = (last - first + 1) * (row_last - row_first + 1).to(tl.float64)
    before = tl.minimum(tl.minimum(p0[2], p1[2]), p2[2]) >= NEAR
    area = 0.5 * tl.abs(_volume(p0, p1, p2)) / tl.where(before, p0[2] * p1[2] * p2[2], 1.0)
    large = tl.where(before, tl.minimum(samples, area), samples) > MEDIUM_SAMPLES
    _append(faces, counts, face, wanted & ~large, 0, 1)
    _append(faces, counts + 1, face, wanted & large, capacity - 1, -1)


@triton.jit
def draw_cells(
    depth,
    visible,
    ray_x,
    ray_y,
    matrices,
    source,
    rows,
    columns,
    width,
    height,
    keys,
    faces,
    counts,
    exact: tl.constexpr,
    block: tl.constexpr,
):
    """Draw the small cells of all frames into keys, and list the other faces.

    depth: float32 [T, H', W']. visible: uint8 [T, H'-1, W'-1, 2]. matrices: float64 [N, 3, 4]. source: int32 [N].
    keys: int64 [N, h, w]. faces: int32 [N, capacity]. counts: int32 [N, 2]. Grid: [blocks of cells, N].
    """
    n = tl.program_id(1).to(tl.int64)
    t = tl.load(source + n).to(tl.int64)
    count = (rows - 1) * (columns - 1) + 1
    capacity = 2 * count
    depth += t * rows * columns
    visible += t * (rows - 1) * (columns - 1) * 2
    keys += n * width * height
    faces += n * capacity
    counts += n * 2
    reach: tl.constexpr = SLACK if exact else ROUNDING

    lane = tl.program_id(0) * block + tl.arange(0, block)
    cell = tl.minimum(lane, count - 1)
    face = cell * 2
    top, bottom, left, right = cell_sides(cell, rows, columns)
    camera = matrix(matrices, n)
    a = point(depth, ray_x, ray_y, camera, columns, top, left)
    b = point(depth, ray_x, ray_y, camera, columns, top, right)
    c = point(depth, ray_x, ray_y, camera, columns, bottom, left)
    e = point(depth, ray_x, ray_y, camera, columns, bottom, right)
    if not exact:
        a, b = _snapped(a, width, height), _snapped(b, width, height)
        c, e = _snapped(c, width, height), _snapped(e, width, height)

    nearest = tl.minimum(tl.minimum(a[2], b[2]), tl.minimum(c[2], e[2]))
    farthest = tl.maximum(tl.maximum(a[2], b[2]), tl.maximum(c[2], e[2]))
    whole = nearest >= NEAR  # else part of it lies before the near plane
    iza, izb = 1.0 / tl.where(whole, a[2], 1.0), 1.0 / tl.where(whole, b[2], 1.0)
    izc, ize = 1.0 / tl.where(whole, c[2], 1.0), 1.0 / tl.where(whole, e[2], 1.0)
    low_x = tl.minimum(tl.minimum(a[0] * iza, b[0] * izb), tl.minimum(c[0] * izc, e[0] * ize))
    high_x = tl.maximum(tl.maximum(a[0] * iza, b[0] * izb), tl.maximum(c[0] * izc, e[0] * ize))
    low_y = tl.minimum(tl.minimum(a[1] * iza, b[1] * izb), tl.minimum(c[1] * izc, e[1] * ize))
    high_y = tl.maximum(tl.maximum(a[1] * iza, b[1] * izb), tl.maximum(c[1] * izc, e[1] * ize))
    first, last, row_first, row_last = _samples(low_x, high_x, low_y, high_y, reach, width, height)
    wide, high = last - first + 1, row_last - row_first + 1
    alive = (lane < count) & (farthest >= NEAR) & (~whole | ((wide > 0) & (high > 0)))
    if tl.max(alive.to(tl.int32)) > 0:
        inner = alive & (cell < count - 1)  # the closing quad never shows the plate
        shows0 = tl.load(visible + face, mask=inner, other=0) != 0
        shows1 = tl.load(visible + face + 1, mask=inner, other=0) != 0
        setup0, setup1 = _setup(c, a, b, shows0, exact), _setup(c, b, e, shows1, exact)

        small = alive & whole & (wide * high <= SMALL_SAMPLES)
        samples = tl.where(small, wide * high, 0)
        for s in range(tl.max(samples)):
            row = s // tl.maximum(wide, 1)
            px, py = first + s - row * wide, row_first + row
            x, y = px + 0.5, py + 0.5
            key = tl.minimum(_cover(setup0, face, x, y, exact), _cover(setup1, face + 1, x, y, exact))
            tl.atomic_min(keys + py * width + px, key, mask=(s < samples) & (key != EMPTY), sem="relaxed")

        others = alive & ~small
        if tl.max(others.to(tl.int32)) > 0:
            for k in range(2):  # a loop, so that the code is there once
                p1 = (tl.where(k == 0, a[0], b[0]), tl.where(k == 0, a[1], b[1]), tl.where(k == 0, a[2], b[2]))
                p2 = (tl.where(k == 0, b[0], e[0]), tl.where(k == 0, b[1], e[1]), tl.where(k == 0, b[2], e[2]))
                setup = _setup(c, p1, p2, (shows0 & (k == 0)) | (shows1 & (k == 1)), exact)
                _list_face(c, p1, p2, setup, face + k, others, reach, width, height, faces, counts, capacity)


@triton.jit
def draw_listed(
    depth,
    visible,
    ray_x,
    ray_y,
    matrices,
    source,
    rows,
    columns,
    width,
    height,
    keys,
    faces,
    counts,
    large: tl.constexpr,
    chunks: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    exact: tl.constexpr,
):
    """Draw the listed faces, medium or large ones, row by row; `chunks` programs share a face. Grid: [any, N]."""
    n = tl.program_id(1).to(tl.int64)
    t = tl.load(source + n).to(tl.int64)
    count = (rows - 1) * (columns - 1) + 1
    capacity = 2 * count
    depth += t * rows * columns
    visible += t * (rows - 1) * (columns - 1) * 2
    keys += n * width * height
    faces += n * capacity
    reach: tl.constexpr = SLACK if exact else ROUNDING

    items = tl.load(counts + n * 2 + large) * chunks
    if tl.program_id(0) < items:
        camera = matrix(matrices, n)
        tile_y, tile_x = tl.arange(0, tile_rows), tl.arange(0, tile_columns)
        for item in range(tl.program_id(0), items, tl.num_programs(0)):
            entry = item // chunks
            face = tl.load(faces + (capacity - 1 - entry if large else entry))
            cell, second = face // 2, face % 2 == 1
            top, bottom, left, right = cell_sides(cell, rows, columns)
            p0 = point(depth, ray_x, ray_y, camera, columns, bottom, left)  # faces (c, a, b) and (c, b, e)
            p1 = point(depth, ray_x, ray_y, camera, columns, top, tl.where(second, right, left))
            p2 = point(depth, ray_x, ray_y, camera, columns, tl.where(second, bottom, top), right)
            if not exact:
                p0, p1 = _snapped(p0, width, height), _snapped(p1, width, height)
                p2 = _snapped(p2, width, height)
            shows = tl.load(visible + face, mask=cell < count - 1, other=0) != 0
            setup = _setup(p0, p1, p2, shows, exact)
            first, last, row_first, row_last = _face_samples(p0, p1, p2, reach, width, height)
            for y0 in range(row_first + item % chunks * tile_rows, row_last + 1, chunks * tile_rows):
                py = y0 + tile_y
                begin, end = _span_of_row(setup, py + 0.5, first, last)
                end = tl.where(py <= row_last, end, begin - 1)
                for x0 in range(0, tl.max(end - begin) + 1, tile_columns):
                    px = begin[:, None] + x0 + tile_x[None, :]
                    key = _cover(setup, face, px + 0.5, py[:, None] + 0.5, exact)
                    inside = (px <= end[:, None]) & (key != EMPTY)
                    tl.atomic_min(keys + py[:, None] * width + px, key, mask=inside, sem="relaxed")
