# SPDX-License-Identifier: Apache-2.0
"""What Blender shows is the mesh that is rendered."""

import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import render_conditioning
from ex4d.display import display_arrays
from ex4d.errors import Cancelled, DepthError, ShapeError
from ex4d.mesh import far_depth, watertight_mesh
from ex4d.raster import rasteriser

INTRINSICS = pinhole_intrinsics(50, 14, 11)


def rough_depth(seed=0, height=11, width=14):
    """Smooth hills with a step, so that some faces are cut and some are not. float32 [H, W]"""
    y, x = np.mgrid[:height, :width]
    depth = 3 + np.sin(x / 3 + seed) + np.cos(y / 2)
    depth[height // 3 : height // 2 + 1, width // 3 : width // 2 + 2] = 1.2
    return depth.astype(np.float32)


class Spy:
    """The plain rasteriser, which also keeps the meshes that it was given."""

    name, licence, commercial_use = "spy", "Apache-2.0", True

    def __init__(self):
        self.meshes = []

    def render(self, mesh, *view):
        self.meshes.append(mesh)
        return rasteriser("cpu").render(mesh, *view)


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_blender_shows_the_very_mesh_that_is_rendered_also_of_a_part_of_the_shot(convention):
    depth = np.stack([rough_depth(seed) for seed in range(4)])
    depth[3] *= 400  # sets the far planes, and is not among the frames that are rendered
    sky = np.zeros(depth.shape, bool)
    sky[:, :3, 5:] = True
    arrays = display_arrays(depth, INTRINSICS, convention, sky=sky)
    poses, lenses = np.tile(np.eye(4), (2, 1, 1)), np.tile(INTRINSICS, (2, 1, 1))
    spy = Spy()
    frames = np.zeros((4, 11, 14, 3), np.uint8)
    render_conditioning(frames, depth, INTRINSICS, convention, CameraPath(poses, lenses, 14, 11, [2, 0]), spy, sky=sky)
    for mesh, frame in zip(spy.meshes, (2, 0), strict=True):
        np.testing.assert_array_equal(mesh.depth, arrays["depth"][frame])
        occluded = np.unpackbits(arrays["occluded"][frame], count=mesh.visible[..., 0].size)
        np.testing.assert_array_equal(occluded.reshape(mesh.visible.shape[:2]), ~mesh.visible.all(axis=2))


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_display_arrays_hold_the_meshes_of_all_frames(convention):
    depth = np.stack([rough_depth(seed) for seed in range(3)])
    reports = []
    arrays = display_arrays(depth, INTRINSICS, convention, reports.append)
    rows, columns = len(arrays["v"]), len(arrays["u"])
    assert arrays["size"].tolist() == [14, 11]
    assert arrays["depth"].dtype == np.float32
    assert str(arrays["convention"]) == convention
    assert [(report.i, report.n) for report in reports] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for frame in range(3):
        mesh = watertight_mesh(depth[frame], INTRINSICS, convention, far_depth(depth))
        np.testing.assert_array_equal(arrays["depth"][frame], mesh.depth)
        occluded = np.unpackbits(arrays["occluded"][frame], count=(rows - 1) * (columns - 1))
        first, second = mesh.visible[..., 0], mesh.visible[..., 1]
        np.testing.assert_array_equal(occluded.reshape(first.shape), ~(first & second))
        assert arrays["texture_offset"] == mesh.texture_offset


def test_display_arrays_can_be_cancelled_and_name_the_bad_frame():
    depth = np.stack([rough_depth(seed) for seed in range(3)])

    def stop(report):
        if report.i == 1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        display_arrays(depth, INTRINSICS, "exact", stop)
    depth[2, 4, 4] = 0
    with pytest.raises(DepthError, match="depth, frame 2"):
        display_arrays(depth, INTRINSICS, "exact")
    with pytest.raises(ShapeError, match="at least one frame"):
        display_arrays(depth[:0], INTRINSICS, "exact")
