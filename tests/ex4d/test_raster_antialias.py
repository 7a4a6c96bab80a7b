# SPDX-License-Identifier: Apache-2.0
"""Edge antialiasing of the reference convention: the compiled loops against the readable ones, bit for bit."""

import numpy as np
import pytest
from test_raster import CAMERAS, hills, lens, plate

from ex4d.mesh import watertight_mesh
from ex4d.raster.antialias import antialiased, finished, vertices_on_picture
from ex4d.raster.cpu import CpuRasteriser


@pytest.mark.parametrize("kind", CAMERAS)
def test_the_compiled_loops_blend_edges_bit_for_bit_like_the_readable_ones(kind):
    rng, cpu = np.random.default_rng(sorted(CAMERAS).index(kind)), CpuRasteriser(2)
    blended = 0
    for seed in range(6):
        height, width = (int(side) for side in rng.integers(2, 60, 2))
        source, camera = lens(rng, width, height), CAMERAS[kind](rng)
        depth = hills(height, width, seed) if seed % 2 else rng.uniform(1, 30, (height, width)).astype(np.float32)
        mesh = watertight_mesh(depth, source, "reference")
        view = cpu.render(mesh, plate(height, width, seed), camera, source, width, height)
        rgba, codes, nearest = (cpu._buffers[name] for name in ("rgba", "faces", "nearest"))
        cell = (codes >> 16) * (width - 1) + ((codes >> 1) & 0x7FFF)
        faces = np.where(codes < 0, -1, 2 * cell + (codes & 1))
        smooth = antialiased(rgba, faces, nearest, vertices_on_picture(mesh, source @ camera[:3]))
        color, mask = finished(smooth)
        np.testing.assert_array_equal(view.color, color)
        np.testing.assert_array_equal(view.mask, mask)
        blended += np.count_nonzero(smooth != rgba)
    assert blended


def test_a_sample_on_an_edge_belongs_to_one_face():
    """From the source camera all samples lie on the edge between their cell's two faces, which runs up to the right."""
    cpu, source = CpuRasteriser(2), lens(np.random.default_rng(0), 24, 20)
    mesh = watertight_mesh(np.full((20, 24), 50, np.float32), source, "reference")
    cpu.render(mesh, plate(20, 24), np.eye(4), source, 24, 20)
    faces = cpu._buffers["faces"][2:-2, 2:-2]
    assert (faces >= 0).all()
    assert (faces & 1 == 1).all()
