# SPDX-License-Identifier: Apache-2.0
"""How the release's rasteriser moves a face before it decides what the face covers; reference convention only.

A face that reaches out of the picture, before the near or beyond the far plane is cut there. Then all corners, those of
the cuts too, move to a grid of sub-pixels: a cut in the middle of an edge bends it by up to half a step. What is left
of a face is drawn as triangles around its first corner. Colour and depth come from the corners as they were.
"""

import numpy as np

from ex4d.camera import Array
from ex4d.raster import FAR_DEPTH, NEAR_DEPTH, SUBPIXELS


def snapped(pixels: Array, width: int, height: int) -> Array:
    """Vertices on the sub-pixel grid, which counts from the picture's middle.

    pixels, result: (x z, y z, z), unchanged before the near plane. [V, 3]
    """
    before = pixels[:, 2] >= NEAR_DEPTH
    z, middle = pixels[before, 2:], np.array([width, height]) / 2
    on_grid = pixels.copy()
    on_grid[before, :2] = (np.floor((pixels[before, :2] / z - middle) * SUBPIXELS + 0.5) / SUBPIXELS + middle) * z
    return on_grid


def cut_at_frustum(corners: Array, width: int, height: int) -> Array:
    """What of a face lies in the picture between the planes. corners: (x z, y z, z), [3, 3]. Returns: [0 or 3 to 9, 3]

    The order of the planes and the corner with which the result begins are the release's, see `clipTriangleWithFrustum`
    of nvdiffrast: they say into which triangles it falls apart.
    """
    # How far inside of each plane a point lies: left, right, top, bottom, near, far. [6, 3] @ (x z, y z, z) + [6]
    planes = np.array([[1, 0, 0], [-1, 0, width], [0, 1, 0], [0, -1, height], [0, 0, 1], [0, 0, -1]])
    offsets = np.array([0, 0, 0, 0, -NEAR_DEPTH, FAR_DEPTH])
    for plane, offset in zip(planes, offsets, strict=True):
        distances = corners @ plane + offset
        kept = []
        for k, this in enumerate(distances):
            previous = distances[k - 1]
            if (previous < 0 < this) or (this < 0 < previous):
                inner, outer = (k, k - 1) if this > 0 else (k - 1, k)  # the same cut for both faces of an edge
                share = distances[inner] / (distances[inner] - distances[outer])
                kept.append(corners[inner] + share * (corners[outer] - corners[inner]))
            if this >= 0:
                kept.append(corners[k])
        if len(kept) < 3:
            return np.zeros((0, 3))
        corners = np.stack(kept)
    corners[:, 2] = np.maximum(corners[:, 2], NEAR_DEPTH)  # the near plane's cuts lie on it but for rounding
    return corners
