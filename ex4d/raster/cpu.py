# SPDX-License-Identifier: Apache-2.0
"""The fast rasteriser for processors: numba kernels over bands of the picture, in plain threads.

The mesh is a grid, so there is no index buffer: the vertices are projected once, then each band of output rows walks
the grid's cells. Small cells test their few samples directly; large or clipped faces go row by row. A pixel keeps the
face that is nearest in inverse depth, faces come in the same order in every band, and colour is computed once per pixel
at the end: the result does not depend on the number of bands or threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from ex4d.camera import Array
from ex4d.mesh import DWMesh
from ex4d.raster import Render, check_render_input, source_pixels
from ex4d.raster.antialias import SUBPIXELS, antialiased, finished, vertices_on_picture
from ex4d.raster.cpu_kernels import SEGMENT, Canvas, Grid, draw_band, project, shade_band

MAX_THREADS = 8
BANDS_PER_THREAD = 4


class CpuRasteriser:
    """See the module. `threads`: None for all cores, up to 8."""

    name = "cpu"
    licence = "Apache-2.0"
    commercial_use = True

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or min(MAX_THREADS, _available_cores())
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="ex4d-raster")
        self._lock = Lock()
        self._buffers: dict[str, Array] = {}

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: type) -> Array:
        kept = self._buffers.get(name)
        if kept is None or kept.shape != shape:
            kept = self._buffers[name] = np.empty(shape, dtype=dtype)
        return kept

    def render(
        self, mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
    ) -> Render:
        check_render_input(mesh, texture, world_to_camera, intrinsics, width, height)
        rows, columns = mesh.depth.shape
        matrix = np.ascontiguousarray(intrinsics @ world_to_camera[:3], dtype=np.float64)  # point -> (x z, y z, z)
        depth = np.ascontiguousarray(mesh.depth)
        to_source = source_pixels(mesh, world_to_camera, intrinsics)
        texels = np.require(texture, requirements=["C", "W"]).ravel()  # numba would compile again for read-only pixels
        visible = np.ascontiguousarray(mesh.visible)
        color = np.empty((height, width, 3), dtype=np.uint8)
        mask = np.empty((height, width), dtype=np.bool_)
        out_depth = np.empty((height, width), dtype=np.float32)
        segments = -(-(columns - 1) // SEGMENT)
        with self._lock:
            screen = self._buffer("screen", (rows, columns, 3), np.float32)
            spans = self._buffer("spans", (rows, segments, 2), np.float32)
            nearest = self._buffer("nearest", (height, width), np.float32)
            faces = self._buffer("faces", (height, width), np.int32)

            exact = mesh.convention == "exact"
            rgba = self._buffer("rgba", (0, 0, 4) if exact else (height, width, 4), np.float32)
            grid = Grid(*mesh.rays, depth, matrix, screen)

            def place(begin: int, end: int) -> None:
                project(grid, begin, end, spans, 0 if exact else SUBPIXELS, width / 2, height / 2)

            def draw(begin: int, end: int) -> None:
                canvas = Canvas(exact, begin, end, nearest, faces)
                draw_band(grid, spans, visible, canvas)
                plate, size = (mesh.u, mesh.v, mesh.vertex_alpha, texels), texture.shape
                shade_band(grid, visible, to_source, canvas, *plate, size[0], size[1], color, mask, rgba, out_depth)

            self._in_bands(place, rows)
            self._in_bands(draw, height)
            if not exact:
                row, column = faces >> 16, (faces >> 1) & 0x7FFF
                numbers = np.where(faces < 0, -1, 2 * (row * (columns - 1) + column) + (faces & 1))
                color, mask = finished(antialiased(rgba, numbers, nearest, vertices_on_picture(mesh, matrix)))
        return Render(color, mask, out_depth)

    def _in_bands(self, work: Callable[[int, int], None], length: int) -> None:
        count = 1 if self.threads == 1 else min(length, self.threads * BANDS_PER_THREAD)
        ends = [length * band // count for band in range(count + 1)]
        list(self._pool.map(work, ends[:-1], ends[1:]))


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
