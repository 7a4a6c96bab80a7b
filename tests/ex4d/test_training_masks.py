# SPDX-License-Identifier: Apache-2.0
"""Simulated masks against scenes whose truth is known."""

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ex4d.camera import CameraPath, pinhole_intrinsics, project, unproject_depth
from ex4d.raster.cpu import CpuRasteriser
from ex4d.training.jitter import Jitter, jittered, random_jitter
from ex4d.training.masks import cleaned, rendering_masks
from ex4d.training.paths import random_path
from ex4d.training.tracking_masks import Holes, point_tracks, random_holes, tracking_masks
from ex4d.training.working import fitted, working_size
from ex4d.trajectory import camera_move

WIDTH, HEIGHT, FOCAL = 128, 96, 100.0
PLANE, BOX = 4.0, 2.0
LEFT, RIGHT, TOP, BOTTOM = 50, 80, 30, 66  # of the box, pixels
LENS = pinhole_intrinsics(FOCAL, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def backend():
    return CpuRasteriser(threads=1)


@pytest.fixture
def box_depth():
    depth = np.full((HEIGHT, WIDTH), PLANE, np.float32)
    depth[TOP:BOTTOM, LEFT:RIGHT] = BOX
    return depth


def still_camera(world_to_camera):
    return CameraPath(np.asarray(world_to_camera)[None], LENS[None], WIDTH, HEIGHT, np.zeros(1))


def seen_from(depth, cameras, backend):
    frames = np.zeros((len(depth), *depth.shape[1:], 3), np.uint8)
    return rendering_masks(frames, depth, LENS, cameras, backend)[0]


def assert_within_a_pixel(seen, truth):
    """They differ only where the truth has an edge."""
    block = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(truth.astype(np.uint8), block) != cv2.erode(truth.astype(np.uint8), block)
    assert not np.any((seen != truth) & ~edge)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_camera_moved_aside_misses_the_boxs_analytic_shadow_and_the_border(box_depth, backend, side):
    moved = 0.4 * side
    pose = np.eye(4)
    pose[0, 3] = -moved
    seen = seen_from(box_depth[None], still_camera(pose), backend)[0]
    column = np.arange(WIDTH)
    truth = np.ones((HEIGHT, WIDTH), bool)
    shadow = round(FOCAL * abs(moved) * (1 / BOX - 1 / PLANE))  # 10 px of parallax between box and plane
    hidden = (column >= LEFT - shadow) & (column < LEFT) if side > 0 else (column >= RIGHT) & (column < RIGHT + shadow)
    truth[TOP:BOTTOM, hidden] = False
    cut = round(FOCAL * abs(moved) / PLANE)
    truth[:, slice(0, cut) if side > 0 else slice(WIDTH - cut, WIDTH)] = False
    assert shadow == cut == 10
    assert_within_a_pixel(seen, truth)


def test_nothing_is_seen_through_the_unknown_volume_behind_the_box(box_depth, backend):
    # The eye stands between the box's front and the plane, far to the right, and looks to the left.
    pose = np.eye(4)
    pose[:3, :3] = [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    pose[:3, 3] = -pose[:3, :3] @ [3.0, 0.0, 3.0]
    seen = seen_from(box_depth[None], still_camera(pose), backend)[0]
    assert not seen[TOP + 2 : BOTTOM - 2, :LEFT].any()
    assert seen[:15, 20:LEFT].any(), "above the box nothing stands in the way"


def test_the_source_camera_sees_every_pixel_however_rough_the_depth(backend):
    depth = np.random.default_rng(0).uniform(1, 5, (1, HEIGHT, WIDTH)).astype(np.float32)
    assert seen_from(depth, still_camera(np.eye(4)), backend).all()


def test_a_camera_that_looks_away_sees_nothing(box_depth, backend):
    assert not seen_from(box_depth[None], still_camera(np.diag([-1.0, 1, -1, 1])), backend).any()


@pytest.mark.parametrize("angle", [-60, -30, 30, 60])
def test_a_slanted_plane_never_hides_itself(backend, angle):
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL
    y = (np.arange(HEIGHT)[:, None] + 0.5 - HEIGHT / 2) / FOCAL
    depth = (4 / (1 + 0.3 * x - 0.4 * y)).astype(np.float32)
    cameras = camera_move(f"orbit:angle={angle},pivot=4", depth, LENS, WIDTH, HEIGHT, 2)
    seen = seen_from(np.stack([depth, depth]), cameras, backend)[1]
    points = unproject_depth(depth, LENS, "exact") @ cameras.world_to_camera[1, :3, :3].T
    points += cameras.world_to_camera[1, :3, 3]
    u, v = np.moveaxis(project(points, LENS), -1, 0)
    inside = (points[..., 2] > 0) & (u >= 0) & (u <= WIDTH) & (v >= 0) & (v <= HEIGHT)
    # Within a pixel of the plate's rim the view may show what lies beside the plate.
    places = np.stack([u, v], -1)
    rim = np.concatenate([places[0], places[-1], places[:, 0], places[:, -1]])
    near_rim = (np.abs(places[:, :, None] - rim).max(axis=-1) < 1).any(axis=-1)
    assert_within_a_pixel(seen | near_rim, inside | near_rim)
    assert near_rim.mean() < 0.2
    assert inside.mean() > 0.2


def test_cleaning_drops_specks_and_keeps_what_is_wide_up_to_the_border():
    seen = np.ones((1, 40, 40), bool)
    seen[0, :, :8] = False
    seen[0, 10:20, 20:30] = False
    expected = cleaned(seen, 5)
    seen[0, 30:32, 30:32] = False  # a speck of a hole
    seen[0, 25:27, 2:4] = True  # a speck of an island
    assert np.array_equal(cleaned(seen, 5), expected)
    assert not expected[0, :, :7].any()
    assert expected[0, :, 9:19].all()


def test_random_paths_start_at_the_source_view_and_reach_far_aside():
    depth = np.full((HEIGHT, WIDTH), PLANE, np.float32)
    kinds, angles = set(), []
    for seed in range(40):
        path = random_path(seed, depth, LENS, 9)
        again = random_path(seed, depth, LENS, 9)
        assert np.array_equal(path.cameras.world_to_camera, again.cameras.world_to_camera)
        assert_allclose(path.cameras.world_to_camera[0], np.eye(4), atol=1e-9)
        kinds.add(path.about["kind"])
        forward = path.cameras.world_to_camera[:, 2, :3]
        angles.append(np.degrees(np.arccos(forward[:, 2].clip(-1, 1))).max())
    assert kinds == {"orbit", "dolly", "free"}
    assert 60 < max(angles) <= 100


def moving_square(count=8, step=3):
    """A textured square that moves over a textured ground. Frames; the square's left edge in each."""
    random = np.random.default_rng(1)
    ground, square = (
        cv2.GaussianBlur(random.integers(0, 255, s, dtype=np.uint8), (0, 0), 1.5) for s in ((96, 128), (40, 40))
    )
    lefts = [20 + step * n for n in range(count)]
    frames = np.repeat(ground[None], count, axis=0)
    for frame, left in zip(frames, lefts, strict=True):
        frame[28:68, left : left + 40] = 255 - square
    return np.repeat(frames[..., None], 3, axis=3), lefts


def square_holes(x, y, size, frame):
    points = np.stack(np.meshgrid(np.arange(x, x + size, 4), np.arange(y, y + size, 4)), -1).reshape(-1, 2)
    return Holes(frame, points.astype(np.float32), np.zeros(len(points), np.float32), [])


@pytest.mark.parametrize("frame", [0, 4, 7])
def test_a_tracking_mask_follows_a_moving_square_from_any_frame(frame):
    frames, lefts = moving_square()
    seen, followed = tracking_masks(frames, square_holes(lefts[frame] + 2, 30, 36, frame))
    assert followed > 0.8
    for n, left in enumerate(lefts):
        truth = np.zeros(seen.shape[1:], bool)
        truth[30:66, left + 2 : left + 38] = True
        hole = ~seen[n]
        assert (hole & truth).sum() > 0.75 * (hole | truth).sum(), f"frame {n}"


def test_a_tracking_mask_on_the_ground_stays_where_it_is_and_ends_where_it_is_covered():
    frames, lefts = moving_square(count=12, step=4)
    seen, _ = tracking_masks(frames, square_holes(4, 4, 16, 0))
    assert_allclose([np.argwhere(~plane).mean(axis=0) for plane in seen], [[10, 10]] * 12, atol=1.5)
    _, alive = point_tracks(frames, np.array([[lefts[0] + 60.0, 48.0]], np.float32), 0)
    assert alive[0, 0]
    assert not alive[-1, 0], "the square has run over the point"


def test_holes_open_during_the_clip_and_cover_no_more_than_they_may():
    for seed in range(10):
        holes = random_holes(np.random.default_rng(seed), WIDTH, HEIGHT, 9)
        assert 0 <= holes.opens.min() <= holes.opens.max() <= 1
        assert 0 <= holes.frame < 9
        assert len(holes.points) / (WIDTH * HEIGHT / 16) < 0.75


def test_jitter_only_grows_holes_and_none_leaves_them():
    seen = np.random.default_rng(0).random((5, 60, 60)) > 0.01
    assert np.array_equal(jittered(seen, Jitter((0,) * 5)), seen)
    jitter = random_jitter(np.random.default_rng(3), 5, 6)
    assert max(jitter.grow_px) <= 6
    grown = jittered(seen, Jitter((2,) * 5))
    assert not (grown & ~seen).any()
    assert grown.sum() < seen.sum()
    assert random_jitter(np.random.default_rng(3), 5, 0) == Jitter((0,) * 5)


def test_videos_fill_the_working_size_without_squash_or_made_up_edges():
    assert working_size(1920, 1080)[0] % 16 == working_size(1920, 1080)[1] % 16 == 0
    frames = np.zeros((1, 108, 192, 3), np.uint8)
    frames[0, 44:64, 86:106] = 255  # a square in the middle
    small = fitted(frames, (96, 48))
    assert small.shape == (1, 48, 96, 3)
    rows, columns = (np.count_nonzero(small[0, ..., 0].max(axis=k) > 127) for k in (1, 0))
    assert rows == columns == 10
    assert fitted(frames[..., 0] > 127, (96, 48), nearest=True).dtype == np.bool_
