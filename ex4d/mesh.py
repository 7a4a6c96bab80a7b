# SPDX-License-Identifier: Apache-2.0
"""The depth watertight mesh (DW-Mesh) of one frame: a grid of vertices, closed towards the far side.

A cell of the grid has the corners a (top left), b (top right), c (bottom left), e (bottom right) and two faces, in
the release's order: 0 = (c, a, b), 1 = (c, b, e). Two more faces, the closing quad, join the grid's four outermost
corners. Faces that do not show the plate stay in the mesh as occluders: they hide what lies behind them.
"""

from dataclasses import dataclass

import numpy as np

from ex4d.camera import Array, Convention, check_convention, check_intrinsics, pixel_grid
from ex4d.errors import DepthError, ShapeError
from ex4d.silhouette import snapped_silhouettes
from ex4d.tears import MIN_ANGLE_DEG, find_whole_faces, restore_steep_surfaces, smallest_angle_deg, untorn_vertices

SMALLEST_DEPTH, LARGEST_DEPTH = 1e-20, 1e20  # with room to compute in float32
BORDER_DEPTH = 100.0  # EX-4D release, recon.py: depth of the outermost rows and columns
# The far end of the skirt (exact) lies this much beyond the deepest point, so that it hides nothing of the plate.
FAR_FACTOR = 1.25
# The far card (exact) stands at this many times the distance of the nearer quarter of the shot. A move as long as that
# distance shifts the card by f / 250: 2 pixels at f = 500, too little to tell what stands on it from what is farther.
CARD_FACTOR = 250.0


@dataclass(frozen=True)
class DWMesh:
    """The mesh of one frame, in its source camera's frame (OpenCV, shot units)."""

    u: Array  # float64 [W'], column of each vertex, pixels from the picture's left edge
    v: Array  # float64 [H'], row of each vertex, pixels from the top edge
    depth: Array  # float32 [H', W'], z-depth of each vertex
    intrinsics: Array  # float64 [3, 3], the source camera's
    texture_offset: float  # the plate's position of a vertex is (u, v) + this, pixels from the edge
    visible: Array  # bool [H'-1, W'-1, 2], faces that show the plate; the others only hide
    vertex_alpha: Array  # float32 [H', W'], 0 where a cut face touches the vertex, else 1
    convention: Convention

    @property
    def rays(self) -> tuple[Array, Array]:
        """x / z of each column [W'] and y / z of each row [H'], float64."""
        k = self.intrinsics
        return (self.u - k[0, 2]) / k[0, 0], (self.v - k[1, 2]) / k[1, 1]

    @property
    def points(self) -> Array:
        """Vertices. float32 [H', W', 3]"""
        ray_x, ray_y = self.rays
        rays = np.stack([*np.meshgrid(ray_x, ray_y), np.ones(self.depth.shape)], axis=-1)
        return (rays * self.depth[..., None]).astype(np.float32)

    @property
    def faces(self) -> Array:
        """All faces in the release's order: first ones of the cells, second ones, closing quad. int32 [F, 3]"""
        rows, columns = self.depth.shape
        index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
        a, b, c, e = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        first, second = (np.stack(face, axis=-1).reshape(-1, 3) for face in ((c, a, b), (c, b, e)))
        left, right, bottom_left, bottom_right = index[0, 0], index[0, -1], index[-1, 0], index[-1, -1]
        closing = np.array([[right, left, bottom_right], [bottom_right, left, bottom_left]], dtype=np.int32)
        return np.concatenate([first, second, closing])


def check_depth(depth: Array, frame: int | None = None) -> None:
    """Refuse a depth map [H, W] that is no z-depth: wrong shape or type, NaN, zero, negative, or too large."""
    name = "depth" if frame is None else f"depth, frame {frame}"
    if not isinstance(depth, np.ndarray):
        raise ShapeError(f"{name} must be a numpy array [H, W], got {type(depth).__name__}.")
    if depth.ndim != 2 or depth.size == 0:
        raise ShapeError(f"{name} must be [H, W] with at least one pixel, got {list(depth.shape)}.")
    if depth.dtype.kind != "f":
        raise ShapeError(f"{name} must be floating point, got {depth.dtype}.")
    if not (np.isfinite(depth).all() and depth.min() > 0):
        finite = np.isfinite(depth)
        bad = f"{np.count_nonzero(~finite)} NaN or infinite, {np.count_nonzero(depth[finite] <= 0)} zero or negative"
        raise DepthError(f"{name} must be finite and above 0 everywhere, but has {bad} of {depth.size} pixels.")
    if float(depth.min()) < SMALLEST_DEPTH or float(depth.max()) > LARGEST_DEPTH:
        raise DepthError(
            f"{name} must be from {SMALLEST_DEPTH:g} to {LARGEST_DEPTH:g}, got {depth.min():g} to {depth.max():g}. "
            "Give it in units in which the scene is neither."
        )


def far_depth(depth: Array, sky: Array | None = None) -> float:
    """Where the skirt of an `exact` mesh ends, beyond everything in the shot; `card_depth` follows from it.

    Args:
        depth: z-depth of the shot, shot units. [..., H, W]
        sky: where it shows the sky, whose depth means nothing. bool [..., H, W]
    """
    solid = depth if sky is None or sky.all() else depth[~sky]
    every = max(1, solid.size // 65536)  # a quarter of the pixels is a quarter of a sample of them
    card = CARD_FACTOR * float(np.quantile(solid.ravel()[::every], 0.25))
    if sky is None or not sky.any():
        card = min(card, float(solid.max()))
    return card * FAR_FACTOR


def card_depth(far: float) -> np.float32:
    """Depth of the far card, on which the sky and everything beyond it stand. far: see `far_depth`."""
    return np.float32(far / FAR_FACTOR)


def watertight_mesh(
    depth: Array, intrinsics: Array, convention: Convention, far: float | None = None, sky: Array | None = None
) -> DWMesh:
    """Close one frame's depth map into a mesh that hides what its camera could not see.

    exact: vertices at pixel centres, at the depth of `surface_depth`; a ring on the picture's edge with the edge
    pixels' depth, so that the source camera sees the whole plate back; a second ring, the skirt, at far depth, which
    with the closing quad only hides. Faces torn across a depth edge only hide.
    reference: the release's mesh (recon.py): vertices at whole pixels, the border at depth 100, faces with a corner
    below 2.5 degrees cut and all their vertices blackened, closing quad drawn like the rest.

    Args:
        depth: z-depth of the plate, shot units, finite and > 0. float [H, W]
        intrinsics: the source camera's, pixels. [3, 3]
        convention: exact or reference.
        far: `far_depth` of the whole shot, so that the far card stands still; None for this frame's. Only `exact`.
        sky: where the plate shows the sky. bool [H, W]. Only `exact`.
    """
    check_convention(convention)
    check_intrinsics(intrinsics)
    check_depth(depth)
    if sky is not None and (sky.shape != depth.shape or sky.dtype != np.bool_):
        raise ShapeError(f"sky must be bool {list(depth.shape)} like the depth, got {sky.dtype} {list(sky.shape)}.")
    if far is not None and not 0 < far < np.inf:
        raise DepthError(f"far must be a depth above 0, got {far:g}.")
    depth = depth.astype(np.float32)
    if convention == "reference":
        return _reference_mesh(depth, intrinsics)
    return _exact_mesh(depth, intrinsics, far_depth(depth, sky) if far is None else far, sky)


def surface_depth(depth: Array, intrinsics: Array, far: float, sky: Array | None = None) -> Array:
    """Where the plate's pixels stand in an `exact` mesh: far things on the far card, silhouettes as steps.

    depth, result: float32 [H, W]. The rest as in `watertight_mesh`.
    """
    card = card_depth(far)
    standing = np.minimum(depth, card)
    if sky is not None:
        standing[sky] = card
    return snapped_silhouettes(standing, intrinsics)


def _reference_mesh(depth: Array, intrinsics: Array) -> DWMesh:
    if min(depth.shape) < 2:
        raise ShapeError(f"The reference mesh needs a plate of 2 x 2 pixels or more, got depth {list(depth.shape)}.")
    depth[[0, -1]] = depth[:, [0, -1]] = BORDER_DEPTH
    u, v = pixel_grid(depth.shape[1], depth.shape[0], "reference")
    visible = np.empty((len(v) - 1, len(u) - 1, 2), dtype=np.bool_)
    ray_x, ray_y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    find_whole_faces(ray_x, ray_y, depth, visible)
    alpha = untorn_vertices(visible)
    corners = BORDER_DEPTH * np.array([[x, y, 1] for y in ray_y[[0, -1]] for x in ray_x[[0, -1]]])
    for face in ((1, 0, 3), (3, 0, 2)):  # the closing quad passes the same test
        if smallest_angle_deg(corners[list(face)]) < MIN_ANGLE_DEG:
            for corner in face:
                alpha[-(corner // 2), -(corner % 2)] = 0
    return DWMesh(u, v, depth, intrinsics, 0.5, visible, alpha, "reference")


def _exact_mesh(depth: Array, intrinsics: Array, far: float, sky: Array | None) -> DWMesh:
    height, width = depth.shape
    depth = surface_depth(depth, intrinsics, far, sky)
    # The test runs on the plate's pixels and one more of the same depth around them: whole pixels, no slivers.
    ringed = np.pad(depth, 1, mode="edge")
    u, v = np.arange(width + 2) - 0.5, np.arange(height + 2) - 0.5
    whole = np.empty((height + 1, width + 1, 2), dtype=np.bool_)
    ray_x, ray_y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    find_whole_faces(ray_x, ray_y, ringed, whole)
    restore_steep_surfaces(ringed, whole)
    visible = np.pad(whole, ((1, 1), (1, 1), (0, 0)))
    u, v = (np.pad(np.clip(axis, 0, side), 1, mode="edge") for axis, side in ((u, width), (v, height)))
    closed = np.pad(ringed, 1, constant_values=far)
    return DWMesh(u, v, closed, intrinsics, 0.0, visible, untorn_vertices(visible), "exact")
