# SPDX-License-Identifier: Apache-2.0
"""A take that starts elsewhere is led in from the plate's own view."""

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import render_conditioning
from ex4d.generation.wan.lead_in import LONGEST, SHORTEST, lead_in, plate_view, widest_view
from ex4d.shot import DepthInfo, PlateInfo, Shot

WIDTH, HEIGHT, COUNT = 64, 48, 3
LENS = pinhole_intrinsics(60.0, WIDTH, HEIGHT)


@pytest.fixture
def shot():
    frames = np.random.default_rng(0).integers(30, 220, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    depth = np.full((COUNT, HEIGHT, WIDTH), 5.0, np.float32)
    info = DepthInfo("truth", "CC0", True, "metric", None, {})
    return Shot(frames, Fraction(24), depth, LENS, "exact", PlateInfo("plate", "0" * 64, 0, None), info)


def path(pose, lens=LENS, width=WIDTH, height=HEIGHT, source=1.0):
    return CameraPath(np.array([pose]), np.array([lens]), width, height, np.array([source]))


def orbit(angle_deg, distance=5.0):
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array([0.0, np.radians(angle_deg), 0.0]))[0]
    pose[:3, 3] = [0, 0, distance] - pose[:3, :3] @ [0, 0, distance]
    return pose


def drawn(shot, cameras):
    return render_conditioning(shot.frames, shot.depth, shot.intrinsics, shot.convention, cameras, "cpu")


def test_a_take_that_starts_at_the_source_view_needs_none(shot):
    assert lead_in(shot, path(np.eye(4))) is None
    smaller = widest_view(LENS, WIDTH, HEIGHT, 32, 32)
    assert lead_in(shot, path(np.eye(4), smaller, 32, 32)) is None


def test_it_starts_at_the_plate_and_time_stands_still(shot):
    lead = lead_in(shot, path(orbit(30)))
    seen = drawn(shot, lead)
    np.testing.assert_array_equal(seen.color[0], shot.frames[1])
    assert seen.mask[0].all()
    assert (lead.source_frame == 1).all()
    assert len(lead) % 4 == 0


def test_it_goes_on_into_the_takes_first_pose_in_even_steps(shot):
    end = orbit(30)
    lead = lead_in(shot, path(end))
    angles = [np.linalg.norm(cv2.Rodrigues(pose[:3, :3])[0]) for pose in [*lead.world_to_camera, end]]
    np.testing.assert_allclose(np.diff(angles), np.radians(30) / len(lead), atol=1e-9)
    eyes = [-pose[:3, :3].T @ pose[:3, 3] for pose in [*lead.world_to_camera, end]]
    steps = np.diff(eyes, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-9)


@pytest.mark.parametrize(("angle", "frames"), [(0.5, SHORTEST), (15, 12), (170, LONGEST)])
def test_a_longer_way_takes_more_frames(shot, angle, frames):
    assert len(lead_in(shot, path(orbit(angle)))) == frames


@pytest.mark.parametrize(("width", "height"), [(32, 32), (100, 30), (30, 100), (640, 480)])
def test_the_widest_view_of_any_shape_shows_only_the_plate(shot, width, height):
    start = path(np.eye(4), widest_view(LENS, WIDTH, HEIGHT, width, height), width, height)
    assert drawn(shot, start).mask.all()


@pytest.mark.parametrize(("width", "height"), [(64, 48), (32, 32), (100, 30), (96, 72)])
def test_the_plate_is_what_the_widest_view_draws(shot, width, height):
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in shot.frames])
    shot = dataclasses.replace(shot, frames=smooth)
    seen = drawn(shot, path(np.eye(4), widest_view(LENS, WIDTH, HEIGHT, width, height), width, height))
    assert np.abs(plate_view(smooth[1], width, height).astype(int) - seen.color[0]).mean() < 2


def test_a_wider_lens_is_led_in_by_zooming_out(shot):
    wide = pinhole_intrinsics(40.0, WIDTH, HEIGHT)
    lead = lead_in(shot, path(np.eye(4), wide))
    focal = [*lead.intrinsics[:, 0, 0], 40.0]
    assert focal[0] == 60
    np.testing.assert_allclose(np.diff(np.log(focal)), np.log(40 / 60) / len(lead))


def test_a_moving_plates_own_camera_is_the_start(shot):
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, 0, 3] = [0, 2, 4]
    moving = dataclasses.replace(shot, source_camera_to_world=poses)
    assert lead_in(moving, path(np.linalg.inv(poses[1]))) is None
    assert lead_in(moving, path(np.eye(4))) is not None
