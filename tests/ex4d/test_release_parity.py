# SPDX-License-Identifier: Apache-2.0
"""The reference convention stays what it is: pictures stored once, which later versions must draw again.

golden/reference.npz was drawn by the version that was measured against the release's own renders, golden/release.npz by
the release's drawing code.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import render_conditioning
from ex4d.mesh import watertight_mesh
from ex4d.raster.cpu import CpuRasteriser
from ex4d.trajectory import camera_move

GOLDEN = Path(__file__).parent / "golden" / "reference.npz"
COUNT, HEIGHT, WIDTH = 5, 48, 64


def clip():
    """Hills with a card that slides before them. frames uint8 [T, H, W, 3], depth float32 [T, H, W]"""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.stack([8 + 3 * np.sin(x / 9 + t) + 2 * np.cos(y / 7) for t in range(COUNT)]).astype(np.float32)
    for t in range(COUNT):
        depth[t, 14:30, 18 + 2 * t : 34 + 2 * t] = 2.75
    depth[:, :6] = 4000
    return frames, depth


def free_path():
    """A camera that moves, turns and zooms."""
    poses, lenses = np.zeros((COUNT, 4, 4)), np.zeros((COUNT, 3, 3))
    for t in range(COUNT):
        poses[t] = np.eye(4)
        poses[t, :3, :3] = cv2.Rodrigues(np.array([0.02, -0.05, 0.03]) * t)[0]
        poses[t, :3, 3] = np.array([-0.2, 0.1, 0.15]) * t
        lenses[t] = pinhole_intrinsics(62.5 + 4 * t, WIDTH, HEIGHT)
    return CameraPath(poses, lenses, WIDTH, HEIGHT, np.arange(COUNT))


def draw(kind, raster):
    frames, depth = clip()
    intrinsics = pinhole_intrinsics(62.5, WIDTH, HEIGHT)
    preset = camera_move("reference:60", depth[0], intrinsics, WIDTH, HEIGHT, COUNT)
    cameras = free_path() if kind == "free" else preset
    return cameras, render_conditioning(frames, depth, intrinsics, "reference", cameras, raster)


@pytest.mark.parametrize("kind", ["preset", "free"])
@pytest.mark.parametrize("raster", ["cpu", "reference"])
def test_reference_pictures_are_the_stored_ones(kind, raster):
    golden = np.load(GOLDEN, allow_pickle=False)
    cameras, drawn = draw(kind, raster)
    np.testing.assert_allclose(cameras.world_to_camera, golden[f"{kind}_world_to_camera"], atol=1e-12)
    mask = np.unpackbits(golden[f"{kind}_mask"], count=drawn.mask.size).reshape(drawn.mask.shape).astype(bool)
    if raster == "cpu":  # drew them; another processor may round a sample on an edge to the other side
        differs = (drawn.mask != mask) | (drawn.color != golden[f"{kind}_color"]).any(axis=3)
        assert np.count_nonzero(differs) <= 3
    else:
        assert (drawn.mask == mask).mean() > 0.999
        both = drawn.mask & mask
        error = np.abs(drawn.color[both].astype(int) - golden[f"{kind}_color"][both])
        assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) > 46


def test_reference_draws_what_the_release_itself_drew():
    """Noisy depth as a depth model gives it, from aside: drawn by the release's code with nvdiffrast on a GPU."""
    release = np.load(GOLDEN.with_name("release.npz"), allow_pickle=False)
    intrinsics, (height, width) = release["intrinsics"], release["depth"].shape
    mesh = watertight_mesh(release["depth"], intrinsics, "reference")
    ours = CpuRasteriser().render(mesh, release["frame"], release["world_to_camera"], intrinsics, width, height)
    both = ours.mask & release["mask"]
    assert np.count_nonzero(both) > 15_000
    assert np.count_nonzero(both) >= 0.9998 * np.count_nonzero(ours.mask | release["mask"])
    error = ours.color[both].astype(int) - release["color"][both]
    assert 10 * np.log10(255**2 / (error**2).mean()) > 55


def test_reference_cuts_are_the_stored_ones():
    _, depth = clip()
    golden = np.load(GOLDEN, allow_pickle=False)
    meshes = [watertight_mesh(plane, pinhole_intrinsics(62.5, WIDTH, HEIGHT), "reference") for plane in depth]
    cut = np.stack([~mesh.visible for mesh in meshes])
    np.testing.assert_array_equal(np.packbits(cut), golden["cut"])
    np.testing.assert_array_equal(np.packbits(np.stack([mesh.vertex_alpha == 0 for mesh in meshes])), golden["black"])


if __name__ == "__main__":  # draws the golden file anew: only when the release itself is found to differ
    stored = {}
    for kind in ("preset", "free"):
        cameras, drawn = draw(kind, "cpu")
        stored[f"{kind}_world_to_camera"], stored[f"{kind}_color"] = cameras.world_to_camera, drawn.color
        stored[f"{kind}_mask"] = np.packbits(drawn.mask)
    meshes = [watertight_mesh(plane, pinhole_intrinsics(62.5, WIDTH, HEIGHT), "reference") for plane in clip()[1]]
    stored["cut"] = np.packbits(np.stack([~mesh.visible for mesh in meshes]))
    stored["black"] = np.packbits(np.stack([mesh.vertex_alpha == 0 for mesh in meshes]))
    np.savez_compressed(GOLDEN, **stored)
