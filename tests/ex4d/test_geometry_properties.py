# SPDX-License-Identifier: Apache-2.0
"""What holds for every camera, mesh and path: round trips and invariances."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ex4d.camera import (
    CameraPath,
    focal_px_from_lens,
    pinhole_intrinsics,
    pixel_grid,
    project,
    unproject_depth,
)
from ex4d.conditioning import render_conditioning
from ex4d.coverage import coverage
from ex4d.mesh import far_depth, surface_depth, watertight_mesh
from ex4d.raster import rasteriser
from ex4d.trajectory import MOVES, camera_move

CPU = rasteriser("cpu")
HEIGHT, WIDTH = 18, 24
SEEDS = st.integers(0, 2**31)
SCALES = st.floats(1e-3, 1e3)
ANGLES = st.floats(-1.2, 1.2)
SHARES = st.floats(-0.6, 0.6)


def scene(seed):
    """Hills with a step, and a plate. depth float32 [H, W], plate uint8 [H, W, 3]"""
    rng = np.random.default_rng(seed)
    depth = 4 + cv2.GaussianBlur(rng.normal(0, 8, (HEIGHT, WIDTH)), (0, 0), 3)
    depth[6:12, 8:15] = 1.5
    return depth.clip(1, 9).astype(np.float32), rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def pose(turn, eye):
    """world_to_camera from a rotation vector and an eye."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(turn, dtype=np.float64))[0]
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


TURNS = st.tuples(ANGLES, ANGLES, ANGLES)
EYES = st.tuples(SHARES, SHARES, SHARES)


@given(
    fx=st.floats(5, 5000),
    fy=st.floats(5, 5000),
    cx=st.floats(-50, 150),
    cy=st.floats(-50, 150),
    seed=SEEDS,
    convention=st.sampled_from(["exact", "reference"]),
)
def test_unprojecting_and_projecting_are_inverse(fx, fy, cx, cy, seed, convention):
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    depth = np.random.default_rng(seed).uniform(0.1, 1000, (5, 7))
    points = unproject_depth(depth, intrinsics, convention)
    np.testing.assert_allclose(points[..., 2], depth)
    u, v = pixel_grid(7, 5, convention)
    np.testing.assert_allclose(project(points, intrinsics), np.stack(np.meshgrid(u, v), axis=-1), atol=1e-8)


@given(lens_mm=st.floats(4, 800), sensor_mm=st.floats(4, 70), width=st.integers(1, 8192), height=st.integers(1, 8192))
def test_a_lens_becomes_intrinsics_and_comes_back(lens_mm, sensor_mm, width, height):
    intrinsics = pinhole_intrinsics(focal_px_from_lens(lens_mm, sensor_mm, width), width, height)
    np.testing.assert_allclose(intrinsics[0, 0] / width * sensor_mm, lens_mm)
    edge = project(np.array([sensor_mm / 2, 0, lens_mm]), intrinsics)  # the film back's edge before the lens
    np.testing.assert_allclose(edge, [width, height / 2], rtol=1e-9)


@given(
    move=st.sampled_from([name for name, info in MOVES.items() if "ease" in info.arguments]),
    ease=st.sampled_from(["linear", "smooth", "in", "out"]),
    count=st.integers(2, 12),
    seed=SEEDS,
)
@settings(max_examples=40, deadline=None)
def test_a_path_with_more_frames_passes_through_the_same_cameras(move, ease, count, seed):
    depth, _ = scene(seed)
    intrinsics = pinhole_intrinsics(30, WIDTH, HEIGHT)
    few, many = (
        camera_move(f"{move}:ease={ease}", depth, intrinsics, WIDTH, HEIGHT, n) for n in (count, 3 * count - 2)
    )
    np.testing.assert_allclose(many.world_to_camera[::3], few.world_to_camera, atol=1e-9)
    np.testing.assert_allclose(many.intrinsics[::3], few.intrinsics, rtol=1e-9)


@given(scale=SCALES, seed=SEEDS, move=st.sampled_from(["orbit", "dolly", "crane", "spiral"]))
@settings(max_examples=15, deadline=None)
def test_the_unit_of_the_depth_changes_no_picture(scale, seed, move):
    depth, plate = scene(seed)
    scale = float(np.float32(2.0 ** np.round(np.log2(scale))))  # a power of two rounds nothing
    intrinsics = pinhole_intrinsics(30, WIDTH, HEIGHT)
    pictures = []
    for factor in (1.0, scale):
        stretched = (depth * np.float32(factor))[None].repeat(3, axis=0)
        cameras = camera_move(move, stretched[0], intrinsics, WIDTH, HEIGHT, 3)
        pictures.append(render_conditioning(plate[None].repeat(3, 0), stretched, intrinsics, "exact", cameras, CPU))
    np.testing.assert_array_equal(pictures[0].mask, pictures[1].mask)
    np.testing.assert_array_equal(pictures[0].color, pictures[1].color)


@given(seed=SEEDS, turn=TURNS, eye=EYES, world_turn=TURNS, world_eye=st.tuples(*[st.floats(-50, 50)] * 3))
@settings(max_examples=15, deadline=None)
def test_moving_the_world_and_the_cameras_together_changes_nothing(seed, turn, eye, world_turn, world_eye):
    """The source camera stands anywhere in a scene; what counts is the new camera relative to it."""
    depth, plate = scene(seed)
    intrinsics = pinhole_intrinsics(30, WIDTH, HEIGHT)
    new_camera, source_in_world = pose(turn, eye), pose(world_turn, world_eye)
    moved = new_camera @ source_in_world  # world_to_camera of the new camera in that scene
    relative = moved @ np.linalg.inv(source_in_world)  # as the take passes it on
    mesh = watertight_mesh(depth, intrinsics, "exact")
    here, there = (CPU.render(mesh, plate, camera, intrinsics, WIDTH, HEIGHT) for camera in (new_camera, relative))
    assert np.count_nonzero(here.mask != there.mask) <= 2  # samples on an edge, decided by the last bit
    both = here.mask & there.mask
    assert np.count_nonzero(np.abs(here.color[both].astype(int) - there.color[both]) > 1) <= 6


@given(seed=SEEDS, turn=TURNS, eye=EYES, zoom=st.floats(0.3, 4))
@settings(max_examples=25, deadline=None)
def test_what_is_seen_is_a_colour_and_a_depth_of_the_plate(seed, turn, eye, zoom):
    depth, plate = scene(seed)
    intrinsics, lens = pinhole_intrinsics(30, WIDTH, HEIGHT), pinhole_intrinsics(30 * zoom, 20, 16)
    camera = pose(turn, eye)
    view = CPU.render(watertight_mesh(depth, intrinsics, "exact"), plate, camera, lens, 20, 16)
    assert not view.color[~view.mask].any()
    rows, columns = np.nonzero(view.mask)
    if not rows.size:
        return
    z = view.depth[rows, columns].astype(np.float64)
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=-1) @ np.linalg.inv(lens).T
    points = (z[:, None] * rays - camera[:3, 3]) @ camera[:3, :3]
    there = project(points, intrinsics)
    assert (there > -0.1).all()  # a face reaches 1 / 256 of a new pixel past its edges
    assert (there < np.array([WIDTH, HEIGHT]) + 0.1).all()
    surface = surface_depth(depth, intrinsics, far_depth(depth))
    assert points[:, 2].min() > surface.min() - 1e-3
    assert points[:, 2].max() < surface.max() + 1e-3


@given(seed=SEEDS, angle=st.floats(-40, 40))
@settings(max_examples=20, deadline=None)
def test_a_turning_camera_has_no_parallax_and_shares_stay_shares(seed, angle):
    depth, plate = scene(seed)
    intrinsics = pinhole_intrinsics(30, WIDTH, HEIGHT)
    cameras = camera_move(f"pan:angle={angle}", depth, intrinsics, WIDTH, HEIGHT, 2)
    assert isinstance(cameras, CameraPath)
    drawn = render_conditioning(plate[None].repeat(2, 0), depth[None].repeat(2, 0), intrinsics, "exact", cameras, CPU)
    found = coverage(drawn.mask, drawn.depth, cameras)
    assert max(found.parallax_deg) < 1e-4
    assert 0 <= found.mean <= found.worst <= 1
    assert found.unseen[0] == 0
