# SPDX-License-Identifier: Apache-2.0
"""Tears: which faces of a grid show a surface, and which only bridge the gap between two.

The release cuts every face with a corner below 2.5 degrees. Seen from its camera, that is a surface at a grazing angle
or the gap at a silhouette. The exact convention tells the two apart and keeps the surface, such as far ground.
"""

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled

MIN_ANGLE_DEG = 2.5  # EX-4D release, recon.py: a face with a sharper corner is cut
# A steep edge still belongs to one surface when this many steps on one side of it go on alike, within this factor: a
# plane's disparity is linear in pixels, so ground runs steep for long; a blurred silhouette is shorter.
SURFACE_RUN = 12
SURFACE_FACTOR = 1.5
MAX_COSINE = float(np.cos(np.radians(MIN_ANGLE_DEG)))


@compiled
def find_whole_faces(ray_x: Array, ray_y: Array, depth: Array, whole: Array) -> None:
    """Mark the faces whose three corners are all at least 2.5 degrees wide, in 3D. whole: bool [H-1, W-1, 2], filled"""
    rows, columns = depth.shape
    for j in range(rows - 1):
        y0, y1 = ray_y[j], ray_y[j + 1]
        for i in range(columns - 1):
            x0, x1 = ray_x[i], ray_x[i + 1]
            za, zb = np.float64(depth[j, i]), np.float64(depth[j, i + 1])
            zc, ze = np.float64(depth[j + 1, i]), np.float64(depth[j + 1, i + 1])
            ab_x, ab_y, ab_z = zb * x1 - za * x0, (zb - za) * y0, zb - za
            ac_x, ac_y, ac_z = (zc - za) * x0, zc * y1 - za * y0, zc - za
            bc_x, bc_y, bc_z = zc * x0 - zb * x1, zc * y1 - zb * y0, zc - zb
            be_x, be_y, be_z = (ze - zb) * x1, ze * y1 - zb * y0, ze - zb
            ce_x, ce_y, ce_z = ze * x1 - zc * x0, (ze - zc) * y1, ze - zc
            ab = np.sqrt(ab_x * ab_x + ab_y * ab_y + ab_z * ab_z)
            ac = np.sqrt(ac_x * ac_x + ac_y * ac_y + ac_z * ac_z)
            bc = np.sqrt(bc_x * bc_x + bc_y * bc_y + bc_z * bc_z)
            be = np.sqrt(be_x * be_x + be_y * be_y + be_z * be_z)
            ce = np.sqrt(ce_x * ce_x + ce_y * ce_y + ce_z * ce_z)
            # A corner is wide enough while its cosine stays below the limit: u.v <= limit * |u| |v|.
            whole[j, i, 0] = (
                (ab_x * ac_x + ab_y * ac_y + ab_z * ac_z <= MAX_COSINE * ab * ac)
                & (-(ab_x * bc_x + ab_y * bc_y + ab_z * bc_z) <= MAX_COSINE * ab * bc)
                & (ac_x * bc_x + ac_y * bc_y + ac_z * bc_z <= MAX_COSINE * ac * bc)
            )
            whole[j, i, 1] = (
                (-(bc_x * ce_x + bc_y * ce_y + bc_z * ce_z) <= MAX_COSINE * bc * ce)
                & (bc_x * be_x + bc_y * be_y + bc_z * be_z <= MAX_COSINE * bc * be)
                & (be_x * ce_x + be_y * ce_y + be_z * ce_z <= MAX_COSINE * be * ce)
            )


@compiled
def _goes_on(depth: Array, j: int, i: int, dj: int, di: int) -> bool:
    """Whether the disparity step from (j, i) to (j, i) + (dj, di) is part of a long even slope on one of its sides."""
    rows, columns = depth.shape
    step = 1.0 / depth[j + dj, i + di] - 1.0 / depth[j, i]
    for side in (-1, 1):
        begin = 1 if side > 0 else -1
        even = True
        for k in range(SURFACE_RUN):
            j0, i0 = j + (begin + side * k) * dj, i + (begin + side * k) * di
            j1, i1 = j0 + dj, i0 + di
            if not (0 <= j0 < rows and 0 <= i0 < columns and 0 <= j1 < rows and 0 <= i1 < columns):
                even = False
                break
            share = (1.0 / depth[j1, i1] - 1.0 / depth[j0, i0]) / step
            if not 1.0 / SURFACE_FACTOR <= share <= SURFACE_FACTOR:
                even = False
                break
        if even:
            return True
    return False


@compiled
def restore_steep_surfaces(depth: Array, whole: Array) -> None:
    """Keep the cut cells that belong to a surface seen at a grazing angle, such as far ground. whole: filled

    A cell is kept when each of its steep sides (at least half as steep in disparity as its steepest) goes on.
    """
    rows, columns = depth.shape
    for j in range(rows - 1):
        for i in range(columns - 1):
            if whole[j, i, 0] and whole[j, i, 1]:
                continue
            a, b = 1.0 / depth[j, i], 1.0 / depth[j, i + 1]
            c, e = 1.0 / depth[j + 1, i], 1.0 / depth[j + 1, i + 1]
            steep = 0.5 * max(abs(b - a), abs(c - a), abs(e - b), abs(e - c))
            if (
                (abs(b - a) < steep or _goes_on(depth, j, i, 0, 1))
                and (abs(e - c) < steep or _goes_on(depth, j + 1, i, 0, 1))
                and (abs(c - a) < steep or _goes_on(depth, j, i, 1, 0))
                and (abs(e - b) < steep or _goes_on(depth, j, i + 1, 1, 0))
            ):
                whole[j, i, 0] = whole[j, i, 1] = True


def untorn_vertices(visible: Array) -> Array:
    """Vertices that no cut face touches. visible: bool [H-1, W-1, 2]. Returns: float32 [H, W], 0 or 1"""
    first, second = visible[..., 0], visible[..., 1]
    both = first & second
    alpha = np.ones((visible.shape[0] + 1, visible.shape[1] + 1), dtype=np.bool_)
    alpha[:-1, :-1] &= first
    alpha[:-1, 1:] &= both
    alpha[1:, :-1] &= both
    alpha[1:, 1:] &= second
    return alpha.astype(np.float32)


def smallest_angle_deg(triangle: Array) -> float:
    """triangle: [3, 3] corners."""
    sides = np.roll(triangle, -1, axis=0) - triangle
    lengths = np.linalg.norm(sides, axis=1)
    cosines = -(sides * np.roll(sides, 1, axis=0)).sum(axis=1) / (lengths * np.roll(lengths, 1) + 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).min())
