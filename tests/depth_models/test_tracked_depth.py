# SPDX-License-Identifier: Apache-2.0
"""Depth from a known camera motion, on a textured scene whose depth is exact."""

import dataclasses

import numpy as np
import pytest
import torch
from textured_scene import Scene, scene

from ex4d.depth import DisparityClip, SourceOptions, depth_source
from ex4d.depth.plane_sweep import best_plane, smoothed_cost
from ex4d.depth.tracked import TrackedDepth, filled, with_prior
from ex4d.depth.tracked_views import chosen_neighbours, inverse_depth_range
from ex4d.errors import Cancelled, DepthError
from ex4d.source_camera import SourceCameras


@pytest.fixture(scope="module")
def still() -> Scene:
    return scene()


@pytest.fixture(scope="module")
def found(still, clip_of):
    return TrackedDepth(still.cameras, device="cpu").estimate(clip_of(still.frames))


def errors(depth: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> tuple[float, float]:
    """Mean relative error, and the share of pixels within a factor of 1.25 of the truth."""
    where = np.ones(truth.shape, bool) if where is None else where
    apart = np.abs(depth - truth) / truth
    close = np.maximum(depth / truth, truth / depth) < 1.25
    return float(apart[where].mean()), float(close[where].mean())


def test_the_depth_of_a_textured_still_scene_is_right_in_scene_units(found, still):
    absolute_relative, within = errors(found.depth, still.depth)
    assert absolute_relative <= 0.03
    assert within >= 0.98
    assert found.kind == "metric"
    assert found.focal_px == 150


def test_what_is_confirmed_is_better_and_most_of_the_picture(found, still):
    absolute_relative, within = errors(found.depth, still.depth, found.valid)
    assert absolute_relative <= 0.012
    assert within >= 0.99
    assert found.valid.mean() > 0.85
    assert any("confirms the depth of 9" in notice for notice in found.notices)


def test_the_same_comes_out_in_a_solve_of_another_scale(still, clip_of):
    found = []
    for scale in (1, 10):
        poses = still.cameras.camera_to_world[:3].copy()
        poses[:, :3, 3] *= scale
        cameras = dataclasses.replace(still.cameras, camera_to_world=poses)
        found.append(TrackedDepth(cameras, planes=32, device="cpu").estimate(clip_of(still.frames[:3])).depth / scale)
    assert np.median(np.abs(found[1] / found[0] - 1)) < 0.005


def test_near_and_far_are_found_from_the_flow(still):
    low, high = inverse_depth_range(still.frames, still.cameras.intrinsics, still.cameras.camera_to_world)
    assert low < 1 / still.depth.max()
    assert 1 / np.percentile(still.depth, 1) < high < 2 / still.depth.min()
    given = inverse_depth_range(still.frames, still.cameras.intrinsics, still.cameras.camera_to_world, 1.5, 12.0)
    assert given == (1 / 12, 1 / 1.5)


def test_neighbours_lie_on_both_sides_and_never_are_the_frame_itself(still):
    chosen = chosen_neighbours(still.cameras.camera_to_world, still.cameras.intrinsics, 160, 0.4, 4)
    for frame, neighbours in enumerate(chosen):
        assert frame not in neighbours
        assert len(set(neighbours)) == 4
    assert {-1, 1} == set(np.sign(chosen[4] - 4))


def test_a_moving_thing_is_not_confirmed_and_takes_the_prior(still, clip_of):
    """A textured square that stays in the picture while the camera passes: nothing still could do that."""
    frames, truth = still.frames.copy(), still.depth.copy()
    square = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
    for i in range(len(frames)):
        frames[i, 12:42, 60 + 3 * i : 90 + 3 * i] = square
        truth[i, 12:42, 60 + 3 * i : 90 + 3 * i] = 2.5

    class Prior:
        name, label, licence, commercial_use, cache_key = "prior", "a prior", "ours", True, None

        def estimate(self, clip, progress=None):
            return DisparityClip(disparity=3 / truth - 1, source="", licence="", commercial_use=True)

    helped = TrackedDepth(still.cameras, device="cpu", prior=Prior()).estimate(clip_of(frames))
    middle = (4, slice(17, 37), slice(77, 97))
    assert helped.valid[middle].mean() < 0.2
    assert errors(helped.depth[middle], truth[middle])[0] < 0.05
    assert errors(helped.depth, truth)[0] < 0.03


def test_a_camera_that_stands_still_is_refused(still, clip_of):
    poses = np.tile(np.eye(4), (5, 1, 1))
    cameras = SourceCameras(poses, still.cameras.intrinsics, 160, 120)
    with pytest.raises(DepthError, match="moves too little"):
        TrackedDepth(cameras, device="cpu").estimate(clip_of(np.repeat(still.frames[:1], 5, axis=0)))


def test_a_solve_of_another_clip_is_refused(still, clip_of):
    frames = np.random.default_rng(0).integers(0, 256, still.frames.shape, dtype=np.uint8)
    with pytest.raises(DepthError, match=r"too little|moves as its camera says"):
        TrackedDepth(still.cameras, device="cpu").estimate(clip_of(frames))


def test_without_a_camera_or_with_too_few_frames_the_message_says_what_to_give(still, clip_of):
    with pytest.raises(DepthError, match="--source-camera"):
        depth_source("tracked").estimate(clip_of(still.frames))
    source = depth_source("tracked", SourceOptions(cameras=still.cameras))
    with pytest.raises(DepthError, match="has 9 frames, the clip 3"):
        source.estimate(clip_of(still.frames[:3]))


def test_cancelling_stops_the_sweep(still, clip_of):
    def cancel(report):
        if report.stage == "Comparing the frames" and report.i == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        TrackedDepth(still.cameras, device="cpu").estimate(clip_of(still.frames), cancel)


def test_smoothing_fills_a_plain_patch_and_keeps_a_step_at_a_colour_edge():
    costs = torch.full((1, 8, 6, 40), 0.2)
    costs[:, 2, :, :20] = 0.02
    costs[:, 6, :, 20:] = 0.02
    costs[:, :, :, 8:14] = 0.1  # nothing to see here
    frames = torch.zeros((1, 3, 6, 40))
    frames[..., 20:] = 1
    planes = smoothed_cost(costs, frames).argmin(dim=1)
    assert (planes[..., :20] == 2).all()
    assert (planes[..., 20:] == 6).all()


def test_the_best_plane_is_refined_between_planes():
    planes = torch.linspace(0, 1, 11)
    costs = ((planes - 0.43) ** 2).view(1, 11, 1, 1)
    assert float(best_plane(costs, planes)) == pytest.approx(0.43, abs=1e-6)


def test_unknown_pixels_take_the_farther_side_or_the_prior_at_this_scale():
    inverse = np.full((20, 30), 0.2, np.float32)
    inverse[:, 15:] = 0.5
    inverse[:, 12:15] = 0
    confirmed = inverse > 0
    np.testing.assert_allclose(filled(inverse, confirmed)[:, 12:14], 0.2, atol=0.02)
    ramp = np.tile(np.linspace(0, 1, 30, dtype=np.float32), (20, 1))
    known = np.where(confirmed, 0.1 + 0.3 * ramp, 0).astype(np.float32)
    np.testing.assert_allclose(with_prior(known, confirmed, 5 * ramp), 0.1 + 0.3 * ramp, atol=1e-4)
