# SPDX-License-Identifier: Apache-2.0
"""The mesh's grid before a camera, for the processor rasteriser: its vertices on the picture, its faces by number."""

from typing import NamedTuple

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import FAR_DEPTH, NEAR_DEPTH, SUBPIXELS

SEGMENT = 32  # cells of one grid row that are skipped together

# x and y in pixels and 1 / z, which is 0 before the near plane. reference: -1 / z beyond the far one.
Corner = tuple[float, float, float]


class Grid(NamedTuple):
    """The mesh before one camera."""

    ray_x: Array  # float64 [W'], x / z of each column
    ray_y: Array  # float64 [H'], y / z of each row
    depth: Array  # float32 [H', W'], in the source camera's frame
    matrix: Array  # float64 [3, 4], from a point of the source camera's frame to (x z, y z, z), x and y in pixels
    screen: Array  # float32 [H', W', 3], each vertex as a `Corner`; reference: on a grid of sub-pixels


class Canvas(NamedTuple):
    """The picture, or a band of it."""

    exact: bool  # the convention
    begin: int  # first row
    end: int  # the row after the last
    nearest: Array  # float32 [h, w], largest 1 / z so far, 0 for nothing
    faces: Array  # int32 [h, w], whose it is: `_face_code`, -1 for nothing


@compiled
def snapped(position: float, middle: float) -> float:
    """A pixel position moved to the sub-pixel grid, which counts from the picture's middle."""
    return float(np.floor((position - middle) * SUBPIXELS + 0.5) / SUBPIXELS + middle)


@compiled
def project(grid: Grid, spans: Array, exact: bool, middle_x: float, middle_y: float, begin: int, end: int) -> None:
    """Fill rows begin..end of the grid's screen and of spans.

    exact: the convention; in the other one the vertices move to the sub-pixel grid around the picture's middle.
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
            if not exact:
                x, y = snapped(x, middle_x), snapped(y, middle_y)
                inverse_z = -inverse_z if z > FAR_DEPTH else inverse_z
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
def vertex(screen: Array, j: int, i: int) -> Corner:
    """A vertex in double precision. screen: float [H, W, 3]"""
    return np.float64(screen[j, i, 0]), np.float64(screen[j, i, 1]), np.float64(screen[j, i, 2])


@compiled
def homogeneous(grid: Grid, j: int, i: int) -> tuple[float, float, float]:
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
def face_code(j: int, i: int, k: int) -> int:
    """A face in 32 bits: row and column of its cell (MAX_SIDE_PX fits into 15 bits) and 0 or 1.

    The closing quad is the cell (H' - 1, 0), one row below the last. Shifts, since divisions cost more than the rest.
    """
    return (j << 16) | (i << 1) | k


@compiled
def face_corners(face: int, rows: int, columns: int) -> tuple[int, int, int, int, int, int]:
    """Row and column of the three corners of a face."""
    j, i = face >> 16, (face >> 1) & 0x7FFF
    if j == rows - 1:
        if face & 1:
            return rows - 1, columns - 1, 0, 0, rows - 1, 0
        return 0, columns - 1, 0, 0, rows - 1, columns - 1
    if face & 1:
        return j + 1, i, j, i + 1, j + 1, i + 1
    return j + 1, i, j, i, j, i + 1
