# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The mesh's grid before a camera, in Triton: cells and faces by number, their corners, their edges on the picture.

A point before a camera is (x z, y z, z), x and y in pixels. A face's three cross products of its corners are its edge
functions on the picture, also where the face passes behind the camera, so nothing is clipped.

A cell is one number, row by row; the closing quad is the last one. A face is twice its cell, plus 0 or 1. Positions and
edge functions are float64, so that neighbours agree about the samples on their common edge.
"""

import triton
import triton.language as tl

from ex4d.raster import NEAR_DEPTH

NEAR = tl.constexpr(NEAR_DEPTH)


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
def face_corners(face, rows, columns):
    """Row and column of each of a face's three corners, (c, a, b) or (c, b, e)."""
    top, bottom, left, right = cell_sides(face // 2, rows, columns)
    second = face % 2 == 1
    return bottom, left, top, tl.where(second, right, left), tl.where(second, bottom, top), right


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
def face_points(depth, ray_x, ray_y, camera, columns, corners):
    """A face's corners before the camera. corners: see `face_corners`."""
    p0 = point(depth, ray_x, ray_y, camera, columns, corners[0], corners[1])
    p1 = point(depth, ray_x, ray_y, camera, columns, corners[2], corners[3])
    p2 = point(depth, ray_x, ray_y, camera, columns, corners[4], corners[5])
    return p0, p1, p2


@triton.jit
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def volume_of(p0, p1, p2):
    """Of the face with the camera, times six; above 0 when the face shows its front."""
    n0 = _cross(p1, p2)
    return p0[0] * n0[0] + p0[1] * n0[1] + p0[2] * n0[2]


@triton.jit
def edges(p0, p1, p2):
    """Edge functions (a x + b y + c, positive inside) of the three corners, and the face's `volume_of`."""
    n0, n1, n2, volume = _cross(p1, p2), _cross(p2, p0), _cross(p0, p1), volume_of(p0, p1, p2)
    sign = tl.where(volume >= 0, 1.0, -1.0).to(tl.float64)
    n0 = (n0[0] * sign, n0[1] * sign, n0[2] * sign)
    n1 = (n1[0] * sign, n1[1] * sign, n1[2] * sign)
    n2 = (n2[0] * sign, n2[1] * sign, n2[2] * sign)
    return n0, n1, n2, volume


@triton.jit
def at(edge, x, y):
    return edge[0] * x + edge[1] * y + edge[2]
