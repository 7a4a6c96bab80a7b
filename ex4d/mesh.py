# SPDX-License-Identifier: Apache-2.0
"""The depth watertight mesh (DW-Mesh) of one frame: a grid of vertices, closed towards the far side.

A cell of the grid has the corners a (top left), b (top right), c (bottom left), e (bottom right) and two faces, in
the release's order: 0 = (c, a, b), 1 = (c, b, e). Two more faces, the closing quad, join the grid's four outermost
corners. Faces that do not show the plate stay in the mesh as occluders: they hide what lies behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np

from ex4d.camera import Array, Convention, check_convention, check_intrinsics, pixel_grid
from ex4d.errors import DepthError, ShapeError
from ex4d.progress import ProgressCallback, track
from ex4d.storage import replacing

MIN_ANGLE_DEG = 2.5  # EX-4D release, recon.py: a face with a sharper corner is cut
BORDER_DEPTH = 100.0  # EX-4D release, recon.py: depth of the outermost rows and columns
# The far end of the skirt (exact) lies this much beyond the deepest point, so that it hides nothing of the plate.
FAR_FACTOR = 1.25
# A steep edge still belongs to one surface when this many steps on one side of it go on alike, within this factor: a
# plane's disparity is linear in pixels, so ground runs steep for long; a blurred silhouette is shorter.
SURFACE_RUN = 12
SURFACE_FACTOR = 1.5

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile with numba: without the interpreter's lock, IEEE arithmetic only, kept on disk for the next process."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


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
    """Refuse a depth map [H, W] that is no z-depth: wrong shape or type, NaN, infinite, zero or negative."""
    name = "depth" if frame is None else f"depth, frame {frame}"
    if depth.ndim != 2 or depth.size == 0:
        raise ShapeError(f"{name} must be [H, W] with at least one pixel, got {list(depth.shape)}.")
    if depth.dtype.kind != "f":
        raise ShapeError(f"{name} must be floating point, got {depth.dtype}.")
    if not (np.isfinite(depth).all() and depth.min() > 0):
        finite = np.isfinite(depth)
        bad = f"{np.count_nonzero(~finite)} NaN or infinite, {np.count_nonzero(depth[finite] <= 0)} zero or negative"
        raise DepthError(f"{name} must be finite and above 0 everywhere, but has {bad} of {depth.size} pixels.")


def far_depth(depth: Array) -> float:
    """Where the skirt of an `exact` mesh ends: beyond everything in the depth [..., H, W] of the shot."""
    return float(depth.max()) * FAR_FACTOR


def watertight_mesh(depth: Array, intrinsics: Array, convention: Convention, far: float | None = None) -> DWMesh:
    """Close one frame's depth map into a mesh that hides what its camera could not see.

    exact: vertices at pixel centres; a ring on the picture's edge with the edge pixels' depth, so that the source
    camera sees the whole plate back; a second ring, the skirt, at far depth, which with the closing quad only hides.
    Faces torn across a depth edge only hide.
    reference: the release's mesh (recon.py): vertices at whole pixels, the border at depth 100, faces with a corner
    below 2.5 degrees cut and all their vertices blackened, closing quad drawn like the rest.

    Args:
        depth: z-depth of the plate, shot units, finite and > 0. float [H, W]
        intrinsics: the source camera's, pixels. [3, 3]
        convention: exact or reference.
        far: depth of the skirt's far end; None for `far_depth` of this frame. Unused by `reference`.
    """
    check_convention(convention)
    check_intrinsics(intrinsics)
    check_depth(depth)
    depth = depth.astype(np.float32)
    return _reference_mesh(depth, intrinsics) if convention == "reference" else _exact_mesh(depth, intrinsics, far)


def _reference_mesh(depth: Array, intrinsics: Array) -> DWMesh:
    if min(depth.shape) < 2:
        raise ShapeError(f"The reference mesh needs a plate of 2 x 2 pixels or more, got depth {list(depth.shape)}.")
    depth[[0, -1]] = depth[:, [0, -1]] = BORDER_DEPTH
    u, v = pixel_grid(depth.shape[1], depth.shape[0], "reference")
    visible = np.empty((len(v) - 1, len(u) - 1, 2), dtype=np.bool_)
    ray_x, ray_y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    _find_whole_faces(ray_x, ray_y, depth, visible)
    alpha = _alpha(visible)
    corners = BORDER_DEPTH * np.array([[x, y, 1] for y in ray_y[[0, -1]] for x in ray_x[[0, -1]]])
    for face in ((1, 0, 3), (3, 0, 2)):  # the closing quad passes the same test
        if _smallest_angle_deg(corners[list(face)]) < MIN_ANGLE_DEG:
            for corner in face:
                alpha[-(corner // 2), -(corner % 2)] = 0
    return DWMesh(u, v, depth, intrinsics, 0.5, visible, alpha, "reference")


def _exact_mesh(depth: Array, intrinsics: Array, far: float | None) -> DWMesh:
    height, width = depth.shape
    far = far_depth(depth) if far is None else far
    if far < depth.max():
        raise DepthError(f"far must lie behind the deepest pixel, {depth.max():g}, got {far:g}.")
    # The test runs on the plate's pixels and one more of the same depth around them: whole pixels, no slivers.
    ringed = np.pad(depth, 1, mode="edge")
    u, v = np.arange(width + 2) - 0.5, np.arange(height + 2) - 0.5
    whole = np.empty((height + 1, width + 1, 2), dtype=np.bool_)
    ray_x, ray_y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    _find_whole_faces(ray_x, ray_y, ringed, whole)
    _restore_steep_surfaces(ringed, whole)
    visible = np.pad(whole, ((1, 1), (1, 1), (0, 0)))
    u, v = (np.pad(np.clip(axis, 0, side), 1, mode="edge") for axis, side in ((u, width), (v, height)))
    closed = np.pad(ringed, 1, constant_values=far)
    return DWMesh(u, v, closed, intrinsics, 0.0, visible, _alpha(visible), "exact")


def _alpha(visible: Array) -> Array:
    """Vertices that no cut face touches. visible: bool [H-1, W-1, 2]. Returns: float32 [H, W], 0 or 1"""
    first, second = visible[..., 0], visible[..., 1]
    both = first & second
    alpha = np.ones((visible.shape[0] + 1, visible.shape[1] + 1), dtype=np.bool_)
    alpha[:-1, :-1] &= first
    alpha[:-1, 1:] &= both
    alpha[1:, :-1] &= both
    alpha[1:, 1:] &= second
    return alpha.astype(np.float32)


def _smallest_angle_deg(triangle: Array) -> float:
    """triangle: [3, 3] corners."""
    sides = np.roll(triangle, -1, axis=0) - triangle
    lengths = np.linalg.norm(sides, axis=1)
    cosines = -(sides * np.roll(sides, 1, axis=0)).sum(axis=1) / (lengths * np.roll(lengths, 1) + 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).min())


MAX_COSINE = float(np.cos(np.radians(MIN_ANGLE_DEG)))


@compiled
def _find_whole_faces(ray_x: Array, ray_y: Array, depth: Array, whole: Array) -> None:
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
def _restore_steep_surfaces(depth: Array, whole: Array) -> None:
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


def display_arrays(
    depth: Array, intrinsics: Array, convention: Convention, progress: ProgressCallback | None = None
) -> dict[str, Array]:
    """What a viewer needs to show the meshes of a whole shot; saved with np.savez as display.npz.

    Args:
        depth: z-depth, shot units. float [T, H, W]
        intrinsics: the source camera's, pixels. [3, 3]

    Returns:
        u [W'], v [H'], texture_offset [], intrinsics [3, 3]: as in `DWMesh`, float64.
        size: the plate's width and height, int64 [2].
        depth: float32 [T, H', W'].
        occluded: np.packbits of the grid's quads, row-major, uint8 [T, ceil((H'-1) (W'-1) / 8)]; set where at least
            one of the quad's two faces does not show the plate. The closing quad is not among them.
        convention: str [].
    """
    if depth.ndim != 3 or len(depth) == 0:
        raise ShapeError(f"depth must be [T, H, W] with at least one frame, got {list(depth.shape)}.")
    for frame, plane in enumerate(depth):
        check_depth(plane, frame)
    far = far_depth(depth)
    depths: list[Array] = []
    occluded: list[Array] = []
    for plane in track(depth, "Building the mesh", progress):
        mesh = watertight_mesh(plane, intrinsics, convention, far)
        depths.append(mesh.depth)
        occluded.append(np.packbits(~mesh.visible.all(axis=2)))
    return {
        "u": mesh.u,
        "v": mesh.v,
        "texture_offset": np.array(mesh.texture_offset, dtype=np.float64),
        "intrinsics": np.asarray(mesh.intrinsics, dtype=np.float64),
        "size": np.array(depth.shape[:0:-1], dtype=np.int64),
        "depth": np.stack(depths),
        "occluded": np.stack(occluded),
        "convention": np.array(convention),
    }


def vertex_colors(mesh: DWMesh, texture: Array) -> Array:
    """The plate's colour at each vertex, black where a cut face touches it. texture, result: uint8 [H, W, 3]"""
    rows, columns = (
        np.clip(np.floor(axis + mesh.texture_offset), 0, side - 1).astype(np.intp)
        for axis, side in zip((mesh.v, mesh.u), texture.shape[:2], strict=True)
    )
    return np.where(mesh.vertex_alpha[..., None] > 0, texture[np.ix_(rows, columns)], 0).astype(np.uint8)


def write_ply(path: Path | str, mesh: DWMesh, texture: Array) -> None:
    """Write the mesh as a binary PLY with vertex colours, OpenCV axes, every face. texture: uint8 [H, W, 3]"""
    points, faces = mesh.points.reshape(-1, 3), mesh.faces
    vertices = np.empty(len(points), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = points, vertex_colors(mesh, texture).reshape(-1, 3)
    triangles = np.empty(len(faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    triangles["count"], triangles["index"] = 3, faces
    coordinates = "".join(f"property float {axis}\n" for axis in "xyz")
    channels = "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue"))
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{coordinates}{channels}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(vertices.tobytes())
        file.write(triangles.tobytes())
