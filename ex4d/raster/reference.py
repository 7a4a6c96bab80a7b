# SPDX-License-Identifier: Apache-2.0
"""The slow, readable rasteriser: one face after the other in plain numpy float64. The tests' oracle."""

import numpy as np

from ex4d.camera import Array
from ex4d.mesh import DWMesh
from ex4d.raster import FAR_DEPTH, HALF_STEP, NEAR_DEPTH, SLACK_PX, Render, check_render_input, source_pixels
from ex4d.raster.antialias import antialiased, finished, release_weights, vertices_on_picture
from ex4d.raster.frustum import cut_at_frustum, snapped

ROUNDING_PX = 1e-7  # neighbours never leave a crack where a sample lies on their edge


class ReferenceRasteriser:
    """See the module."""

    name = "reference"
    licence = "Apache-2.0"
    commercial_use = True

    def render(
        self, mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
    ) -> Render:
        check_render_input(mesh, texture, world_to_camera, intrinsics, width, height)
        exact = mesh.convention == "exact"
        ray_x, ray_y = mesh.rays
        rays = np.stack([*np.meshgrid(ray_x, ray_y), np.ones(mesh.depth.shape)], axis=-1)
        points = (rays * mesh.depth[..., None]).reshape(-1, 3)
        # (x z, y z, z) of every vertex: pixels times depth, finite on both sides of the camera plane. [V, 3]
        pixels = (points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]) @ intrinsics.T
        placed = pixels if exact else snapped(pixels, width, height)  # decides what covers what
        faces = mesh.faces
        closing = [False, False]
        shows = np.concatenate([mesh.visible[..., 0].ravel(), mesh.visible[..., 1].ravel(), closing])
        front = np.linalg.det(pixels[faces]) > 0
        plate = shows & front & exact

        inverse_depth, winner = np.zeros((height, width), np.float32), np.full((height, width), -1)
        candidates = _candidates(placed[faces], width, height)
        for face in candidates[np.argsort(_numbered(candidates, mesh.depth.shape))]:  # of equally near ones the first
            slack = SLACK_PX if plate[face] else ROUNDING_PX
            push_back = SLACK_PX if exact and not plate[face] else 0.0
            if exact:
                polygon = _clip_near(pixels[faces[face]])
            else:
                polygon = snapped(cut_at_frustum(pixels[faces[face]], width, height), width, height)
            for triangle in _triangles(polygon):
                _draw(triangle, face, exact, slack, push_back, inverse_depth, winner)

        drawn_rows, drawn_columns = rows, columns = np.nonzero(winner >= 0)
        drawn = winner[rows, columns]
        samples = np.stack([columns + 0.5, rows + 0.5], axis=-1)
        u, v = np.meshgrid(mesh.u, mesh.v)
        if exact:
            weights, z = _weights(pixels[faces[drawn]], samples)
            seen = plate[drawn]
            corner_u, corner_v = u.ravel()[faces[drawn]], v.ravel()[faces[drawn]]
            values = _bilinear(texture, (weights * corner_u).sum(axis=1), (weights * corner_v).sum(axis=1)) + 0.5
            torn = np.flatnonzero(_torn(mesh)[drawn] & front[drawn])
            to_source = source_pixels(mesh, world_to_camera, intrinsics)
            for n in torn:
                for pixel, corner_z in _pixels_on_ray(mesh, faces[drawn[n]], to_source, samples[n]):
                    if not seen[n] or corner_z < z[n]:
                        seen[n], z[n], values[n] = True, corner_z, texture[pixel]
            rows, columns, values = rows[seen], columns[seen], values[seen]
        else:
            nearness = np.full((height, width), -np.inf, np.float32)
            weights, nearness[rows, columns] = release_weights(pixels[faces[drawn]], samples)
            z = np.maximum((weights * pixels[faces[drawn], 2]).sum(axis=1), NEAR_DEPTH)
            weights = weights * mesh.vertex_alpha.ravel()[faces[drawn]]
            rgba = np.zeros((height, width, 4))
            rgba[rows, columns, :3] = (weights[..., None] * texture.reshape(-1, 3)[faces[drawn]]).sum(axis=1)
            rgba[rows, columns, 3] = 255 * weights.sum(axis=1)
            vertices = vertices_on_picture(mesh, intrinsics @ world_to_camera[:3])
            blended = antialiased(rgba, _numbered(winner, mesh.depth.shape), nearness, vertices)
            color, mask = finished(blended)
            rows, columns = np.nonzero(mask)
            values = color[mask]
        color, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.bool_)
        depth = np.full((height, width), np.inf, np.float32)
        depth[drawn_rows, drawn_columns] = z
        color[rows, columns] = values.astype(np.uint8)
        mask[rows, columns] = True
        return Render(color, mask, depth)


def _numbered(winner: Array, shape: tuple[int, ...]) -> Array:
    """From places in `DWMesh.faces` to the numbers of `antialiased`: twice the cell, plus 0 or 1. int [...]"""
    cells = (shape[0] - 1) * (shape[1] - 1)
    number = np.where(winner < cells, 2 * winner, 2 * (winner - cells) + 1)
    return np.where(winner < 2 * cells, np.where(winner < 0, -1, number), winner)


def _torn(mesh: DWMesh) -> Array:
    """Faces between the plate's own vertices that do not show it: no skirt, no closing quad. bool [F]"""
    inner = np.zeros(mesh.visible.shape[:2], np.bool_)
    inner[1:-1, 1:-1] = True
    torn = inner[..., None] & ~mesh.visible
    return np.concatenate([torn[..., 0].ravel(), torn[..., 1].ravel(), [False, False]])


def _pixels_on_ray(mesh: DWMesh, face: Array, to_source: Array, sample: Array) -> list[tuple[tuple[int, int], float]]:
    """The plate's pixels at a torn face's corners which the sample's ray meets, and its z-depth there.

    Args:
        face: vertices of the face. int [3]
        to_source: see `source_pixels`. [3, 4]
        sample: pixels. [2]
    """
    rows, columns = mesh.depth.shape
    ray = to_source[:, :3] @ [*sample, 1]
    corners = [divmod(int(vertex), columns) for vertex in face]
    depths = np.array([mesh.depth[corner] for corner in corners], dtype=np.float64)
    z = (depths - to_source[2, 3]) / ray[2]
    # Row and column of the source picture at which the ray comes out at each corner's depth. [3, 2]
    out = np.floor((z[:, None] * ray[1::-1] + to_source[1::-1, 3]) / depths[:, None])
    met = []
    for k, (j, i) in enumerate(corners):
        pixel = min(max(j - 2, 0), rows - 5), min(max(i - 2, 0), columns - 5)
        inside = (out == pixel).all(axis=1)
        around = mesh.visible[j - 1 : j + 1, i - 1 : i + 1].ravel()[1:-1]  # the first and last do not touch the vertex
        if z[k] >= NEAR_DEPTH and (inside[k] if around.any() else inside.all()):
            met.append((pixel, float(z[k])))
    return met


def _candidates(corners: Array, width: int, height: int) -> Array:
    """The faces that may cover a sample of the picture. corners: (x z, y z, z), [F, 3, 3]. Returns: int [<=F]"""
    before = corners[..., 2] >= NEAR_DEPTH
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = corners[..., :2] / corners[..., 2:]
    # Samples lie at i + 0.5. A sample between low and high exists where their whole parts differ; one pixel of margin.
    low, high = np.floor(pixels.min(axis=1) - 0.51), np.floor(pixels.max(axis=1) - 0.49)
    inside = ((high > low) & (high >= 0) & (low < [width, height])).all(axis=1)
    return np.flatnonzero(np.where(before.all(axis=1), inside, before.any(axis=1)))


def _clip_near(corners: Array) -> Array:
    """Cut a face at the near plane. corners: (x z, y z, z), [3, 3]. Returns: [0 or 3 or 4, 3]"""
    kept = []
    for this, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if this[2] >= NEAR_DEPTH:
            kept.append(this)
        if (this[2] >= NEAR_DEPTH) != (following[2] >= NEAR_DEPTH):
            cut = this + (this[2] - NEAR_DEPTH) / (this[2] - following[2]) * (following - this)
            kept.append(np.array([cut[0], cut[1], NEAR_DEPTH]))
    return np.reshape(kept, (-1, 3))


def _triangles(polygon: Array) -> list[Array]:
    """Cut a polygon apart at its first corner. polygon: (x z, y z, z), [C, 3]. Returns: (x, y, 1 / z), [3, 3] each"""
    polygon = np.column_stack([polygon[:, :2], np.ones(len(polygon))]) / polygon[:, 2:]
    return [np.stack([polygon[0], polygon[k], polygon[k + 1]]) for k in range(1, len(polygon) - 1)]


def _draw(
    triangle: Array, face: int, exact: bool, slack: float, push_back: float, inverse_depth: Array, winner: Array
) -> None:
    """Draw one triangle (x, y, 1 / z) [3, 3] into inverse_depth and winner [h, w]."""
    xy, q = triangle[:, :2], triangle[:, 2]
    height, width = winner.shape
    first = np.maximum(np.ceil(xy.min(axis=0) - 0.5 - slack), 0)
    last = np.minimum(np.floor(xy.max(axis=0) - 0.5 + slack), [width - 1, height - 1])
    if (first > last).any():
        return
    columns, rows = (np.arange(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    x, y = np.meshgrid(columns + 0.5, rows + 0.5)
    side = np.roll(xy, -2, axis=0) - np.roll(xy, -1, axis=0)  # of corner k: from corner k + 1 to corner k + 2
    start = np.roll(xy, -1, axis=0)
    area = side[2, 0] * side[0, 1] - side[2, 1] * side[0, 0]
    if area == 0:
        return
    # Weight of corner k: how far the sample lies from the side opposite to it. [3, rows, columns]
    weights = np.stack([side[k, 0] * (y - start[k, 1]) - side[k, 1] * (x - start[k, 0]) for k in range(3)]) * np.sign(
        area
    )
    if exact:
        least = -slack * np.abs(side).sum(axis=1)
    else:
        dx, dy = side.T * np.sign(area)
        least = np.where((dy > HALF_STEP) | ((np.abs(dy) < HALF_STEP) & (dx < HALF_STEP)), HALF_STEP, -HALF_STEP)
    covered = (weights >= least[:, None, None]).all(axis=0)
    weights = np.maximum(weights, 0)
    total = weights.sum(axis=0)
    covered &= total > 0
    candidate = np.einsum("kyx,k->yx", weights, q) / np.where(covered, total, 1)
    if push_back:
        slope = np.abs(q @ side).sum() / abs(area)
        candidate = np.maximum(q.min(), candidate - push_back * slope) * (1 - 1e-6)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    candidate = candidate.astype(np.float32)
    nearer = covered & (candidate > inverse_depth[window]) & (exact | (candidate >= 1 / FAR_DEPTH))
    inverse_depth[window][nearer] = candidate[nearer]
    winner[window][nearer] = face


def _weights(corners: Array, samples: Array) -> tuple[Array, Array]:
    """Where on its face each sample's ray meets it: solve z (x, y, 1) = sum of w_k corner_k.

    Args:
        corners: (x z, y z, z) of the face's corners. [P, 3, 3]
        samples: pixels. [P, 2]

    Returns:
        Perspective-correct weights, each >= 0, sum 1: [P, 3]; z-depth: [P].
    """
    sample = np.concatenate([samples, np.ones((len(samples), 1))], axis=1)
    one, two, three = corners[:, 0], corners[:, 1], corners[:, 2]
    normals = np.stack([np.cross(two, three), np.cross(three, one), np.cross(one, two)], axis=1)
    facing = np.sign((one * normals[:, 0]).sum(axis=1))
    weights = np.maximum((normals * sample[:, None]).sum(axis=2) * facing[:, None], 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights, (weights * corners[..., 2]).sum(axis=1)


def _bilinear(texture: Array, x: Array, y: Array) -> Array:
    """The texture at positions in pixels from its edge, clamped to it. x, y: [P]. Returns: float64 [P, 3]"""
    height, width = texture.shape[:2]
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = (x - left)[:, None], (y - top)[:, None]
    upper = texture[top, left] * (1 - x) + texture[top, right] * x
    lower = texture[bottom, left] * (1 - x) + texture[bottom, right] * x
    return np.asarray(upper * (1 - y) + lower * y)
