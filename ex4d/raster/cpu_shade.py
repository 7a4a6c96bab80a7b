# SPDX-License-Identifier: Apache-2.0
"""Shading for the processor rasteriser: each sample's nearest face becomes colour, mask and depth."""

from typing import NamedTuple

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import CLIP_SCALE, CLIP_SHIFT, NEAR_DEPTH
from ex4d.raster.cpu_grid import Canvas, Corner, Grid, face_corners, homogeneous, vertex

WEIGHT_BITS = 12  # texture weights are whole numbers of 1 / 4096: faster than floats, error below 0.2 grey levels
WEIGHT_STEPS = 1 << WEIGHT_BITS

Weights = tuple[float, float, float, float, float]


class Plate(NamedTuple):
    """What the mesh shows."""

    u: Array  # float64 [W'], column of each vertex in the plate, pixels from its edge
    v: Array  # float64 [H'], row of each vertex
    vertex_alpha: Array  # float32 [H', W'], see `DWMesh`
    texels: Array  # uint8 [H * W * 3], the plate's frame
    height: int
    width: int


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
    j0, i0, j1, i1, j2, i2 = face_corners(face, rows, columns)
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
def shade_exact_band(
    grid: Grid,
    visible: Array,
    to_source: Array,
    canvas: Canvas,
    plate: Plate,
    color: Array,
    mask: Array,
    out_depth: Array,
    begin: int,
    end: int,
) -> None:
    """Turn the nearest face of each pixel of rows begin..end into colour, mask and depth.

    visible: bool [H'-1, W'-1, 2]. to_source: see `source_pixels`.
    """
    screen, faces = grid.screen, canvas.faces
    rows, columns = grid.depth.shape
    u, v, _, texels, plate_height, plate_width = plate
    for y in range(begin, end):
        py = y + 0.5
        for x in range(faces.shape[1]):
            px = x + 0.5
            face = faces[y, x]
            color[y, x, 0], color[y, x, 1], color[y, x, 2] = 0, 0, 0
            mask[y, x], out_depth[y, x] = False, np.inf
            if face < 0:
                continue
            j0, i0, j1, i1, j2, i2 = face_corners(face, rows, columns)
            one, two, three = vertex(screen, j0, i0), vertex(screen, j1, i1), vertex(screen, j2, i2)
            if one[2] > 0 and two[2] > 0 and three[2] > 0:
                w0, w1, w2, z, area = _weights(one, two, three, px, py)
            else:
                w0, w1, w2, z, area = _weights_across_near(
                    homogeneous(grid, j0, i0), homogeneous(grid, j1, i1), homogeneous(grid, j2, i2), px, py
                )
            out_depth[y, x] = z
            j, i = face >> 16, (face >> 1) & 0x7FFF
            if area <= 0 or j == rows - 1:  # seen from behind, or the closing quad
                continue
            if visible[j, i, face & 1]:
                tx, ty = w0 * u[i0] + w1 * u[i1] + w2 * u[i2], w0 * v[j0] + w1 * v[j1] + w2 * v[j2]
                _put_bilinear(texels, plate_height, plate_width, tx, ty, color, y, x)
                mask[y, x] = True
            elif j > 0 and i > 0 and j < rows - 2 and i < columns - 2:  # not the skirt
                row, column, z = _torn_pixel(grid, visible, to_source, face, px, py)
                if row >= 0:
                    at = 3 * (row * plate_width + column)
                    color[y, x, 0], color[y, x, 1], color[y, x, 2] = texels[at], texels[at + 1], texels[at + 2]
                    mask[y, x], out_depth[y, x] = True, z


@compiled
def _put_bilinear(
    texels: Array, plate_height: int, plate_width: int, tx: float, ty: float, color: Array, y: int, x: int
) -> None:
    """Give pixel (x, y) the plate's colour at (tx, ty), pixels from the plate's edge."""
    tx, ty = min(max(tx - 0.5, 0.0), plate_width - 1.0), min(max(ty - 0.5, 0.0), plate_height - 1.0)
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


@compiled
def _release_weights(a: Corner, b: Corner, c: Corner, px: float, py: float) -> tuple[float, float, float, float]:
    """Weights of a face's corners (x z, y z, z) at the sample (px, py) as the release has them, and the nearness there.

    The sample may lie outside the face, whose corners moved to the sub-pixel grid when it was drawn: the weights are
    then cut to the face, the nearness is that of the face's plane. Nearness is the depth of the release's clip space
    with its sign turned, in its coarse single precision.
    """
    w0 = px * (b[1] * c[2] - b[2] * c[1]) + py * (b[2] * c[0] - b[0] * c[2]) + (b[0] * c[1] - b[1] * c[0])
    w1 = px * (c[1] * a[2] - c[2] * a[1]) + py * (c[2] * a[0] - c[0] * a[2]) + (c[0] * a[1] - c[1] * a[0])
    w2 = px * (a[1] * b[2] - a[2] * b[1]) + py * (a[2] * b[0] - a[0] * b[2]) + (a[0] * b[1] - a[1] * b[0])
    total, weighted = w0 + w1 + w2, w0 * a[2] + w1 * b[2] + w2 * c[2]
    if total == 0 or weighted == 0:
        return 0.0, 0.0, 1.0, -1.0
    clip_depth = CLIP_SCALE - CLIP_SHIFT * total / weighted
    w0, w1 = min(max(w0 / total, 0.0), 1.0), min(max(w1 / total, 0.0), 1.0)
    over = max(w0 + w1, 1.0)
    w0, w1 = w0 / over, w1 / over
    return w0, w1, 1.0 - w0 - w1, -min(max(clip_depth, -1.0), 1.0)


@compiled
def shade_reference_band(
    grid: Grid, canvas: Canvas, plate: Plate, rgba: Array, out_depth: Array, begin: int, end: int
) -> None:
    """Turn the nearest face of each pixel of rows begin..end into RGBA and depth, and canvas.nearest into nearness.

    rgba: float32 [h, w, 4], 0 to 255. Nearness: see `_release_weights`; -inf where nothing is.
    """
    faces, texels, vertex_alpha = canvas.faces, plate.texels, plate.vertex_alpha
    rows, columns = grid.depth.shape
    for y in range(begin, end):
        py = y + 0.5
        for x in range(faces.shape[1]):
            rgba[y, x, 0], rgba[y, x, 1], rgba[y, x, 2], rgba[y, x, 3] = 0, 0, 0, 0
            out_depth[y, x], canvas.nearest[y, x] = np.inf, -np.inf
            face = faces[y, x]
            if face < 0:
                continue
            j0, i0, j1, i1, j2, i2 = face_corners(face, rows, columns)
            a, b, c = homogeneous(grid, j0, i0), homogeneous(grid, j1, i1), homogeneous(grid, j2, i2)
            w0, w1, w2, canvas.nearest[y, x] = _release_weights(a, b, c, x + 0.5, py)
            out_depth[y, x] = max(w0 * a[2] + w1 * b[2] + w2 * c[2], NEAR_DEPTH)
            w0, w1, w2 = w0 * vertex_alpha[j0, i0], w1 * vertex_alpha[j1, i1], w2 * vertex_alpha[j2, i2]
            at0, at1, at2 = 3 * (j0 * columns + i0), 3 * (j1 * columns + i1), 3 * (j2 * columns + i2)
            for channel in range(3):
                value = w0 * texels[at0 + channel] + w1 * texels[at1 + channel] + w2 * texels[at2 + channel]
                rgba[y, x, channel] = value
            rgba[y, x, 3] = 255 * (w0 + w1 + w2)
