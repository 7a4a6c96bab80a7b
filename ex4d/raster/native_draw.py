# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The kernels that find each pixel's nearest face, in Triton."""

import triton
import triton.language as tl

from ex4d.raster.native_cover import (
    EMPTY,
    ROUNDING,
    SLACK,
    box_samples,
    cover,
    face_samples,
    face_setup,
    meets,
    span,
    span_of_row,
)
from ex4d.raster.native_frustum import FAR, SUBPIXELS, corner, cut_at_frustum, in_frustum, in_room, snapped
from ex4d.raster.native_geometry import NEAR, cell_sides, face_corners, face_points, matrix, point, volume_of
from ex4d.raster.native_launch import kernel

SMALL_SAMPLES = tl.constexpr(12)  # a cell of at most this many samples is drawn where it is found
MEDIUM_SAMPLES = tl.constexpr(4096)  # a face of about this many samples at most is drawn by one program


@triton.jit
def _append(faces, counts, face, wanted, position, step):
    """Put the wanted faces on a list that grows from `position` by `step`."""
    order = tl.cumsum(wanted.to(tl.int32), 0)
    base = tl.atomic_add(counts, tl.max(order))
    tl.store(faces + position + step * (base + order - 1), face, mask=wanted)


@triton.jit
def _list_face(p0, p1, p2, setup, face, wanted, cut, reach, width, height, faces, counts, capacity):
    """Put the faces that may cover a sample on the list: medium ones from its front, large ones from its end.

    cut: whether the frustum may cut the face, which then moves by up to a sub-pixel when it is drawn.
    """
    first, last, row_first, row_last = face_samples(p0, p1, p2, reach, width, height)
    wanted = wanted & (first <= last) & (row_first <= row_last)
    for k in tl.static_range(3):
        least = tl.where(cut, -span(setup[0][k]) / SUBPIXELS, setup[1][k])
        wanted = wanted & meets(setup[0][k], least, first, last, row_first, row_last)
    # Of a thin face the area counts, not its box; a face across the camera plane has none.
    samples = (last - first + 1) * (row_last - row_first + 1).to(tl.float64)
    before = tl.minimum(tl.minimum(p0[2], p1[2]), p2[2]) >= NEAR
    area = 0.5 * tl.abs(volume_of(p0, p1, p2)) / tl.where(before, p0[2] * p1[2] * p2[2], 1.0)
    large = tl.where(before, tl.minimum(samples, area), samples) > MEDIUM_SAMPLES
    _append(faces, counts, face, wanted & ~large, 0, 1)
    _append(faces, counts + 1, face, wanted & large, capacity - 1, -1)


@triton.jit
def _snapped_unless(cut, p, width, height):
    on_grid = snapped(p, width, height)
    return tl.where(cut, p[0], on_grid[0]), tl.where(cut, p[1], on_grid[1]), p[2]


@kernel
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

    lane = tl.program_id(0) * block + tl.arange(0, block)
    cell = tl.minimum(lane, count - 1)
    face = cell * 2
    top, bottom, left, right = cell_sides(cell, rows, columns)
    camera = matrix(matrices, n)
    a = point(depth, ray_x, ray_y, camera, columns, top, left)
    b = point(depth, ray_x, ray_y, camera, columns, top, right)
    c = point(depth, ray_x, ray_y, camera, columns, bottom, left)
    e = point(depth, ray_x, ray_y, camera, columns, bottom, right)
    if exact:
        cut, reach = lane < 0, SLACK
    else:
        cut = ~(in_frustum(a, width, height) & in_frustum(b, width, height))
        cut = cut | ~(in_frustum(c, width, height) & in_frustum(e, width, height))
        reach = tl.where(cut, 1 / SUBPIXELS, ROUNDING)
        a, b = _snapped_unless(cut, a, width, height), _snapped_unless(cut, b, width, height)
        c, e = _snapped_unless(cut, c, width, height), _snapped_unless(cut, e, width, height)

    nearest = tl.minimum(tl.minimum(a[2], b[2]), tl.minimum(c[2], e[2]))
    farthest = tl.maximum(tl.maximum(a[2], b[2]), tl.maximum(c[2], e[2]))
    whole = nearest >= NEAR  # else part of it lies before the near plane
    iza, izb = 1.0 / tl.where(whole, a[2], 1.0), 1.0 / tl.where(whole, b[2], 1.0)
    izc, ize = 1.0 / tl.where(whole, c[2], 1.0), 1.0 / tl.where(whole, e[2], 1.0)
    low_x = tl.minimum(tl.minimum(a[0] * iza, b[0] * izb), tl.minimum(c[0] * izc, e[0] * ize))
    high_x = tl.maximum(tl.maximum(a[0] * iza, b[0] * izb), tl.maximum(c[0] * izc, e[0] * ize))
    low_y = tl.minimum(tl.minimum(a[1] * iza, b[1] * izb), tl.minimum(c[1] * izc, e[1] * ize))
    high_y = tl.maximum(tl.maximum(a[1] * iza, b[1] * izb), tl.maximum(c[1] * izc, e[1] * ize))
    first, last, row_first, row_last = box_samples(low_x, high_x, low_y, high_y, reach, width, height)
    wide, high = last - first + 1, row_last - row_first + 1
    alive = (lane < count) & (farthest >= NEAR) & (~whole | ((wide > 0) & (high > 0)))
    if not exact:
        alive = alive & (nearest <= FAR)
    if tl.max(alive.to(tl.int32)) > 0:
        inner = alive & (cell < count - 1)  # the closing quad never shows the plate
        shows0 = tl.load(visible + face, mask=inner, other=0) != 0
        shows1 = tl.load(visible + face + 1, mask=inner, other=0) != 0
        setup0, setup1 = face_setup(c, a, b, shows0, exact), face_setup(c, b, e, shows1, exact)

        small = alive & whole & ~cut & (wide * high <= SMALL_SAMPLES)
        samples = tl.where(small, wide * high, 0)
        for s in range(tl.max(samples)):
            row = s // tl.maximum(wide, 1)
            px, py = first + s - row * wide, row_first + row
            x, y = px + 0.5, py + 0.5
            key = tl.minimum(cover(setup0, face, x, y, exact), cover(setup1, face + 1, x, y, exact))
            tl.atomic_min(keys + py * width + px, key, mask=(s < samples) & (key != EMPTY), sem="relaxed")

        others = alive & ~small
        if tl.max(others.to(tl.int32)) > 0:
            for k in range(2):  # a loop, so that the code is there once
                p1 = (tl.where(k == 0, a[0], b[0]), tl.where(k == 0, a[1], b[1]), tl.where(k == 0, a[2], b[2]))
                p2 = (tl.where(k == 0, b[0], e[0]), tl.where(k == 0, b[1], e[1]), tl.where(k == 0, b[2], e[2]))
                setup = face_setup(c, p1, p2, (shows0 & (k == 0)) | (shows1 & (k == 1)), exact)
                _list_face(c, p1, p2, setup, face + k, others, cut, reach, width, height, faces, counts, capacity)


@triton.jit
def _draw_rows(p0, p1, p2, shows, face, part, chunks, tile_y, tile_x, width, height, keys, exact: tl.constexpr):
    """Draw every `chunks`-th run of rows of a triangle, from run `part` on. tile_y, tile_x: 0, 1, ... of a tile."""
    setup = face_setup(p0, p1, p2, shows, exact)
    reach: tl.constexpr = SLACK if exact else ROUNDING
    first, last, row_first, row_last = face_samples(p0, p1, p2, reach, width, height)
    rows, columns = tile_y.shape[0], tile_x.shape[0]
    for y0 in range(row_first + part * rows, row_last + 1, chunks * rows):
        py = y0 + tile_y
        begin, end = span_of_row(setup, py + 0.5, first, last)
        end = tl.where(py <= row_last, end, begin - 1)
        for x0 in range(0, tl.max(end - begin) + 1, columns):
            px = begin[:, None] + x0 + tile_x[None, :]
            key = cover(setup, face, px + 0.5, py[:, None] + 0.5, exact)
            inside = (px <= end[:, None]) & (key != EMPTY)
            tl.atomic_min(keys + py[:, None] * width + px, key, mask=inside, sem="relaxed")


@kernel
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

    items = tl.load(counts + n * 2 + large) * chunks
    if tl.program_id(0) < items:
        camera = matrix(matrices, n)
        tile_y, tile_x = tl.arange(0, tile_rows), tl.arange(0, tile_columns)
        for item in range(tl.program_id(0), items, tl.num_programs(0)):
            entry = item // chunks
            face = tl.load(faces + (capacity - 1 - entry if large else entry))
            p0, p1, p2 = face_points(depth, ray_x, ray_y, camera, columns, face_corners(face, rows, columns))
            shows = tl.load(visible + face, mask=face < 2 * (count - 1), other=0) != 0
            part = item % chunks
            if exact:
                _draw_rows(p0, p1, p2, shows, face, part, chunks, tile_y, tile_x, width, height, keys, exact)
            else:
                whole = in_frustum(p0, width, height) & in_frustum(p1, width, height) & in_frustum(p2, width, height)
                x, y, z, corners = in_room(p0, p1, p2)
                if not whole:
                    x, y, z, corners = cut_at_frustum(x, y, z, corners, width, height)
                for k in range(1, corners - 1):
                    if not whole:
                        p0, p1, p2 = corner(x, y, z, 0), corner(x, y, z, k), corner(x, y, z, k + 1)
                    p0, p1, p2 = snapped(p0, width, height), snapped(p1, width, height), snapped(p2, width, height)
                    _draw_rows(p0, p1, p2, shows, face, part, chunks, tile_y, tile_x, width, height, keys, exact)
