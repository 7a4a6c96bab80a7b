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
from functools import partial
from threading import Lock

import numpy as np

from ex4d.camera import Array
from ex4d.mesh import DWMesh
from ex4d.raster import Render, check_render_input, source_pixels
from ex4d.raster.cpu_antialias import find_shares, find_turns, finish_band, place_vertices
from ex4d.raster.cpu_draw import draw_band
from ex4d.raster.cpu_grid import SEGMENT, Canvas, Grid, project
from ex4d.raster.cpu_shade import Plate, shade_exact_band, shade_reference_band

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
        exact = mesh.convention == "exact"
        matrix = np.ascontiguousarray(intrinsics @ world_to_camera[:3], dtype=np.float64)  # point -> (x z, y z, z)
        visible = np.ascontiguousarray(mesh.visible)
        texels = np.require(texture, requirements=["C", "W"]).ravel()  # numba would compile again for read-only pixels
        plate = Plate(mesh.u, mesh.v, mesh.vertex_alpha, texels, *texture.shape[:2])
        color = np.empty((height, width, 3), dtype=np.uint8)
        mask = np.empty((height, width), dtype=np.bool_)
        depth = np.empty((height, width), dtype=np.float32)
        with self._lock:
            screen = self._buffer("screen", (rows, columns, 3), np.float32)
            spans = self._buffer("spans", (rows, -(-(columns - 1) // SEGMENT), 2), np.float32)
            nearest = self._buffer("nearest", (height, width), np.float32)
            faces = self._buffer("faces", (height, width), np.int32)
            grid = Grid(*mesh.rays, np.ascontiguousarray(mesh.depth), matrix, screen)
            canvas = Canvas(exact, 0, height, nearest, faces)
            place = partial(project, grid, spans, exact, width / 2, height / 2)
            draw = partial(draw_band, grid, spans, visible, canvas)
            if exact:
                to_source = source_pixels(mesh, world_to_camera, intrinsics)
                shade = partial(shade_exact_band, grid, visible, to_source, canvas, plate, color, mask, depth)
                self._in_bands(rows, place)
                self._in_bands(height, draw, shade)
            else:
                vertices = self._buffer("vertices", (rows, columns, 2), np.float64)
                turned = self._buffer("turned", (rows - 1, columns - 1, 2), np.bool_)
                rgba = self._buffer("rgba", (height, width, 4), np.float32)
                shares = self._buffer("shares", (height, width, 2), np.float64)
                self._in_bands(rows, place, partial(place_vertices, grid, vertices))
                self._in_bands(rows - 1, partial(find_turns, vertices, turned))
                self._in_bands(height, draw, partial(shade_reference_band, grid, canvas, plate, rgba, depth))
                self._in_bands(height, partial(find_shares, canvas, vertices, turned, shares))
                self._in_bands(height, partial(finish_band, shares, rgba, color, mask))
        return Render(color, mask, depth)

    def _in_bands(self, length: int, *steps: Callable[[int, int], None]) -> None:
        """Call each step with the first row and the row after the last of every band of the picture or the grid."""

        def work(begin: int, end: int) -> None:
            for step in steps:
                step(begin, end)

        count = 1 if self.threads == 1 else min(length, self.threads * BANDS_PER_THREAD)
        ends = [length * band // count for band in range(count + 1)]
        list(self._pool.map(work, ends[:-1], ends[1:]))


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
