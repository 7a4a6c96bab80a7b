# SPDX-License-Identifier: Apache-2.0
"""Camera moves: the release's poses, and that ours do what they say at any length."""

import numpy as np
import pytest

from ex4d.camera import focal_px_from_lens, pinhole_intrinsics, project
from ex4d.errors import CameraError, DepthError
from ex4d.trajectory import MOVES, RELEASE_PRESETS, camera_move, default_pivot

OWN_MOVES = [name for name in MOVES if name != "reference"]
PIVOT = 5.0
DEPTH = np.full((48, 64), PIVOT, dtype=np.float32)
INTRINSICS = pinhole_intrinsics(80, 64, 48)


def move(text, count=49, depth=DEPTH, size=(64, 48)):
    return camera_move(text, depth, INTRINSICS, *size, count)


def eyes(cameras):
    poses = cameras.world_to_camera
    return -np.einsum("nij,ni->nj", poses[:, :3, :3], poses[:, :3, 3])


def forwards(cameras):
    return cameras.world_to_camera[:, 2, :3]


def turned_deg(cameras):
    """Angle between the first and the last view axis."""
    first, last = forwards(cameras)[[0, -1]]
    return np.degrees(np.arccos(np.clip(first @ last, -1, 1)))


def pivot_pixels(cameras, pivot=PIVOT):
    points = np.einsum("nij,j->ni", cameras.world_to_camera, [0, 0, pivot, 1])[:, :3]
    return np.stack([project(point, lens) for point, lens in zip(points, cameras.intrinsics, strict=True)])


def test_the_180_preset_has_the_poses_of_the_release():
    depth = DEPTH.copy()
    depth[20, 20] = 2.740109 - 0.15  # gives the orbit radius of the release's own example
    r = 2.740109
    expected = [[0, 0, 0], [r, -0.2 * r, 0], [0, -0.4 * r, 0], [-r, -0.2 * r, 0], [0, 0, 0]]
    cameras = move("reference:180", depth=depth)
    np.testing.assert_allclose(eyes(cameras)[::12], expected, atol=1e-5)
    # In frame 12 the release looks from (r, -.2r, 0) at (0, 0, r), y downwards.
    np.testing.assert_allclose(forwards(cameras)[12], np.array([-1, 0.2, 1]) / np.sqrt(2.04), atol=1e-6)


@pytest.mark.parametrize("angle", [30, 60, 90])
def test_the_arc_presets_end_at_their_angle_after_49_frames(angle):
    cameras = move(f"reference:{angle}")
    r, a = PIVOT + 0.15, np.radians(angle)
    np.testing.assert_allclose(
        eyes(cameras)[-1], [r * np.sin(a), 0.2 * r * (np.cos(a) - 1), r * (1 - np.cos(a))], atol=1e-5
    )


def test_the_arc_presets_grow_with_other_lengths_like_the_release():
    r, a = PIVOT + 0.15, np.radians(30 * 49 / 25)  # its `rounds`: 25 frames turn 30 into 58.8 degrees
    assert eyes(move("reference:30", count=25))[-1, 0] == pytest.approx(r * np.sin(a), abs=1e-5)
    assert eyes(move("reference:30", count=98))[-1, 0] == pytest.approx(r * np.sin(np.radians(60)), abs=1e-5)


def test_border_pixels_never_set_the_orbit_of_the_release():
    depth = DEPTH.copy()
    depth[0, 0] = 0.5
    np.testing.assert_array_equal(
        move("reference:90", depth=depth).world_to_camera, move("reference:90").world_to_camera
    )


def test_the_zooms_move_along_the_axis_towards_and_away_from_the_orbit_centre():
    half = (PIVOT + 0.15) / 2
    np.testing.assert_allclose(eyes(move("reference:zoom_in"))[-1], [0, 0, half])
    np.testing.assert_allclose(eyes(move("reference:zoom_out"))[-1], [0, 0, -half])


@pytest.mark.parametrize("count", [1, 2, 49, 120])
@pytest.mark.parametrize("name", [*OWN_MOVES, *(f"reference:{preset}" for preset in RELEASE_PRESETS)])
def test_every_move_starts_at_the_source_view_and_shows_the_plate_in_order(name, count):
    cameras = move(name, count)
    np.testing.assert_allclose(cameras.world_to_camera[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(cameras.intrinsics[0], INTRINSICS)
    assert cameras.source_frame.tolist() == list(range(count))
    assert (cameras.width, cameras.height) == (64, 48)


@pytest.mark.parametrize("ease", ["linear", "smooth", "in", "out"])
@pytest.mark.parametrize("count", [2, 49, 120])
@pytest.mark.parametrize("name", ["orbit", "pan", "tilt"])
def test_the_angle_means_the_angle_at_any_length(name, count, ease):
    assert turned_deg(move(f"{name}:angle=20,ease={ease}", count)) == pytest.approx(20)


def test_easing_changes_the_pace_and_nothing_else():
    linear, smooth, slow, fast = (
        eyes(move(f"truck:ease={ease}", 101))[:, 0] for ease in ("linear", "smooth", "in", "out")
    )
    np.testing.assert_allclose(np.diff(linear), linear[-1] / 100)
    assert smooth[10] < linear[10]
    assert slow[50] < linear[50] < fast[50]


def test_directions_are_the_operators():
    assert eyes(move("truck"))[-1, 0] > 0
    assert eyes(move("pedestal"))[-1, 1] < 0  # y points down
    assert eyes(move("dolly"))[-1, 2] > 0
    assert eyes(move("orbit"))[-1, 0] > 0
    assert eyes(move("orbit:angle=0,rise=20"))[-1, 1] < 0
    assert eyes(move("crane"))[-1, 1] < 0
    assert forwards(move("pan"))[-1, 0] > 0
    assert forwards(move("tilt"))[-1, 1] < 0


@pytest.mark.parametrize("name", ["truck", "pedestal", "dolly", "crane", "dolly-zoom", "spiral"])
def test_distances_are_shares_of_the_pivots_distance(name):
    assert np.linalg.norm(eyes(move(f"{name}:distance=0.25"))[-1]) == pytest.approx(0.25 * PIVOT)
    assert np.linalg.norm(eyes(move(f"{name}:distance=0.25,pivot=8"))[-1]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["orbit:angle=70,rise=20", "crane", "spiral:turns=2", "dolly", "dolly-zoom"])
def test_the_pivot_stays_in_the_middle_of_the_picture(name):
    np.testing.assert_allclose(pivot_pixels(move(name)), np.tile([32.0, 24.0], (49, 1)), atol=1e-9)


def test_an_orbit_keeps_its_distance():
    distances = np.linalg.norm(eyes(move("orbit:angle=120,rise=40,pivot=3")) - [0, 0, 3], axis=1)
    np.testing.assert_allclose(distances, 3)


def test_a_dolly_zoom_keeps_the_pivots_size():
    cameras = move("dolly-zoom:distance=0.6")
    np.testing.assert_allclose(cameras.intrinsics[:, 0, 0] / (PIVOT - eyes(cameras)[:, 2]), 80 / PIVOT)


def test_handheld_repeats_with_its_seed_and_stays_within_its_bounds():
    cameras = move("handheld:angle=2,distance=0.1,seed=7", 300)
    np.testing.assert_array_equal(
        cameras.world_to_camera, move("handheld:angle=2,distance=0.1,seed=7", 300).world_to_camera
    )
    assert not np.array_equal(cameras.world_to_camera, move("handheld:angle=2,distance=0.1", 300).world_to_camera)
    assert 0 < np.abs(eyes(cameras)).max() <= 0.1 * PIVOT
    assert 0 < np.degrees(np.arccos(forwards(cameras)[:, 2])).max() <= 2 * np.sqrt(2)


def test_one_near_speck_does_not_move_the_pivot():
    depth = DEPTH.copy()
    depth[24, 32] = 0.01
    assert default_pivot(depth) == PIVOT


def test_another_picture_size_keeps_the_horizontal_angle_of_view():
    cameras = move("pan", size=(128, 54))
    assert cameras.intrinsics[0, 0, 0] / 128 == INTRINSICS[0, 0] / 64
    assert cameras.intrinsics[0, :2, 2].tolist() == [64, 27]
    assert focal_px_from_lens(18, 36, 128) == 64


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("swoop", "no camera move 'swoop'. Choose one of reference, orbit, dolly"),
        ("", "no camera move ''"),
        ("reference", "no preset ''. Choose reference:180"),
        ("reference:45", "no preset '45'"),
        ("orbit:distance=3", "orbit has no argument 'distance'. It takes angle, rise, ease, pivot"),
        ("orbit:angle", "angle must be a number, got ''"),
        ("orbit:angle=left", "angle must be a number, got 'left'"),
        ("orbit:angle=nan", "angle must be finite"),
        ("orbit:pivot=-1", "pivot is a distance before the source camera"),
        ("pan:ease=bouncy", "ease must be one of linear, smooth, in, out, got 'bouncy'"),
        ("handheld:seed=1.5", "seed must be a whole number"),
        ("dolly-zoom:distance=1", "distance must stay below 1"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(text, complaint):
    with pytest.raises(CameraError, match=complaint):
        move(text)


def test_no_frames_and_bad_depth_are_refused():
    with pytest.raises(CameraError, match="frame_count must be from 1"):
        move("orbit", 0)
    with pytest.raises(DepthError, match="depth, frame 0 must be finite"):
        move("orbit", depth=np.full((4, 4), np.nan, dtype=np.float32))
