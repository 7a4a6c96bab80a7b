# SPDX-License-Identifier: Apache-2.0
"""The conversion between Blender's cameras and OpenCV's, without Blender."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[1] / "blender_addon" / "cameras.py"


@pytest.fixture(scope="module")
def cameras() -> ModuleType:
    """The module alone: its package needs bpy."""
    spec = importlib.util.spec_from_file_location("ex4d_addon_cameras", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def random_pose(rng: np.random.Generator) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = random_rotation(rng)
    pose[:3, 3] = rng.normal(size=3) * 5
    return pose


def test_a_pose_survives_the_way_to_blender_and_back(cameras: ModuleType) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        pose, shot = random_pose(rng), random_pose(rng)
        back = cameras.world_to_camera(shot @ cameras.camera_to_shot(pose), shot)
        np.testing.assert_allclose(back, pose, atol=1e-12)


def test_the_source_camera_looks_along_plus_y_with_z_up(cameras: ModuleType) -> None:
    matrix = cameras.camera_to_shot(np.eye(4))
    np.testing.assert_allclose(matrix @ [0, 0, -1, 0], [0, 1, 0, 0])
    np.testing.assert_allclose(matrix @ [0, 1, 0, 0], [0, 0, 1, 0])


def test_a_scaled_shot_gives_positions_in_shot_units_and_rigid_poses(cameras: ModuleType) -> None:
    rng = np.random.default_rng(2)
    pose = random_pose(rng)
    shot = random_pose(rng) @ np.diag([2.5, 2.5, 2.5, 1])
    found = cameras.world_to_camera(shot @ cameras.camera_to_shot(pose), shot)
    np.testing.assert_allclose(found, pose, atol=1e-12)


def test_a_cameras_own_scale_does_not_matter(cameras: ModuleType) -> None:
    pose = random_pose(np.random.default_rng(3))
    scaled = cameras.camera_to_shot(pose) @ np.diag([3.0, 0.5, 7.0, 1])
    np.testing.assert_allclose(cameras.world_to_camera(scaled, np.eye(4)), pose, atol=1e-12)


@pytest.mark.parametrize(
    ("camera", "shot", "reason"),
    [
        (np.diag([1.0, np.nan, 1, 1]), np.eye(4), "not a number"),
        (np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), np.eye(4), "sheared"),
        (np.diag([-1.0, 1, 1, 1]), np.eye(4), "mirrored"),
        (np.diag([0.0, 1, 1, 1]), np.eye(4), "scaled to zero"),
        (np.eye(4), np.diag([1.0, 2, 1, 1]), "Empty is scaled unevenly"),
        (np.eye(4), np.full((4, 4), np.inf), "Empty is not a number"),
    ],
)
def test_what_is_no_pose_is_refused(cameras: ModuleType, camera: np.ndarray, shot: np.ndarray, reason: str) -> None:
    with pytest.raises(cameras.NotRigidError, match=reason):
        cameras.world_to_camera(camera, shot)


def test_a_lens_survives_the_way_to_a_matrix_and_back(cameras: ModuleType) -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        width, height = (int(side) for side in rng.integers(16, 4096, size=2))
        focal = rng.uniform(100, 5000)
        matrix = np.array([[focal, 0, rng.uniform(0, width)], [0, focal, rng.uniform(0, height)], [0, 0, 1]])
        lens = cameras.lens_of(matrix, width, height, sensor_width_mm=24.9)
        np.testing.assert_allclose(cameras.intrinsics_of(lens, cameras.Picture(width, height)), matrix, rtol=1e-12)


def test_a_full_frame_50_mm_lens_has_its_textbook_focal_length(cameras: ModuleType) -> None:
    lens = cameras.Lens(50.0, 36.0, 24.0, "HORIZONTAL", 0.0, 0.0)
    matrix = cameras.intrinsics_of(lens, cameras.Picture(1920, 1080))
    np.testing.assert_allclose(matrix, [[50 / 36 * 1920, 0, 960], [0, 50 / 36 * 1920, 540], [0, 0, 1]])


def test_a_grids_rays_hit_their_pixels(cameras: ModuleType) -> None:
    matrix = np.array([[30.0, 0, 7], [0, 40.0, 5], [0, 0, 1]])
    u, v = np.array([0.0, 0.5, 14.0]), np.array([0.0, 3.0])
    rays = cameras.grid_rays(u, v, matrix)
    opencv = rays @ cameras.BLENDER_FROM_OPENCV[:3, :3]
    pixels = opencv @ matrix.T
    np.testing.assert_allclose(pixels[..., 0] / pixels[..., 2], np.broadcast_to(u, (2, 3)), atol=1e-12)
    np.testing.assert_allclose(pixels[..., 1] / pixels[..., 2], np.broadcast_to(v[:, None], (2, 3)), atol=1e-12)
    np.testing.assert_allclose(pixels[..., 2], 1)
