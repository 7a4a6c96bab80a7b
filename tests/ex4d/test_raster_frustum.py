# SPDX-License-Identifier: Apache-2.0
"""Faces that reach out of the picture, in the reference convention: cut there, and on the sub-pixel grid again."""

import numpy as np
import pytest
from test_raster import BACKENDS, pose

from ex4d.camera import pinhole_intrinsics
from ex4d.mesh import watertight_mesh
from ex4d.raster import FAR_DEPTH, NEAR_DEPTH
from ex4d.raster.cpu_frustum import MOST_CORNERS
from ex4d.raster.cpu_frustum import cut_at_frustum as cut_in_loops
from ex4d.raster.frustum import cut_at_frustum, snapped


def test_a_face_is_cut_at_the_border_and_its_new_corners_move_to_the_sub_pixel_grid():
    face = np.array([[4, 2, 1], [20, 2.9, 1], [4, 6, 1.0]])
    cut = snapped(cut_at_frustum(face, 8, 8), 8, 8)
    # At column 8 its edges lie at 2.225 and 5.225, that is 35.6 and 83.6 sixteenths.
    np.testing.assert_allclose(cut, [[4, 2, 1], [8, 36 / 16, 1], [8, 84 / 16, 1], [4, 6, 1]], atol=1e-12)


def test_the_loops_cut_as_the_readable_function_does():
    rng = np.random.default_rng(2)
    rooms, counts = np.empty((2, MOST_CORNERS, 3)), set()
    for _ in range(400):
        z = rng.choice([-1, 0.5 * NEAR_DEPTH, 1, 3, 2 * FAR_DEPTH], 3) * rng.uniform(0.5, 2, 3)
        face = np.column_stack([rng.uniform(-15, 35, 3) * z, rng.uniform(-15, 25, 3) * z, z])
        wanted = cut_at_frustum(face, 20, 10)
        count = cut_in_loops(tuple(tuple(float(value) for value in corner) for corner in face), rooms, 20, 10)
        assert count == len(wanted)
        counts.add(count)
        np.testing.assert_allclose(1 / rooms[0, :count, 2], wanted[:, 2], rtol=1e-9)
        np.testing.assert_allclose(rooms[0, :count, :2], snapped(wanted, 20, 10)[:, :2] / wanted[:, 2:], atol=1e-6)
    assert {0, 3, 4, 5, 6} <= counts


@pytest.mark.parametrize("name", BACKENDS)
def test_a_sample_beside_an_edge_that_the_border_bends_is_where_the_release_has_it(name):
    """A square's top edge runs from (4, 2.125) over (8, 2.54) to (20, 3.785), far out of a picture of 8 x 8.

    The sample (7.5, 2.5) lies 0.01 px below the edge, but the cut moves to (8, 2.5625) and takes the edge below it.
    """
    plate = pinhole_intrinsics(1, 2, 2)
    mesh = watertight_mesh(np.full((2, 2), 5, np.float32), plate, "reference")
    right = np.array([16, 1.66])  # the square's sides
    down = np.array([-1.66, 16])
    view = pinhole_intrinsics(np.hypot(*right), 8, 8)
    view[:2, 2] = np.array([4, 2.125]) + right + down  # the plate's second corners lie on its axis
    turned = pose([0, 0, np.arctan2(1.66, 16)], [0, 0, 0])
    drawn = np.isfinite(BACKENDS[name].render(mesh, np.zeros((2, 2, 3), np.uint8), turned, view, 8, 8).depth)
    assert drawn[2].tolist() == [False] * 4 + [True] * 3 + [False]
    assert drawn[3].tolist() == [False] * 4 + [True] * 4
