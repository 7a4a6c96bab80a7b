# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The kernels that turn each pixel's nearest face into colour, mask and depth, in Triton."""

import triton
import triton.language as tl

from ex4d.raster import CLIP_SCALE, CLIP_SHIFT
from ex4d.raster.native_cover import EMPTY
from ex4d.raster.native_geometry import NEAR, at, edges, face_corners, face_points, matrix
from ex4d.raster.native_launch import kernel

SCALE = tl.constexpr(CLIP_SCALE)
SHIFT = tl.constexpr(CLIP_SHIFT)


@triton.jit
def _way_out(depth, columns, j, i, back, ray):
    """Where a ray comes out of the source picture at a corner's depth: its z-depth there, row and column."""
    d = tl.load(depth + j * columns + i).to(tl.float64)
    z = (d - back[2][3]) / ray[2]
    return z, tl.floor((z * ray[1] + back[1][3]) / d), tl.floor((z * ray[0] + back[0][3]) / d)


@triton.jit
def _nearest_pixel(found, visible, rows, columns, j, i, own, other, third, torn):
    """Of a pixel found before (row, column, z) and that of corner (j, i), if the ray meets it: the nearer one.

    own, other, third: the ways out at the depths of this and the two other corners.
    """
    row, column = tl.minimum(tl.maximum(j - 2, 0), rows - 5), tl.minimum(tl.maximum(i - 2, 0), columns - 5)
    below = (columns - 1) * 2
    around = visible + (j - 1) * below + (i - 1) * 2  # six faces touch the corner
    shown = tl.load(around + 1, mask=torn, other=0) + tl.load(around + 2, mask=torn, other=0)
    shown += tl.load(around + 3, mask=torn, other=0) + tl.load(around + below, mask=torn, other=0)
    shown += tl.load(around + below + 1, mask=torn, other=0) + tl.load(around + below + 2, mask=torn, other=0)
    straight = (other[1] == row) & (other[2] == column) & (third[1] == row) & (third[2] == column)
    met = torn & (own[1] == row) & (own[2] == column) & ((shown > 0) | straight) & (own[0] >= NEAR)
    nearer = met & (own[0] < found[2])
    return tl.where(nearer, row, found[0]), tl.where(nearer, column, found[1]), tl.where(nearer, own[0], found[2])


@triton.jit
def _release_weights(w0, w1, w2, z0, z1, z2):
    """See `antialias.release_weights`. w0, w1, w2: edge functions of the corners at the sample; z: their depths."""
    total, weighted = w0 + w1 + w2, w0 * z0 + w1 * z1 + w2 * z2
    seen = (total != 0) & (weighted != 0)
    clip_depth = SCALE - SHIFT * (total / tl.where(seen, weighted, 1.0))
    clip_depth = tl.where(seen, tl.minimum(tl.maximum(clip_depth, -1.0), 1.0), 1.0)
    total = tl.where(seen, total, float("inf"))
    w0, w1 = tl.minimum(tl.maximum(w0 / total, 0.0), 1.0), tl.minimum(tl.maximum(w1 / total, 0.0), 1.0)
    over = tl.maximum(w0 + w1, 1.0)
    w0, w1 = w0 / over, w1 / over
    return w0, w1, 1.0 - w0 - w1, -clip_depth.to(tl.float32)


@kernel
def shade(
    depth,
    visible,
    alpha,
    ray_x,
    ray_y,
    u,
    v,
    matrices,
    ways_back,
    source,
    textures,
    rows,
    columns,
    plate_width,
    plate_height,
    width,
    height,
    keys,
    color,
    mask,
    rgba,
    nearness,
    out_depth,
    exact: tl.constexpr,
    block: tl.constexpr,
):
    """Turn the nearest face of each pixel into colour, mask and depth.

    alpha: uint8 [T, H', W'] (reference). ways_back: float64 [N, 3, 4], see `source_pixels` (exact). textures: uint8
    [T, H, W, 3]. color: uint8 [N, h, w, 3]. mask: uint8 [N, h, w]. out_depth: float32 [N, h, w]. In the reference
    convention rgba, float32 [N, h, w, 4], 0 to 255, and nearness, float32 [N, h, w], instead of color and mask.
    Grid: [blocks of pixels, N].
    """
    n = tl.program_id(1).to(tl.int64)
    t = tl.load(source + n).to(tl.int64)
    cells = (rows - 1) * (columns - 1)
    depth += t * rows * columns
    visible += t * cells * 2
    textures += t * plate_width * plate_height * 3
    out = n * width * height

    pixel = tl.program_id(0) * block + tl.arange(0, block)
    alive = pixel < width * height
    key = tl.load(keys + out + pixel, mask=alive, other=EMPTY)
    drawn = key != EMPTY
    face = tl.where(drawn, key & 0xFFFFFFFF, 0).to(tl.int32)
    corners = face_corners(face, rows, columns)
    j0, i0, j1, i1, j2, i2 = corners
    p0, p1, p2 = face_points(depth, ray_x, ray_y, matrix(matrices, n), columns, corners)
    n0, n1, n2, volume = edges(p0, p1, p2)
    y = pixel // width
    px, py = pixel - y * width + 0.5, y + 0.5
    w0, w1, w2 = at(n0, px, py), at(n1, px, py), at(n2, px, py)
    if exact:
        w0, w1, w2 = tl.maximum(w0, 0.0), tl.maximum(w1, 0.0), tl.maximum(w2, 0.0)
        scale = 1.0 / tl.where(drawn, w0 + w1 + w2, 1.0)
        w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
        z = w0 * p0[2] + w1 * p1[2] + w2 * p2[2]
    else:
        w0, w1, w2, near = _release_weights(w0, w1, w2, p0[2], p1[2], p2[2])
        z = tl.maximum(w0 * p0[2] + w1 * p1[2] + w2 * p2[2], NEAR)
        tl.store(nearness + out + pixel, tl.where(drawn, near, -float("inf")), mask=alive)

    if exact:
        color += (out + pixel) * 3
        front = drawn & (volume > 0) & (face < 2 * cells)  # and not the closing quad
        shows = tl.load(visible + face, mask=front, other=0) != 0
        seen = front & shows
        tx = w0 * tl.load(u + i0) + w1 * tl.load(u + i1) + w2 * tl.load(u + i2) - 0.5
        ty = w0 * tl.load(v + j0) + w1 * tl.load(v + j1) + w2 * tl.load(v + j2) - 0.5
        skirt = (j1 == 0) | (i0 == 0) | (j0 == rows - 1) | (i2 == columns - 1)
        torn = front & ~shows & ~skirt
        if tl.max(torn.to(tl.int32)) > 0:
            back = matrix(ways_back, n)
            ray = (
                back[0][0] * px + back[0][1] * py + back[0][2],
                back[1][0] * px + back[1][1] * py + back[1][2],
                back[2][0] * px + back[2][1] * py + back[2][2],
            )
            out0 = _way_out(depth, columns, j0, i0, back, ray)
            out1 = _way_out(depth, columns, j1, i1, back, ray)
            out2 = _way_out(depth, columns, j2, i2, back, ray)
            found = (tl.full([block], -1, tl.int32), tl.full([block], -1, tl.int32), px * 0.0 + float("inf"))
            found = _nearest_pixel(found, visible, rows, columns, j0, i0, out0, out1, out2, torn)
            found = _nearest_pixel(found, visible, rows, columns, j1, i1, out1, out2, out0, torn)
            found = _nearest_pixel(found, visible, rows, columns, j2, i2, out2, out0, out1, torn)
            met = torn & (found[0] >= 0)
            seen = seen | met
            ty, tx, z = tl.where(met, found[0], ty), tl.where(met, found[1], tx), tl.where(met, found[2], z)
        tx = tl.minimum(tl.maximum(tx, 0.0), plate_width - 1.0)
        ty = tl.minimum(tl.maximum(ty, 0.0), plate_height - 1.0)
        x0, y0 = tx.to(tl.int32), ty.to(tl.int32)
        x1, y1 = tl.minimum(x0 + 1, plate_width - 1), tl.minimum(y0 + 1, plate_height - 1)
        fx, fy = tx - x0, ty - y0
        at00, at01 = textures + (y0 * plate_width + x0) * 3, textures + (y0 * plate_width + x1) * 3
        at10, at11 = textures + (y1 * plate_width + x0) * 3, textures + (y1 * plate_width + x1) * 3
        for channel in tl.static_range(3):
            c00, c01 = tl.load(at00 + channel).to(tl.float64), tl.load(at01 + channel).to(tl.float64)
            c10, c11 = tl.load(at10 + channel).to(tl.float64), tl.load(at11 + channel).to(tl.float64)
            upper, lower = c00 * (1 - fx) + c01 * fx, c10 * (1 - fx) + c11 * fx
            value = (upper * (1 - fy) + lower * fy + 0.5).to(tl.int32)
            tl.store(color + channel, tl.where(seen, value, 0).to(tl.uint8), mask=alive)
        tl.store(mask + out + pixel, seen.to(tl.uint8), mask=alive)
    else:
        alpha += t * rows * columns
        rgba += (out + pixel) * 4
        at0, at1, at2 = j0 * columns + i0, j1 * columns + i1, j2 * columns + i2
        w0, w1, w2 = w0 * tl.load(alpha + at0), w1 * tl.load(alpha + at1), w2 * tl.load(alpha + at2)
        for channel in tl.static_range(3):
            value = w0 * tl.load(textures + at0 * 3 + channel)
            value += w1 * tl.load(textures + at1 * 3 + channel)
            value += w2 * tl.load(textures + at2 * 3 + channel)
            tl.store(rgba + channel, tl.where(drawn, value, 0.0).to(tl.float32), mask=alive)
        tl.store(rgba + 3, tl.where(drawn, 255 * (w0 + w1 + w2), 0.0).to(tl.float32), mask=alive)
    tl.store(out_depth + out + pixel, tl.where(drawn, z, float("inf")).to(tl.float32), mask=alive)
