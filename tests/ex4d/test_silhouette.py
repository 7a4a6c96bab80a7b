# SPDX-License-Identifier: Apache-2.0
"""Silhouettes: blurred depth edges become steps, and surfaces stay what they are."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ex4d.camera import pinhole_intrinsics
from ex4d.mesh import watertight_mesh
from ex4d.raster import rasteriser
from ex4d.silhouette import snapped_silhouettes

SIZE = 96
INTRINSICS = pinhole_intrinsics(300, SIZE, SIZE)


def card(near, far):
    """A slanted square before a wall. float32 [H, W]"""
    depth = np.full((SIZE, SIZE), far, np.float32)
    cv2.fillPoly(depth, [np.array([[30, 22], [72, 30], [64, 74], [24, 66]])], near)
    return depth


def blurred(depth, sigma):
    """As a depth model blurs it: in disparity."""
    return (1 / cv2.GaussianBlur(1 / depth, (0, 0), sigma)).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.2, 1.6])
@pytest.mark.parametrize(("near", "far"), [(2, 40), (3, 6), (20, 200)])
def test_a_blurred_edge_becomes_a_step_where_it_was(near, far, sigma):
    sharp = card(near, far)
    before, after = blurred(sharp, sigma), snapped_silhouettes(blurred(sharp, sigma), INTRINSICS)

    def between(depth):
        """Disparities away from both surfaces."""
        share = (1 / depth - 1 / far) / (1 / near - 1 / far)
        return np.mean((share > 0.15) & (share < 0.85))

    assert between(after) < 0.1 * between(before)
    moved = (np.sqrt(near * far) < after) != (np.sqrt(near * far) < blurred(sharp, 0.01))
    assert np.count_nonzero(moved) < 0.2 * 170  # of the 170 pixels along its outline


def test_what_is_no_ramp_stays_as_it_is():
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    surfaces = {
        "steps": card(2, 40),
        "ground to the horizon": 300 * 1.6 / np.maximum(rows - 40, 0.5),
        "a wall that runs away": 1 / (0.05 + 0.004 * columns),
        "a ball": 5 - np.sqrt(np.maximum(1.4 - (columns / 40 - 1.2) ** 2 - (rows / 40 - 1.2) ** 2, 0)),
        "waves": 5 + 0.3 * np.sin(columns / 3) * np.cos(rows / 4),
    }
    for name, depth in surfaces.items():
        depth = depth.astype(np.float32)
        changed = np.mean(snapped_silhouettes(depth, INTRINSICS) != depth)
        assert changed < 0.005, f"{name}: {changed:.1%}"


@given(seed=st.integers(0, 2**16), size=st.tuples(st.integers(1, 14), st.integers(1, 14)))
def test_only_depths_of_the_same_row_or_column_are_taken_and_rows_are_columns(seed, size):
    depth = np.random.default_rng(seed).uniform(1, 30, size).astype(np.float32)
    snapped = snapped_silhouettes(depth, pinhole_intrinsics(200, size[1], size[0]))
    assert np.isin(snapped, depth).all()
    np.testing.assert_array_equal(snapped_silhouettes(depth[::-1, ::-1].copy(), INTRINSICS).shape, size)


def test_no_rubber_sheet_hangs_on_a_blurred_silhouette():
    depth = blurred(card(2, 40), 1.2)
    plate = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    mesh = watertight_mesh(depth, INTRINSICS, "exact")
    camera = np.eye(4)
    camera[0, 3] = -0.2
    view = rasteriser("cpu").render(mesh, plate, camera, INTRINSICS, SIZE, SIZE)
    shown = view.depth[view.mask]
    assert np.mean((shown > 2.4) & (shown < 30)) < 0.005
    assert (~view.mask).mean() > 0.05
    untouched = rasteriser("cpu").render(mesh, plate, np.eye(4), INTRINSICS, SIZE, SIZE)
    assert untouched.mask.all()
    np.testing.assert_array_equal(untouched.color, plate)
