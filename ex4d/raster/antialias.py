# SPDX-License-Identifier: Apache-2.0
"""Edge antialiasing of the reference convention, as the release has it from nvdiffrast.

Where two neighbouring pixels show different faces, the nearer face's edge that passes between their centres is looked
for. If the mesh folds or ends at that edge, the pixel that the edge cuts takes a share of its neighbour's RGBA, up to
half of it. After S. Laine et al., Modular Primitives for High-Performance Differentiable Rendering, 2020, section 3.

A face is numbered here as twice its cell, row by row, plus 0 or 1; the closing quad is the cell after the last.
"""

import numpy as np

from ex4d.camera import Array
from ex4d.mesh import DWMesh
from ex4d.raster import ALPHA_THRESHOLD, CLIP_SCALE, CLIP_SHIFT, EDGE_REACH_PX


def release_weights(corners: Array, samples: Array) -> tuple[Array, Array]:
    """Weights of faces' corners at samples as the release has them, and how near the faces are there.

    A sample may lie outside its face, whose corners moved to the sub-pixel grid when it was drawn: the weights are then
    cut to the face, the nearness is that of the face's plane. Nearness is the depth of the release's clip space with
    its sign turned, in its coarse single precision.

    Args:
        corners: (x z, y z, z), where they were before they moved. [P, 3, 3]
        samples: pixels. [P, 2]

    Returns:
        Perspective-correct weights, each >= 0, sum 1: [P, 3]; nearness: float32 [P].
    """
    sample = np.concatenate([samples, np.ones((len(samples), 1))], axis=1)
    one, two, three = corners[:, 0], corners[:, 1], corners[:, 2]
    normals = np.stack([np.cross(two, three), np.cross(three, one), np.cross(one, two)], axis=1)
    weights = (normals * sample[:, None]).sum(axis=2)
    total, weighted = weights.sum(axis=1), (weights * corners[..., 2]).sum(axis=1)
    edge_on = (total == 0) | (weighted == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        clip_depth = np.clip(CLIP_SCALE - CLIP_SHIFT * total / weighted, -1, 1)
        first_two = np.clip(weights[:, :2] / total[:, None], 0, 1)
    first_two /= np.maximum(first_two.sum(axis=1), 1)[:, None]
    first_two[edge_on], clip_depth[edge_on] = 0, 1
    return np.column_stack([first_two, 1 - first_two.sum(axis=1)]), -clip_depth.astype(np.float32)


@np.errstate(divide="ignore", invalid="ignore")  # vertices in the camera plane, which make no outline
def antialiased(rgba: Array, faces: Array, nearness: Array, vertices: Array) -> Array:
    """Blend the edges of a picture.

    Args:
        rgba: the picture, 0 to 255. float [h, w, 4]
        faces: the face that each pixel shows, -1 for none. int [h, w]
        nearness: how near it is, -inf for none; see `release_weights`. float32 [h, w]
        vertices: where the mesh's vertices lie on the picture, pixels. float64 [H', W', 2]
    """
    blended = rgba.copy()
    height, width = faces.shape
    outline = _outline(vertices)
    drawn_outline = (faces >= 0) & outline[np.maximum(faces, 0)]
    for step_y, step_x in ((0, 1), (1, 0)):
        here, there = np.s_[: height - step_y, : width - step_x], np.s_[step_y:, step_x:]
        nearer = np.where(nearness[here] > nearness[there], drawn_outline[here], drawn_outline[there])
        y, x = np.nonzero((faces[here] != faces[there]) & nearer)
        one, other = (y, x), (y + step_y, x + step_x)
        first = nearness[one] > nearness[other]  # the nearer one; of equals the one to the right or below
        side = np.where(first, 1.0, -1.0)
        centre = np.stack([np.where(first, x, x + step_x), np.where(first, y, y + step_y)], axis=-1) + 0.5
        place = _silhouette(np.where(first, faces[one], faces[other]), centre, side, vertices, step_y == 1)
        passes = (place > -EDGE_REACH_PX) & (place < 1 + EDGE_REACH_PX)
        share = np.where(passes, side * (0.5 - np.clip(place, 0, 1)), 0)
        change = share[:, None] * (rgba[other] - rgba[one])
        for taker, takes in ((one, share > 0), (other, share < 0)):
            np.add.at(blended, (taker[0][takes], taker[1][takes]), change[takes])
    return blended


def finished(rgba: Array) -> tuple[Array, Array]:
    """Colour uint8 [h, w, 3] and mask bool [h, w] of a blended picture, as the release cuts and truncates it."""
    mask = rgba[..., 3] > 255 * ALPHA_THRESHOLD
    # 1e-3, well above float32's rounding, so that a whole number stays whole.
    return np.where(mask[..., None], rgba[..., :3] + 1e-3, 0).astype(np.uint8), mask


def vertices_on_picture(mesh: DWMesh, matrix: Array) -> Array:
    """Pixels of the vertices, meaningless before the near plane. matrix: point to (x z, y z, z), [3, 4]. [H', W', 2]"""
    ray_x, ray_y = mesh.rays
    z = mesh.depth.astype(np.float64)
    x, y, w = (z * (row[0] * ray_x + (row[1] * ray_y + row[2])[:, None]) + row[3] for row in matrix)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([x / w, y / w], axis=-1)


def _silhouette(faces: Array, centre: Array, side: Array, vertices: Array, down: bool) -> Array:
    """How far from the centres towards their neighbours a silhouette of the face there passes, pixels; -inf: none.

    Args:
        faces, centre, side: a face each [P], the pixel's centre [P, 2], and whether the neighbour lies to the right or
            below (1) or on the other side (-1). [P]
    """
    corners, wings = _corners_and_wings(faces, *vertices.shape[:2])
    p = vertices[corners[..., 0], corners[..., 1]] - centre[:, None]
    o = vertices[wings[..., 0], wings[..., 1]] - centre[:, None]
    turned = _turn(p[:, 0], p[:, 1], p[:, 2]) < 0
    places, may = np.full((len(faces), 3), -np.inf), np.zeros((len(faces), 3), np.bool_)
    for k in range(3):
        start, end = p[:, (k + 1) % 3], p[:, (k + 2) % 3]
        folds = (_turn(o[:, k], start, end) < 0) == turned
        if down:
            start, end = start[:, ::-1], end[:, ::-1]
        along, across = (end - start).T
        meets = (start[:, 1] < 0) != (end[:, 1] < 0)
        places[:, k] = np.where(meets, side * (start[:, 0] - start[:, 1] * along / across), -np.inf)
        may[:, k] = folds & (np.abs(across) >= np.abs(along))
    last = (np.arange(len(faces)), places.argmax(axis=1))
    return np.where(may[last], places[last], -np.inf)


def _outline(vertices: Array) -> Array:
    """The faces with a silhouette: at one of their sides the mesh ends or turns its other face to the camera. bool [F]

    That is few of a picture's faces; the others need no closer look.
    """
    a, b, c, e = vertices[:-1, :-1], vertices[:-1, 1:], vertices[1:, :-1], vertices[1:, 1:]
    first, second = _turn(c, a, b) < 0, _turn(c, b, e) < 0
    outline = np.ones((*first.shape, 2), np.bool_)
    fold = first != second
    outline[1:, 1:, 0] = fold[1:, 1:] | (first[1:, 1:] != second[:-1, 1:]) | (first[1:, 1:] != second[1:, :-1])
    outline[:-1, :-1, 1] = fold[:-1, :-1] | (second[:-1, :-1] != first[1:, :-1]) | (second[:-1, :-1] != first[:-1, 1:])
    return np.concatenate([outline.ravel(), [True, True]])


def _turn(a: Array, b: Array, c: Array) -> Array:
    """Twice the area of the triangles, above 0 when they turn like x to y. [..., 2] each. Returns: [...]"""
    to_b, to_c = b - a, c - a
    return np.asarray(to_b[..., 0] * to_c[..., 1] - to_c[..., 0] * to_b[..., 1])


def _corners_and_wings(faces: Array, rows: int, columns: int) -> tuple[Array, Array]:
    """Row and column of each face's corners, and of the corners beyond the sides opposite to them. int [P, 3, 2]

    Where the mesh ends at a side, the corner itself stands for the one beyond, so that the side is a silhouette.
    """
    j, i = np.divmod(faces // 2, columns - 1)
    second, closing = faces % 2 == 1, j == rows - 1
    top, bottom = np.where(closing, 0, j), np.where(closing, rows - 1, j + 1)
    left, right = np.where(closing, columns - 1, i), np.where(closing, 0, i + 1)
    a, b, c, e = ((row, column) for row in (top, bottom) for column in (left, right))
    corners = [np.where(second, one, zero) for one, zero in zip((c, b, e), (c, a, b), strict=True)]
    beyond = [
        (
            np.where(second, (top, right + 1), (top - 1, right)),
            ~closing & np.where(second, right + 1 < columns, top > 0),
        ),
        (np.where(second, (bottom + 1, left), e), ~second | (~closing & (bottom + 1 < rows))),
        (np.where(second, a, (bottom, left - 1)), second | (~closing & (left > 0))),
    ]
    wings = [np.where(there, wing, corner) for (wing, there), corner in zip(beyond, corners, strict=True)]
    return np.stack(corners).transpose(2, 0, 1), np.stack(wings).transpose(2, 0, 1)
