# SPDX-License-Identifier: Apache-2.0
"""The cuts of frustum.py for the processor rasteriser."""

import numpy as np

from ex4d.camera import Array
from ex4d.compiled import compiled
from ex4d.raster import FAR_DEPTH, NEAR_DEPTH
from ex4d.raster.cpu_grid import Corner, snapped

MOST_CORNERS = 9  # of a triangle cut by six planes


@compiled
def _distance(corner: Array, plane: int, width: int, height: int) -> float:
    """How far inside of a plane (x z, y z, z) lies: left, right, top, bottom, near, far."""
    x, y, z = float(corner[0]), float(corner[1]), float(corner[2])
    if plane < 2:
        return x if plane == 0 else width * z - x
    if plane < 4:
        return y if plane == 2 else height * z - y
    return z - NEAR_DEPTH if plane == 4 else FAR_DEPTH - z


@compiled
def cut_at_frustum(corners: tuple[Corner, Corner, Corner], rooms: Array, width: int, height: int) -> int:
    """Find what of a face lies in the picture between the planes; see `frustum.cut_at_frustum`.

    Args:
        corners: (x z, y z, z)
        rooms: the first becomes the result, (x, y, 1 / z) on the sub-pixel grid. float64 [2, MOST_CORNERS, 3]

    Returns:
        How many corners that has, 0 or 3 to 9.
    """
    polygon, room, count = rooms[0], rooms[1], 3
    for k in range(count):
        polygon[k, 0], polygon[k, 1], polygon[k, 2] = corners[k]
    for plane in range(6):
        least = np.inf
        for k in range(count):
            least = min(least, _distance(polygon[k], plane, width, height))
        if least >= 0:
            continue
        kept, previous = 0, count - 1
        before = _distance(polygon[previous], plane, width, height)
        for k in range(count):
            here = _distance(polygon[k], plane, width, height)
            if (before < 0 < here) or (here < 0 < before):
                inner, outer = (k, previous) if here > 0 else (previous, k)
                share = max(here, before) / abs(here - before)
                for axis in range(3):
                    room[kept, axis] = polygon[inner, axis] + share * (polygon[outer, axis] - polygon[inner, axis])
                kept += 1
            if here >= 0:
                room[kept] = polygon[k]
                kept += 1
            previous, before = k, here
        if kept < 3:
            return 0
        polygon[:kept], count = room[:kept], kept
    for k in range(count):
        inverse_z = 1.0 / polygon[k, 2]
        polygon[k, 0] = snapped(polygon[k, 0] * inverse_z, 0.5 * width)
        polygon[k, 1] = snapped(polygon[k, 1] * inverse_z, 0.5 * height)
        polygon[k, 2] = inverse_z
    return count
