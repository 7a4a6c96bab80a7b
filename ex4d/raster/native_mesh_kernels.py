# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The mesh's kernels in Triton: the twins of ex4d/silhouette.py and ex4d/tears.py, which tell what they do and why.

Both decide on float64 that follows the twins operation by operation, so that the meshes are the same.
"""

import triton
import triton.language as tl

from ex4d import silhouette, tears
from ex4d.raster.native_launch import kernel

SHOULDER = tl.constexpr(silhouette.SHOULDER)
FAR_SHOULDER = tl.constexpr(silhouette.FAR_SHOULDER)
WIDEST_COSINE = tl.constexpr(tears.MAX_COSINE)
RUN = tl.constexpr(tears.SURFACE_RUN)
FACTOR = tl.constexpr(tears.SURFACE_FACTOR)


@triton.jit
def _step(line, stride, k, wanted):
    """The change of disparity from pixel k of a line to the next."""
    following = 1.0 / tl.load(line + (k + 1) * stride, mask=wanted, other=1.0).to(tl.float64)
    return following - 1.0 / tl.load(line + k * stride, mask=wanted, other=1.0).to(tl.float64)


@triton.jit
def _belongs(line, stride, k, peak, steepness, wanted):
    """See `silhouette._goes_on`. Constants are subtracted: compared, they would be rounded to float32."""
    step = _step(line, stride, k, wanted) / peak
    one = tl.load(line + k * stride, mask=wanted, other=1.0)
    other = tl.load(line + (k + 1) * stride, mask=wanted, other=1.0)
    far = (step > 0) & (tl.abs(one - other) > steepness * FAR_SHOULDER * tl.minimum(one, other))
    return wanted & ((step - SHOULDER >= 0) | far)


@kernel
def snap_lines(depth, changes, rows, columns, steepness, longest, along_rows: tl.constexpr, block: tl.constexpr):
    """See `silhouette._snap_lines`: a program looks at the steps from its pixels to the next ones.

    depth: float32 [T, H, W]. changes: int64 [T, H, W], filled where depth changes with the step's place in its line and
    the new depth; of several ramps over a pixel the last one in the line counts. steepness: float64 [1].
    Grid: [blocks of pixels, T].
    """
    offset = tl.program_id(1).to(tl.int64) * rows * columns
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    alive = pixel < rows * columns
    pixel = tl.where(alive, pixel, 0)
    y = pixel // columns
    x = pixel - y * columns
    if along_rows:
        start, stride, length, k = y * columns, 1, columns, x
    else:
        start, stride, length, k = x, columns, rows, y
    line = depth + offset + start
    least = tl.load(steepness)
    alive = alive & (k >= 1) & (k < length - 2)
    here = tl.load(line + k * stride, mask=alive, other=1.0)
    following = tl.load(line + (k + 1) * stride, mask=alive, other=1.0)
    ramped = alive & (tl.abs(following - here) > least * tl.minimum(here, following))
    if tl.max(ramped.to(tl.int32)) > 0:
        peak = tl.where(ramped, _step(line, stride, k, ramped), 1.0)
        before, after = _step(line, stride, k - 1, ramped) / peak, _step(line, stride, k + 1, ramped) / peak
        ramped = ramped & (before < 1) & (after <= 1) & ((before - SHOULDER >= 0) | (after - SHOULDER >= 0))
        first, last = k, k + 1
        going = ramped
        while tl.max(going.to(tl.int32)) > 0:
            going = going & (first > 0) & (last - first <= longest)
            going = _belongs(line, stride, first - 1, peak, least, going)
            first = tl.where(going, first - 1, first)
        going = ramped
        while tl.max(going.to(tl.int32)) > 0:
            going = going & (last < length - 1) & (last - first <= longest)
            going = _belongs(line, stride, last, peak, least, going)
            last = tl.where(going, last + 1, last)
        one = tl.load(line + first * stride, mask=ramped, other=1.0)
        other = tl.load(line + last * stride, mask=ramped, other=1.0)
        ramped = ramped & (last - first <= longest)
        ramped = ramped & (tl.abs(one - other) >= least * (last - first) * tl.sqrt_rn(one * other))
        middle = 0.5 / one.to(tl.float64) + 0.5 / other.to(tl.float64)
        inner = tl.where(ramped, last - first - 1, 0)
        for step in range(tl.max(inner)):
            wanted = step < inner
            place = (first + 1 + step) * stride
            disparity = 1.0 / tl.load(line + place, mask=wanted, other=1.0).to(tl.float64)
            value = tl.where((disparity > middle) == (one < other), one, other)
            change = (k.to(tl.int64) << 32) | value.to(tl.int32, bitcast=True)
            tl.atomic_max(changes + offset + start + place, change, mask=wanted, sem="relaxed")


@triton.jit
def _length(x, y, z):
    return tl.sqrt(x * x + y * y + z * z)


@triton.jit
def _disparity(depth, columns, j, i, wanted):
    return 1.0 / tl.load(depth + j * columns + i, mask=wanted, other=1.0).to(tl.float64)


@triton.jit
def _goes_on(depth, rows, columns, margin, j, i, dj: tl.constexpr, di: tl.constexpr, wanted):
    """See `tears._goes_on`. Rows and columns count from the mesh's corner; the outer `margin` is no surface."""
    step = _disparity(depth, columns, j + dj, i + di, wanted) - _disparity(depth, columns, j, i, wanted)
    found = wanted & (j < 0)
    for side in tl.static_range(-1, 2, 2):
        even = wanted
        for k in range(RUN):
            shift = (1 if side > 0 else -1) + side * k
            j0, i0 = j + shift * dj, i + shift * di
            j1, i1 = j0 + dj, i0 + di
            even = even & (j0 >= margin) & (i0 >= margin) & (j0 < rows - margin) & (i0 < columns - margin)
            even = even & (j1 >= margin) & (i1 >= margin) & (j1 < rows - margin) & (i1 < columns - margin)
            share = _disparity(depth, columns, j1, i1, even) - _disparity(depth, columns, j0, i0, even)
            share = share / step
            even = even & (share - 1.0 / FACTOR >= 0) & (share <= FACTOR)
        found = found | even
    return found


@kernel
def find_faces(depth, ray_x, ray_y, visible, rows, columns, margin, restore: tl.constexpr, block: tl.constexpr):
    """See `tears.find_whole_faces` and, with `restore`, `tears.restore_steep_surfaces`.

    depth: float32 [T, H', W']. ray_x, ray_y: float64, of the vertices less `margin` around them. visible: uint8
    [T, H'-1, W'-1, 2], filled less `margin` cells around. Grid: [blocks of cells, T].
    """
    t = tl.program_id(1).to(tl.int64)
    depth += t * rows * columns
    across = columns - 1 - 2 * margin
    cell = tl.program_id(0) * block + tl.arange(0, block)
    alive = cell < (rows - 1 - 2 * margin) * across
    cell = tl.where(alive, cell, 0)
    y = cell // across
    x = cell - y * across
    j, i = y + margin, x + margin
    x0, x1, y0, y1 = tl.load(ray_x + x), tl.load(ray_x + x + 1), tl.load(ray_y + y), tl.load(ray_y + y + 1)
    at = depth + j * columns + i
    za, zb = tl.load(at).to(tl.float64), tl.load(at + 1).to(tl.float64)
    zc, ze = tl.load(at + columns).to(tl.float64), tl.load(at + columns + 1).to(tl.float64)
    ab_x, ab_y, ab_z = zb * x1 - za * x0, (zb - za) * y0, zb - za
    ac_x, ac_y, ac_z = (zc - za) * x0, zc * y1 - za * y0, zc - za
    bc_x, bc_y, bc_z = zc * x0 - zb * x1, zc * y1 - zb * y0, zc - zb
    be_x, be_y, be_z = (ze - zb) * x1, ze * y1 - zb * y0, ze - zb
    ce_x, ce_y, ce_z = ze * x1 - zc * x0, (ze - zc) * y1, ze - zc
    ab, ac, bc = _length(ab_x, ab_y, ab_z), _length(ac_x, ac_y, ac_z), _length(bc_x, bc_y, bc_z)
    be, ce = _length(be_x, be_y, be_z), _length(ce_x, ce_y, ce_z)
    whole0 = ab_x * ac_x + ab_y * ac_y + ab_z * ac_z <= ab * ac * WIDEST_COSINE
    whole0 = whole0 & (-(ab_x * bc_x + ab_y * bc_y + ab_z * bc_z) <= ab * bc * WIDEST_COSINE)
    whole0 = whole0 & (ac_x * bc_x + ac_y * bc_y + ac_z * bc_z <= ac * bc * WIDEST_COSINE)
    whole1 = -(bc_x * ce_x + bc_y * ce_y + bc_z * ce_z) <= bc * ce * WIDEST_COSINE
    whole1 = whole1 & (bc_x * be_x + bc_y * be_y + bc_z * be_z <= bc * be * WIDEST_COSINE)
    whole1 = whole1 & (be_x * ce_x + be_y * ce_y + be_z * ce_z <= be * ce * WIDEST_COSINE)
    if restore:
        cut = alive & ~(whole0 & whole1)
        if tl.max(cut.to(tl.int32)) > 0:
            a, b, c, e = 1.0 / za, 1.0 / zb, 1.0 / zc, 1.0 / ze
            ab, ce, ac, be = tl.abs(b - a), tl.abs(e - c), tl.abs(c - a), tl.abs(e - b)
            steep = 0.5 * tl.maximum(tl.maximum(ab, ac), tl.maximum(be, ce))
            kept = cut & ((ab < steep) | _goes_on(depth, rows, columns, margin, j, i, 0, 1, cut))
            kept = kept & ((ce < steep) | _goes_on(depth, rows, columns, margin, j + 1, i, 0, 1, kept))
            kept = kept & ((ac < steep) | _goes_on(depth, rows, columns, margin, j, i, 1, 0, kept))
            kept = kept & ((be < steep) | _goes_on(depth, rows, columns, margin, j, i + 1, 1, 0, kept))
            whole0, whole1 = whole0 | kept, whole1 | kept
    out = visible + ((t * (rows - 1) + j) * (columns - 1) + i) * 2
    tl.store(out, whole0.to(tl.uint8), mask=alive)
    tl.store(out + 1, whole1.to(tl.uint8), mask=alive)
