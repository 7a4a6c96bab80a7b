# SPDX-License-Identifier: Apache-2.0
"""The meshes of a whole shot at once, on the device: the twin of `ex4d.mesh.watertight_mesh`, which tells the rules."""

from typing import Any, NamedTuple

import numpy as np
import torch
import triton
from torch.nn.functional import pad

from ex4d import mesh, silhouette, tears
from ex4d.camera import Array, Convention, pixel_grid
from ex4d.raster.native_launch import Kernel
from ex4d.raster.native_mesh_kernels import find_faces, snap_lines

BLOCK = 128  # cells or pixels per program
EXACTLY = {"enable_fp_fusion": False}  # each operation rounded, as the processor does
SNAP = [Kernel(snap_lines, along_rows, BLOCK, **EXACTLY) for along_rows in (True, False)]
FIND = [Kernel(find_faces, restore, BLOCK, **EXACTLY) for restore in (False, True)]

Tensor = Any  # torch.Tensor, on the device


class Meshes(NamedTuple):
    """Meshes of one grid, on the device; see `ex4d.mesh.DWMesh`."""

    exact: bool  # the convention
    u: Tensor  # float64 [W']
    v: Tensor  # float64 [H']
    ray_x: Tensor  # float64 [W']
    ray_y: Tensor  # float64 [H']
    depth: Tensor  # float32 [T, H', W']
    visible: Tensor  # uint8 [T, H'-1, W'-1, 2]
    alpha: Tensor  # uint8 [T, H', W'], vertex_alpha as 0 or 1; [1] in the exact convention, which has no use for it


def mesh_kernels(exact: bool) -> list[Kernel]:
    """The kernels that `device_meshes` needs."""
    return [*SNAP, FIND[1]] if exact else [FIND[0]]


def device_meshes(
    depth: Tensor, intrinsics: Array, convention: Convention, far: float, sky: Tensor | None = None
) -> Meshes:
    """Close the depth maps of a shot into meshes.

    Args:
        depth: z-depth of the plate, shot units, finite and > 0. float32 [T, H, W]
        intrinsics: the source camera's, pixels. [3, 3]
        far, sky: see `watertight_mesh`; sky bool [T, H, W].
    """
    exact = convention == "exact"
    u, v, closed, visible, alpha = (
        _exact_meshes(depth, intrinsics, far, sky) if exact else _reference_meshes(depth, intrinsics)
    )
    ray_x, ray_y = _rays(u, v, intrinsics)
    return Meshes(exact, _on(depth, u), _on(depth, v), _on(depth, ray_x), _on(depth, ray_y), closed, visible, alpha)


def _on(like: Tensor, values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(like.device)


def _rays(u: Array, v: Array, intrinsics: Array) -> tuple[Array, Array]:
    return (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]


def _reference_meshes(depth: Tensor, intrinsics: Array) -> tuple[Any, ...]:
    closed = depth.clone()
    for border in (closed[:, 0], closed[:, -1], closed[:, :, 0], closed[:, :, -1]):
        border.fill_(mesh.BORDER_DEPTH)
    count, height, width = closed.shape
    u, v = pixel_grid(width, height, "reference")
    visible = torch.empty((count, height - 1, width - 1, 2), dtype=torch.uint8, device=depth.device)
    _find_faces(closed, u, v, intrinsics, visible, 0)
    first, second = visible[..., 0], visible[..., 1]
    alpha = torch.ones_like(closed, dtype=torch.uint8)
    alpha[:, :-1, :-1] &= first
    alpha[:, :-1, 1:] &= first & second
    alpha[:, 1:, :-1] &= first & second
    alpha[:, 1:, 1:] &= second
    ray_x, ray_y = _rays(u, v, intrinsics)
    corners = mesh.BORDER_DEPTH * np.array([[x, y, 1] for y in ray_y[[0, -1]] for x in ray_x[[0, -1]]])
    for face in ((1, 0, 3), (3, 0, 2)):  # the closing quad passes the same test
        if tears.smallest_angle_deg(corners[list(face)]) < tears.MIN_ANGLE_DEG:
            for corner in face:
                alpha[:, -(corner // 2), -(corner % 2)] = 0
    return u, v, closed, visible, alpha


def _exact_meshes(depth: Tensor, intrinsics: Array, far: float, sky: Tensor | None) -> tuple[Any, ...]:
    count, height, width = depth.shape
    card = float(mesh.card_depth(far))
    standing = depth.clamp(max=card)
    if sky is not None:
        standing[sky] = card
    standing = _snapped_silhouettes(standing, intrinsics)
    closed = pad(pad(standing[None], (1, 1, 1, 1), mode="replicate"), (1, 1, 1, 1), value=far)[0]
    visible = torch.zeros((count, height + 3, width + 3, 2), dtype=torch.uint8, device=depth.device)
    u, v = np.arange(width + 2) - 0.5, np.arange(height + 2) - 0.5
    _find_faces(closed, u, v, intrinsics, visible, 1)
    u, v = (np.pad(np.clip(axis, 0, side), 1, mode="edge") for axis, side in ((u, width), (v, height)))
    return u, v, closed, visible, torch.ones((1,), dtype=torch.uint8, device=depth.device)


def _snapped_silhouettes(depth: Tensor, intrinsics: Array) -> Tensor:
    count, height, width = depth.shape
    longest = max(silhouette.MIN_RAMP_PX, int(max(height, width) * silhouette.RAMP_SHARE))
    steepness = _on(depth, silhouette.RAMP_STEEPNESS / intrinsics[[0, 1], [0, 1]])
    grid = (triton.cdiv(height * width, BLOCK), count)
    for axis in (0, 1):
        changes = torch.full(depth.shape, -1, dtype=torch.int64, device=depth.device)
        SNAP[axis](grid, depth, changes, height, width, steepness[axis:], longest)
        depth = torch.where(changes >= 0, changes.to(torch.int32).view(torch.float32), depth)
    return depth


def _find_faces(closed: Tensor, u: Array, v: Array, intrinsics: Array, visible: Tensor, margin: int) -> None:
    """Fill `visible`, less `margin` cells around it: 1 exact, 0 reference.

    u, v: columns and rows of the vertices that are tested.
    """
    ray_x, ray_y = _rays(u, v, intrinsics)
    count, rows, columns = closed.shape
    grid = (triton.cdiv((len(v) - 1) * (len(u) - 1), BLOCK), count)
    FIND[margin](grid, closed, _on(closed, ray_x), _on(closed, ray_y), visible, rows, columns, margin)
