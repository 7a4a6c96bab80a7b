# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's nvdiffrast, which the EX-4D release draws with. Its licence allows no commercial use.

reference: what the release does, edge antialiasing included. exact: the same triangles with the plate as texture; the
sub-pixel rules for edges between plate and occluder are the hardware's, not those of raster/__init__.py.
"""

from typing import Any

import numpy as np

from ex4d.camera import Array
from ex4d.errors import InputError, MachineError
from ex4d.mesh import DWMesh
from ex4d.raster import ALPHA_THRESHOLD, FAR_DEPTH, NEAR_DEPTH, Render, check_render_input

try:
    import nvdiffrast.torch as dr
    import torch
except ImportError as error:
    raise MachineError(
        f"The nvdiffrast rasteriser needs {error.name}, which is not installed. Its licence allows research only; see "
        "https://github.com/NVlabs/nvdiffrast for how to install it, or choose native or cpu, which any work may use."
    ) from error


class NvdiffrastRasteriser:
    """See the module. Draws the reference convention only."""

    name = "nvdiffrast"
    licence = "NVIDIA Source Code License (nvdiffrast): research and evaluation only"
    commercial_use = False

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise MachineError(
                "The nvdiffrast rasteriser needs an NVIDIA GPU, but PyTorch finds none. Choose the cpu rasteriser."
            )
        self._context = dr.RasterizeCudaContext(device="cuda")

    def render(
        self, mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
    ) -> Render:
        check_render_input(mesh, texture, world_to_camera, intrinsics, width, height)
        if mesh.convention != "reference":
            raise InputError(
                "The nvdiffrast rasteriser draws the reference convention only. Choose native or cpu for exact."
            )
        points, faces = _on_device(mesh.points.reshape(-1, 3)), _on_device(mesh.faces)
        alpha = mesh.vertex_alpha[..., None]
        colors = np.concatenate([texture * alpha, 255 * alpha], axis=-1, dtype=np.float32)
        camera = _on_device((clip_matrix(intrinsics, width, height) @ world_to_camera).astype(np.float32))
        color, drawn, clip = self.draw(points, faces, _on_device(colors.reshape(-1, 4)), camera, width, height)
        seen = color[..., 3] > 255 * ALPHA_THRESHOLD
        rgb = torch.where(seen[..., None], color[..., :3], 0).to(torch.uint8)
        z, _ = dr.interpolate(clip[..., 3:].contiguous(), drawn, faces)
        depth = torch.where(drawn[0, ..., 3] > 0, z[0, ..., 0], float("inf"))
        return Render(rgb.cpu().numpy(), seen.cpu().numpy(), depth.cpu().numpy())

    def draw(self, points: Any, faces: Any, colors: Any, camera: Any, width: int, height: int) -> tuple[Any, Any, Any]:
        """Draw on the device as the release does.

        Args:
            points, faces, colors: float32 [V, 3], int32 [F, 3] and RGBA 0 to 255, float32 [V, 4]
            camera: from points to clip space, see `clip_matrix`. float32 [4, 4]

        Returns:
            RGBA float32 [h, w, 4]; what nvdiffrast says of each pixel [1, h, w, 4]; vertices in clip space [1, V, 4].
        """
        clip = (torch.nn.functional.pad(points, (0, 1), value=1.0) @ camera.T)[None]
        drawn, _ = dr.rasterize(self._context, clip, faces, resolution=[height, width])
        color, _ = dr.interpolate(colors[None], drawn, faces)
        color = dr.antialias(color, drawn, clip, faces)
        return color[0], drawn, clip


def clip_matrix(intrinsics: Array, width: int, height: int) -> Array:
    """From camera space to nvdiffrast's clip space, whose y grows with the picture's rows. float64 [4, 4]"""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    far, near = FAR_DEPTH, NEAR_DEPTH
    return np.array(
        [
            [2 * fx / width, 0, 2 * cx / width - 1, 0],
            [0, 2 * fy / height, 2 * cy / height - 1, 0],
            [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, 1, 0],
        ]
    )


def _on_device(values: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(values)).to("cuda")
