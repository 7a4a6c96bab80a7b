# SPDX-License-Identifier: Apache-2.0
"""Our own rasteriser for NVIDIA GPUs: Triton kernels that exploit that the mesh is a grid.

There is no index buffer and no list of vertices: a program owns a run of the grid's cells, moves their corners before
the camera, and draws the few samples of each cell at once, with one atomic minimum per sample on a 64-bit key of depth
and face. Cells that are stretched, or cross the camera plane, go to a list that a second kernel draws tile by tile. A
third kernel fetches the winning face of each pixel and shades it; in the reference convention a fourth one blends the
edges as the release does. All frames of a clip go through one launch of each.
The key orders equal depths by face, so the pixels do not depend on the order in which the GPU works.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ex4d.camera import Array, CameraPath, Convention
from ex4d.errors import MachineError
from ex4d.mesh import DWMesh
from ex4d.progress import ProgressCallback, track
from ex4d.raster import Render, check_render_input

try:
    import torch
    import triton

    from ex4d.raster.native_antialias import finish
    from ex4d.raster.native_cover import NOTHING
    from ex4d.raster.native_draw import draw_cells, draw_listed
    from ex4d.raster.native_launch import Kernel, c_compiler_needed, compile_together
    from ex4d.raster.native_mesh import Meshes, device_meshes, mesh_kernels
    from ex4d.raster.native_shading import shade
except ImportError as error:
    raise MachineError(
        f"The native rasteriser needs PyTorch and Triton, but {error.name} is not installed. Install them with "
        "pip install 'ex4d[gpu]' on a machine with an NVIDIA GPU, or choose the cpu rasteriser."
    ) from error

CELL_BLOCK = 128  # cells per program
PIXEL_BLOCK = 128  # pixels per program
LISTED_PROGRAMS = 8192  # programs that share the listed faces of all frames of a launch
CLIP_PIXELS = 1 << 22  # output pixels of one launch: while the host copies some frames, the GPU draws the next

Tensor = Any  # torch.Tensor, on the device


class Kernels(NamedTuple):
    """The kernels of a convention, in the order in which they run."""

    cells: Kernel
    medium: Kernel
    large: Kernel
    shade: Kernel
    finish: Kernel | None  # reference only: the release's edge antialiasing


def _kernels(exact: bool) -> Kernels:
    # Of listed faces: whether the large ones, how many programs share one, rows and columns of samples that a program
    # tests together. Medium faces are thin in most pictures: things torn from what is behind them.
    return Kernels(
        cells=Kernel(draw_cells, exact, CELL_BLOCK),
        medium=Kernel(draw_listed, 0, 1, 16, 2, exact, num_warps=1),
        large=Kernel(draw_listed, 1, 64, 4, 64, exact, num_warps=2),
        shade=Kernel(shade, exact, PIXEL_BLOCK),
        finish=None if exact else Kernel(finish, PIXEL_BLOCK),
    )


KERNELS = {exact: _kernels(exact) for exact in (False, True)}


@dataclass(frozen=True)
class Views:
    """The pictures to draw of a meshes."""

    matrices: Tensor  # float64 [N, 3, 4], from a point of the source camera's frame to (x z, y z, z), in pixels
    ways_back: Tensor  # float64 [N, 3, 4], see `source_pixels`
    source: Tensor  # int32 [N], which of the meshes each picture shows
    width: int
    height: int


class NativeRasteriser:
    """See the module. device: where to draw; a processor only serves Triton's interpreter (TRITON_INTERPRET=1)."""

    name = "native"
    licence = "Apache-2.0"
    commercial_use = True

    def __init__(self, device: str = "cuda") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise MachineError(
                "The native rasteriser needs an NVIDIA GPU, but PyTorch finds none: install its driver and a PyTorch "
                "with CUDA, or choose the cpu rasteriser."
            )
        with c_compiler_needed():
            if device == "cuda":
                triton.runtime.driver.active.get_current_device()  # builds what Triton loads kernels with
        self._device = torch.device(device)
        self._lock = Lock()

    def render(
        self, mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
    ) -> Render:
        check_render_input(mesh, texture, world_to_camera, intrinsics, width, height)
        self._compile(mesh.convention == "exact", meshes=False)
        ray_x, ray_y = mesh.rays
        meshes = Meshes(
            exact=mesh.convention == "exact",
            u=self.upload(mesh.u, np.float64),
            v=self.upload(mesh.v, np.float64),
            ray_x=self.upload(ray_x, np.float64),
            ray_y=self.upload(ray_y, np.float64),
            depth=self.upload(mesh.depth[None], np.float32),
            visible=self.upload(mesh.visible[None], np.uint8),
            alpha=self.upload(mesh.vertex_alpha[None], np.uint8),
        )
        views = self.views(mesh.intrinsics, world_to_camera[None], intrinsics[None], np.zeros(1), width, height)
        drawn = self.draw(meshes, self.upload(texture[None], np.uint8), views)
        color, mask, out_depth = (image[0].cpu().numpy() for image in drawn)
        return Render(color, mask.view(np.bool_), out_depth)

    def render_clip(
        self,
        frames: Array | Tensor,
        depth: Array | Tensor,
        intrinsics: Array,
        convention: Convention,
        cameras: CameraPath,
        far: float,
        sky: Array | Tensor | None = None,
        progress: ProgressCallback | None = None,
    ) -> Render:
        """Build the meshes of a shot on the device and draw them from all cameras of a path.

        Args:
            frames: the plate. uint8 [T, H, W, 3], array or tensor
            depth: z-depth of the plate, shot units, finite and > 0. float [T, H, W], array or tensor
            intrinsics: the plate camera's, pixels. [3, 3]
            cameras: the take's; `source_frame` is rounded to the nearest frame of the plate.
            far, sky: see `watertight_mesh`; sky bool [T, H, W], array or tensor

        Returns:
            The pictures of `render`, with the path's frames as first axis.
        """
        self._compile(convention == "exact", meshes=True)
        used, source = np.unique(np.rint(cameras.source_frame).astype(np.intp), return_inverse=True)
        shown = slice(None) if len(used) == len(frames) else used
        textures, z = self.upload(frames[shown], np.uint8), self.upload(depth[shown], np.float32)
        sky_z = None if sky is None else self.upload(sky[shown], np.bool_)
        meshes = device_meshes(z, intrinsics, convention, far, sky_z)
        width, height = cameras.width, cameras.height
        count, step = len(cameras), max(1, CLIP_PIXELS // (width * height))
        result = Render(
            np.empty((count, height, width, 3), np.uint8),
            np.empty((count, height, width), np.bool_),
            np.empty((count, height, width), np.float32),
        )
        pending: list[Any] = []
        for begin in track(range(0, count, step), "Rendering the mesh", progress):
            part = np.s_[begin : begin + step]
            path = (cameras.world_to_camera[part], cameras.intrinsics[part])
            drawn = self.draw(meshes, textures, self.views(intrinsics, *path, source[part], width, height))
            pending.append((part, *self._start_download(drawn)))
            if len(pending) == 2:
                _finish_download(result, *pending.pop(0))
        _finish_download(result, *pending.pop())
        return result

    def draw(self, meshes: Meshes, textures: Tensor, views: Views) -> tuple[Tensor, ...]:
        """Draw on the device, without waiting for it. textures: uint8 [T, H, W, 3]

        Returns:
            color uint8 [N, h, w, 3], mask uint8 [N, h, w] and depth float32 [N, h, w].
        """
        count, (_, rows, columns) = len(views.source), meshes.depth.shape
        width, height = views.width, views.height
        cells = (rows - 1) * (columns - 1) + 1
        place = {"device": self._device}
        with self._lock:
            keys = torch.full((count, height, width), NOTHING, dtype=torch.int64, **place)
            faces = torch.empty((count, 2 * cells), dtype=torch.int32, **place)
            listed = torch.zeros((count, 2), dtype=torch.int32, **place)
            color = torch.empty((count, height, width, 3), dtype=torch.uint8, **place)
            mask = torch.empty((count, height, width), dtype=torch.uint8, **place)
            depth = torch.empty((count, height, width), dtype=torch.float32, **place)
            # Only the reference convention blends its edges afterwards.
            blended = (1,) if meshes.exact else (count, height, width)
            rgba = torch.empty((*blended, 4), dtype=torch.float32, **place)
            nearness = torch.empty(blended, dtype=torch.float32, **place)

            grid = (meshes.depth, meshes.visible, meshes.ray_x, meshes.ray_y, views.matrices, views.source)
            sizes = (rows, columns, width, height)
            lists = (keys, faces, listed)
            run = KERNELS[meshes.exact]
            run.cells((triton.cdiv(cells, CELL_BLOCK), count), *grid, *sizes, *lists)
            programs = triton.cdiv(LISTED_PROGRAMS, count)
            run.medium((programs, count), *grid, *sizes, *lists)
            run.large((programs, count), *grid, *sizes, *lists)
            plate_height, plate_width = textures.shape[1:3]
            pixels = (triton.cdiv(width * height, PIXEL_BLOCK), count)
            run.shade(
                pixels,
                *(meshes.depth, meshes.visible, meshes.alpha, meshes.ray_x, meshes.ray_y, meshes.u, meshes.v),
                *(views.matrices, views.ways_back, views.source, textures),
                *(rows, columns, plate_width, plate_height, width, height),
                *(keys, color, mask, rgba, nearness, depth),
            )
            if run.finish is not None:
                run.finish(
                    pixels,
                    *(meshes.depth, meshes.ray_x, meshes.ray_y, views.matrices, views.source, *sizes),
                    *(keys, rgba, nearness, color, mask),
                )
        return color, mask, depth

    def _compile(self, exact: bool, meshes: bool) -> None:
        """Begin with what a convention needs and no one has used yet, while the arrays are still on their way."""
        if self._device.type == "cuda":
            drawing = [kernel for kernel in KERNELS[exact] if kernel is not None]
            compile_together([*drawing, *(mesh_kernels(exact) if meshes else [])])

    def views(
        self, plate_intrinsics: Array, world_to_camera: Array, intrinsics: Array, source: Array, width: int, height: int
    ) -> Views:
        """world_to_camera: [N, 4, 4]. intrinsics: [N, 3, 3]. source: [N]"""
        rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3:]
        turned = plate_intrinsics @ rotation.transpose(0, 2, 1)
        back = np.concatenate([turned @ np.linalg.inv(intrinsics), -turned @ translation], axis=2)
        matrices = intrinsics @ world_to_camera[:, :3]
        return Views(
            self.upload(matrices, np.float64),
            self.upload(back, np.float64),
            self.upload(source, np.int32),
            width,
            height,
        )

    def upload(self, values: Array | Tensor, dtype: type) -> Tensor:
        """Array or tensor to tensor on the device."""
        tensor: Tensor = values
        if not torch.is_tensor(values):
            tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))
        return tensor.to(self._device).contiguous()

    def _start_download(self, images: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        """Copy to pinned memory in the background; the event tells when it is done."""
        if self._device.type == "cpu":
            return images, None
        pinned = tuple(torch.empty(image.shape, dtype=image.dtype, pin_memory=True) for image in images)
        for target, image in zip(pinned, images, strict=True):
            target.copy_(image, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return pinned, event


def _finish_download(result: Render, part: slice, images: tuple[Tensor, ...], event: Any) -> None:
    if event is not None:
        event.synchronize()
    color, mask, depth = images
    result.color[part], result.mask[part], result.depth[part] = color.numpy(), mask.numpy(), depth.numpy()
