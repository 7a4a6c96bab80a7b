# SPDX-License-Identifier: Apache-2.0
"""Disparity without scale comes to true depth from whatever is known, in rooms whose depth is known exactly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ex4d.camera import pinhole_intrinsics
from ex4d.depth import DepthClip, DisparityClip
from ex4d.depth.finding import DepthRequest, find_depth
from ex4d.depth.known import known_distances, seen_points
from ex4d.depth.normalise import (
    ASSUMED_NEAR,
    ASSUMED_RATIO,
    CARD,
    Known,
    fit_clip,
    fitted_depth,
    points_of_depth,
    reference_depth,
    robust_line,
    unit_disparity,
    usual_range,
)
from ex4d.errors import DepthError
from ex4d.source_camera import SourceCameras
from ex4d.video import Clip

COUNT, HEIGHT, WIDTH = 9, 72, 96
NEAR, FAR = 3.0, 12.0


def room(count: int = COUNT) -> np.ndarray:
    """A floor that comes near at the lower edge, a back wall, and a box that moves. z [T, H, W]"""
    rows = np.linspace(0, 1, HEIGHT)[:, None]
    inverse = np.clip(1 / FAR + (rows - 0.4) / 0.55 * (1 / NEAR - 1 / FAR), 1 / FAR, 1 / NEAR)
    depth = np.repeat(np.repeat(1 / inverse, WIDTH, axis=1)[None], count, axis=0)
    for t in range(count):
        depth[t, 20:44, 10 + 4 * t : 30 + 4 * t] = 6.0
    return depth


def disparity_of(depth: np.ndarray, scale: float = 37.0, offset: float = -4.0) -> np.ndarray:
    """What a model that knows neither scale nor offset says about it."""
    return (scale / depth + offset).astype(np.float32)


def fitted(disparity: np.ndarray, known: Known, sky: np.ndarray | None = None) -> np.ndarray:
    return fitted_depth(disparity, fit_clip(disparity, known, sky), sky)


def points_at(depth: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    frame, row, column = (random.integers(0, side, count) for side in depth.shape)
    return np.column_stack([frame, column + 0.5, row + 0.5, depth[frame, row, column]])


def test_given_near_and_far_bring_the_whole_clip_to_true_depth():
    np.testing.assert_allclose(fitted(disparity_of(room()), Known(near=NEAR, far=FAR)), room(), rtol=1e-4)


def test_single_wild_pixels_are_no_near_and_no_far():
    wild = disparity_of(room())
    wild[:, 3, 5], wild[:, 60, 7:9] = -400, 900
    result = fitted(wild, Known(near=NEAR, far=FAR))
    ordinary = np.abs(wild) < 300
    np.testing.assert_allclose(result[ordinary], room()[ordinary], rtol=0.01)
    assert result.max() == pytest.approx(CARD * FAR)
    assert result.min() > 0


def test_tracked_points_give_scale_and_offset_although_a_third_of_them_is_wrong():
    random = np.random.default_rng(1)
    points = points_at(room(), 60)
    points[:, 3] *= random.normal(1, 0.01, len(points))
    points[::3, 3] = random.uniform(0.5, 40, 20)
    np.testing.assert_allclose(fitted(disparity_of(room()), Known(points=points)), room(), rtol=0.02)


def test_a_metric_model_on_two_key_frames_gives_the_scale_of_all():
    random = np.random.default_rng(2)
    frames = [0, 6]
    metric = (room()[frames] * random.normal(1, 0.05, (2, HEIGHT, WIDTH))).astype(np.float32)
    points = points_of_depth(metric, frames, step=8)
    assert len(points) == 2 * (HEIGHT // 8) * (WIDTH // 8)
    np.testing.assert_allclose(fitted(disparity_of(room()), Known(points=points)), room(), rtol=0.03)


def test_one_measured_distance_and_a_far_distance_are_enough():
    measured = np.array([[2, 25.5, 30.5, 6.0]])  # on the box
    for known in (Known(far=FAR, points=measured), Known(near=NEAR, points=measured)):
        np.testing.assert_allclose(fitted(disparity_of(room()), known), room(), rtol=1e-3)


def test_one_measured_distance_alone_is_kept_and_the_rest_is_said_to_be_assumed():
    measured = np.array([[2, 25.5, 30.5, 6.0]])
    disparity = disparity_of(room())
    fit = fit_clip(disparity, Known(points=measured))
    assert "assumed" in fit.how
    result = fitted_depth(disparity, fit)
    assert result[2, 30, 25] == pytest.approx(6, rel=1e-4)
    assert result[2].max() / result[2].min() == pytest.approx(ASSUMED_RATIO, rel=0.05)


def test_without_any_knowledge_a_usual_room_is_assumed_and_said():
    clip = DisparityClip(disparity=disparity_of(room()), source="s", licence="l", commercial_use=True)
    result = find_with(clip)
    assert result.depth.min() == pytest.approx(ASSUMED_NEAR, rel=1e-3)
    assert result.depth.max() == pytest.approx(ASSUMED_NEAR * ASSUMED_RATIO, rel=1e-3)
    assert result.kind == "relative"
    assert "Nothing is known" in result.notices[-1]


def test_the_sky_stands_on_a_far_card_and_counts_for_nothing():
    depth, sky = room(), np.zeros((COUNT, HEIGHT, WIDTH), bool)
    sky[:, :20] = True
    disparity = disparity_of(depth)
    disparity[sky] = np.random.default_rng(0).uniform(-90, 90, sky.sum())
    result = fitted(disparity, Known(near=NEAR, far=FAR), sky)
    np.testing.assert_allclose(result[~sky], depth[~sky], rtol=1e-4)
    np.testing.assert_allclose(result[sky], CARD * FAR, rtol=1e-6)


@pytest.mark.parametrize("known", [Known(near=NEAR, far=FAR), Known()])
def test_a_hand_before_the_lens_moves_nothing_else(known):
    """The hand covers a third of the picture in four of nine frames. The release's rule moves the wall by a factor."""
    hand = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    hand[3:7, 30:, 40:80] = True
    with_hand = np.where(hand, 0.8, room())
    before, after = fitted(disparity_of(room()), known), fitted(disparity_of(with_hand), known)
    np.testing.assert_allclose(after[~hand], before[~hand], rtol=1e-3)
    assert after[hand].max() < before.min()
    released = [reference_depth(unit_disparity(disparity_of(depth))) for depth in (room(), with_hand)]
    shift = released[1][~hand] / released[0][~hand]
    assert shift[released[0][~hand] < 100].min() > 3


def test_nothing_lies_behind_the_card_even_where_the_line_goes_beyond_infinity():
    depth = room()
    disparity = disparity_of(depth)
    disparity[:, :2] = -30
    points = points_at(depth[:, 2:], 50)
    points[:, 2] += 2
    result = fitted(disparity, Known(points=points))
    assert np.isfinite(result).all()
    assert (result > 0).all()
    np.testing.assert_allclose(result[:, 2:], depth[:, 2:], rtol=1e-3)


def test_points_of_a_solver_are_seen_from_the_moving_camera():
    intrinsics = pinhole_intrinsics(80, WIDTH, HEIGHT)
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 2, COUNT)
    cameras = SourceCameras(poses, intrinsics, WIDTH, HEIGHT)
    world = np.array([[0.5, 0.2, 5.0], [0, 0, -3.0], [100, 0, 5.0]])
    points = seen_points(world, cameras)
    assert points[:, 0].tolist() == list(range(COUNT))  # one point ahead and inside, in every frame
    np.testing.assert_allclose(points[:, 1], 80 * (0.5 - poses[:, 0, 3]) / 5 + WIDTH / 2)
    np.testing.assert_allclose(points[:, 3], 5)


def test_known_points_come_from_files_and_from_the_command_line(tmp_path):
    stored = np.array([[0, 10.5, 20.5, 4.0]])
    np.savez(tmp_path / "points.npz", points=stored)
    known = known_distances({"distances": "3,4,2.5;7,8,1.5,2", "near": "1"}, tmp_path / "points.npz")
    np.testing.assert_array_equal(known.points, [[0, 3, 4, 2.5], [2, 7, 8, 1.5], *stored])
    assert (known.near, known.far) == (1, None)
    np.savez(tmp_path / "world.npz", world_points=np.ones((3, 3)))
    with pytest.raises(DepthError, match="--source-camera"):
        known_distances({}, tmp_path / "world.npz")
    np.savez(tmp_path / "other.npz", tracks=np.ones((3, 2)))
    with pytest.raises(DepthError, match=r"holds tracks \[3, 2\]"):
        known_distances({}, tmp_path / "other.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    for path in ("bad.npz", "missing.npz"):
        with pytest.raises(DepthError, match="cannot be read"):
            known_distances({}, tmp_path / path)
    with pytest.raises(DepthError, match="X,Y,Z"):
        known_distances({"distances": "3,4"})


def test_what_contradicts_itself_is_refused():
    disparity = disparity_of(room())
    for make, message in (
        (lambda: Known(near=5, far=2), "near must be smaller"),
        (lambda: Known(near=-1), "near must be a distance"),
        (lambda: Known(points=np.array([[0, 1, 1, 0.0]])), "point 0 must have"),
        (lambda: Known(points=np.ones((2, 3))), r"\[P, 4\]"),
        (lambda: fit_clip(disparity, Known(points=np.array([[0, 500, 1, 2.0]]))), "point 0 lies outside"),
        (lambda: fit_clip(-disparity, Known(points=points_at(room(), 20))), "larger disparity is farther"),
        (lambda: usual_range(disparity, np.ones(disparity.shape, bool)), "no near and far"),
    ):
        with pytest.raises(DepthError, match=message):
            make()


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_the_scale_that_a_model_happens_to_use_changes_nothing(scale, offset, seed):
    depth = np.random.default_rng(seed).uniform(NEAR, FAR, (2, 16, 20))
    lost = (scale * (1 / depth + offset / 10)).astype(np.float32)
    for known in (Known(near=NEAR, far=FAR), Known(points=points_at(depth, 12, seed)), Known()):
        one, other = fitted(disparity_of(depth, 1, 0), known), fitted(lost, known)
        np.testing.assert_allclose(1 / one, 1 / other, atol=2e-3 / NEAR)


def test_a_robust_line_ignores_what_is_off():
    random = np.random.default_rng(3)
    x = random.uniform(0, 5, 200)
    y = 0.3 * x + 0.1 + random.normal(0, 0.002, 200)
    y[:80] = random.uniform(-5, 5, 80)
    assert robust_line(x, y) == pytest.approx((0.3, 0.1), abs=2e-3)
    assert robust_line(x[80:82], 2 * x[80:82] - 1) == pytest.approx((2, -1), abs=1e-6)


# ------------------------------------------------------------------------------------------- from file to true depth


def clip_of(depth: np.ndarray) -> Clip:
    return Clip(np.zeros((*depth.shape, 3), np.uint8), Fraction(25), 0, Path("plate.mov"), "0" * 64, None, ())


def find_with(clip: DisparityClip, **options: str) -> DepthClip:
    from ex4d.depth.scaling import scaled

    return scaled(clip, "fitted", known_distances(options))


def test_a_disparity_file_is_fitted_unless_the_release_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", disparity_of(room()))
    request = DepthRequest(file=tmp_path / "a.npy", kind="disparity", options={"near": "3", "far": "12"})
    result = find_depth(clip_of(room()), request)
    np.testing.assert_allclose(result.depth, room(), rtol=1e-4)
    assert result.kind == "metric"
    half = DepthRequest(file=tmp_path / "a.npy", kind="disparity", options={"far": "12"})
    assert find_depth(clip_of(room()), half).kind == "relative"
    assert result.parameters["normalisation"]["rule"] == "fitted"
    plain = DepthRequest(file=tmp_path / "a.npy", kind="disparity")
    released = find_depth(clip_of(room()), plain, "reference")
    assert (released.kind, released.depth.max()) == ("reference", 10000)
    asked = DepthRequest(file=tmp_path / "a.npy", kind="disparity", options={"normalise": "fitted"})
    assert find_depth(clip_of(room()), asked, "reference").kind == "relative"
    with pytest.raises(DepthError, match="uses no known distances"):
        find_depth(clip_of(room()), request, "reference")


def test_knowledge_that_a_source_cannot_use_is_refused_not_ignored(tmp_path):
    np.save(tmp_path / "a.npy", room())
    np.savez(tmp_path / "p.npz", points=points_at(room(), 5))
    for request, message in (
        (DepthRequest("preview", options={"distances": "1,1,2"}), "distances cannot change it"),
        (DepthRequest(file=tmp_path / "a.npy", options={"distances": "1,1,2"}), "distances cannot change it"),
        (DepthRequest(file=tmp_path / "a.npy", points=tmp_path / "p.npz"), "known points cannot change it"),
        (DepthRequest(file=tmp_path / "a.npy", options={"normalise": "fitted"}), "normalise cannot change it"),
        (DepthRequest(file=tmp_path / "a.npy", options={"normalise": "best"}), "normalise is one of"),
    ):
        with pytest.raises(DepthError, match=message):
            find_depth(clip_of(room()), request)
