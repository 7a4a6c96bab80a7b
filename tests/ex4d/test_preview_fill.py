# SPDX-License-Identifier: Apache-2.0
"""The preview fill on a scene whose truth is known: a square moves before a textured wall, seen from the side."""

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.errors import Cancelled, InputError, ShapeError
from ex4d.generation import ENGINES, GenerateOptions, engine
from ex4d.generation.background import Layer, backdrop, clean_plate, stands_still
from ex4d.generation.inpaint import far_side_depth, inpaint
from ex4d.generation.preview import PreviewFill, grain_strength
from ex4d.progress import Progress
from ex4d.shot import DepthInfo, PlateInfo, Shot

SIZE, COUNT = 96, 14
WALL_DEPTH, SQUARE_DEPTH = 8.0, 3.0
SQUARE_COLOUR = (230, 30, 30)
INTRINSICS = pinhole_intrinsics(90.0, SIZE, SIZE)


def wall_texture(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 200, (14, 14, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def shot_of(frames: np.ndarray, depth: np.ndarray) -> Shot:
    info = DepthInfo("truth", "CC0", True, "metric", None, {})
    return Shot(frames, Fraction(25), depth, INTRINSICS, "exact", PlateInfo("plate", "0" * 64, 0, None), info)


def scene(with_square: bool = True, slide_px: int = 0) -> Shot:
    """The wall and, before it, the square on its way from left to right. `slide_px`: the plate's camera pans, too."""
    frames = np.stack([np.roll(wall_texture(), slide_px * t, axis=1) for t in range(COUNT)])
    depth = np.full((COUNT, SIZE, SIZE), WALL_DEPTH, np.float32)
    for t in range(COUNT) if with_square else ():
        columns = slice(8 + 4 * t, 36 + 4 * t)
        frames[t, 30:70, columns] = SQUARE_COLOUR
        depth[t, 30:70, columns] = SQUARE_DEPTH
    return shot_of(frames, depth)


def cameras(offset: float = 0.5) -> CameraPath:
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, 0, 3] = -offset
    return CameraPath(poses, np.tile(INTRINSICS, (COUNT, 1, 1)), SIZE, SIZE, np.arange(COUNT, dtype=float))


def conditioning_of(shot: Shot, path: CameraPath) -> Conditioning:
    return render_conditioning(shot.frames, shot.depth, shot.intrinsics, shot.convention, path)


def fill(shot: Shot, path: CameraPath, conditioning: Conditioning, seed: int = 0, progress=None) -> np.ndarray:
    return PreviewFill().generate(shot, path, conditioning, GenerateOptions(seed=seed), progress).frames


@pytest.fixture(scope="module")
def filled() -> tuple[Conditioning, Conditioning, np.ndarray]:
    shot, path = scene(), cameras()
    conditioning = conditioning_of(shot, path)
    truth = conditioning_of(scene(with_square=False), path)
    return conditioning, truth, fill(shot, path, conditioning)


def mean_error(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(picture[where].astype(float) - truth[where]).mean())


def test_visible_pixels_pass_through_untouched(filled):
    conditioning, _, result = filled
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[conditioning.mask], conditioning.color[conditioning.mask])


def test_what_the_square_hid_comes_from_frames_in_which_it_was_elsewhere(filled):
    conditioning, truth, result = filled
    hole = ~conditioning.mask & truth.mask
    assert hole.sum() > 2000
    smeared = inpaint(conditioning.color, conditioning.mask, conditioning.depth, (0, 0, 0))
    assert mean_error(result, truth.color, hole) < 6
    assert mean_error(smeared, truth.color, hole) > 2 * mean_error(result, truth.color, hole)


def test_the_moving_square_leaves_no_ghost(filled):
    conditioning, truth, result = filled
    hole = ~conditioning.mask & truth.mask
    reddish = (result[..., 0].astype(int) - result[..., 1] > 150) & hole
    assert reddish.sum() < 0.01 * hole.sum()


def test_a_plate_whose_camera_moves_is_filled_from_each_frame_alone():
    shot, path = scene(slide_px=5), cameras()
    assert stands_still(scene().frames)
    assert not stands_still(shot.frames)
    conditioning = conditioning_of(shot, path)
    result = fill(shot, path, conditioning)
    n = 6
    alone = shot_of(shot.frames[n : n + 1], shot.depth[n : n + 1])
    one = CameraPath(path.world_to_camera[:1], path.intrinsics[:1], SIZE, SIZE, np.zeros(1))
    expected = fill(alone, one, conditioning_of(alone, one))[0]
    middle = np.s_[30:70, 40:80]
    assert np.abs(result[n][middle].astype(float) - expected[middle]).mean() < 6


def test_the_clean_plate_shows_the_wall_wherever_the_square_once_moved_aside():
    shot, empty = scene(), scene(with_square=False)
    plate = clean_plate(shot.frames, shot.depth, INTRINSICS)
    np.testing.assert_array_equal(plate.depth, empty.depth[0])
    np.testing.assert_array_equal(plate.color, empty.frames[0])


def test_the_backdrop_takes_out_what_stands_before_its_row_and_goes_on_beyond_the_picture():
    shot = scene()
    plate = Layer(shot.frames[5], shot.depth[5], INTRINSICS)
    behind = backdrop(plate)
    assert behind.depth.shape == (2 * SIZE, 2 * SIZE)
    np.testing.assert_allclose(behind.depth, WALL_DEPTH, rtol=0.05)
    reddish = behind.color[..., 0].astype(int) - behind.color[..., 1] > 150
    assert reddish.mean() < 0.01
    kept = np.s_[2:20, 2:-2]  # far from the square
    np.testing.assert_array_equal(behind.color[48:-48, 48:-48][kept], plate.color[kept])
    # A point seen at a pixel of the plate is seen half a picture further in the backdrop.
    np.testing.assert_array_equal(behind.intrinsics - plate.intrinsics, [[0, 0, 48], [0, 0, 48], [0, 0, 0]])


def test_the_ground_goes_on_at_its_own_slope_below_the_picture():
    rows = np.arange(SIZE) + 0.5 - 20
    inverse = np.where(rows > 0, 0.02 + 0.004 * rows, 0.02)
    depth = np.repeat((1 / inverse).astype(np.float32)[:, None], SIZE, axis=1)
    behind = backdrop(Layer(wall_texture(), depth, INTRINSICS))
    below = np.arange(SIZE, SIZE + 40) + 0.5 - 20
    np.testing.assert_allclose(1 / behind.depth[48 + SIZE : 48 + SIZE + 40, SIZE], 0.02 + 0.004 * below, rtol=0.05)


def test_large_plates_get_a_backdrop_of_bounded_size():
    depth = np.full((300, 1920), 5, np.float32)
    color = np.full((300, 1920, 3), 90, np.uint8)
    behind = backdrop(Layer(color, depth, pinhole_intrinsics(1000.0, 1920, 300)))
    assert behind.depth.shape == (300, 1920)
    np.testing.assert_allclose(behind.intrinsics, [[500, 0, 960], [0, 500, 150], [0, 0, 1]])


def test_the_same_seed_gives_the_same_pixels_and_another_seed_only_other_grain():
    noisy = scene()
    noise = np.random.default_rng(5).normal(0, 3, noisy.frames.shape)
    noisy = dataclasses.replace(noisy, frames=np.clip(noisy.frames + noise, 0, 255).astype(np.uint8))
    path = cameras()
    conditioning = conditioning_of(noisy, path)
    first, again, other = (fill(noisy, path, conditioning, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(first.astype(int) - other).max() < 40
    assert grain_strength(noisy.frames) == pytest.approx(3, abs=1.2)


def test_colours_flow_into_a_hole_from_its_far_side():
    color = np.zeros((1, 60, 160, 3), np.uint8)
    color[:, :, :75], color[:, :, 85:] = (200, 0, 0), (0, 0, 200)
    depth = np.full((1, 60, 160), 2, np.float32)
    depth[:, :, 85:] = 9
    known = np.ones((1, 60, 160), bool)
    known[:, :, 75:85] = False
    near_red, near_blue = inpaint(color, known, depth, (128, 128, 128))[0, 30, [75, 84]].astype(int)
    assert near_red[2] > 3 * near_red[0]
    assert near_blue[2] > 150
    assert far_side_depth(known[0], depth[0])[30, 80] > 6


def test_the_fill_stands_still_when_the_picture_does():
    rng = np.random.default_rng(0)
    still = np.repeat(wall_texture()[None], 9, axis=0)
    noisy = np.clip(still + rng.normal(0, 6, still.shape), 0, 255).astype(np.uint8)
    known = np.ones(still.shape[:3], bool)
    known[:, 30:60, 40:70] = False
    result = inpaint(noisy, known, np.ones(still.shape[:3], np.float32), (0, 0, 0))
    flicker = np.abs(np.diff(result[:, 35:55, 45:65].astype(float), axis=0)).mean()
    assert flicker < 0.5


def test_frames_without_any_known_pixel_get_the_colour_of_the_plate():
    shot, path = scene(), cameras()
    conditioning = conditioning_of(shot, path)
    nothing = Conditioning(
        np.zeros_like(conditioning.color), np.zeros_like(conditioning.mask), np.full_like(conditioning.depth, np.inf)
    )
    result = fill(shot, path, nothing)
    assert np.abs(result.mean(axis=(0, 1, 2)) - shot.frames.mean(axis=(0, 1, 2))).max() < 3


def test_a_shot_of_one_frame_and_an_output_of_another_size_work():
    shot = scene()
    one = shot_of(shot.frames[:1], shot.depth[:1])
    pose = np.eye(4)
    pose[0, 3] = -0.5
    path = CameraPath(pose[None], pinhole_intrinsics(60.0, 71, 53)[None], 71, 53, np.zeros(1))
    conditioning = conditioning_of(one, path)
    result = fill(one, path, conditioning)
    assert result.shape == (1, 53, 71, 3)
    np.testing.assert_array_equal(result[conditioning.mask], conditioning.color[conditioning.mask])


@pytest.mark.parametrize("convention", ["exact", "reference"])
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 3, 70), (3, 5, 4)])
def test_tiny_and_narrow_shots_with_wild_depth_are_filled(shape, convention):
    rng = np.random.default_rng(0)
    count, height, width = shape
    depth = rng.uniform(1, 9000, shape).astype(np.float32)
    intrinsics = pinhole_intrinsics(50.0, width, height)
    shot = dataclasses.replace(
        shot_of(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), depth), intrinsics=intrinsics, convention=convention
    )
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = 0.3
    path = CameraPath(poses, np.tile(intrinsics, (count, 1, 1)), width, height, np.arange(count, dtype=float))
    conditioning = conditioning_of(shot, path)
    result = fill(shot, path, conditioning)
    np.testing.assert_array_equal(result[conditioning.mask], conditioning.color[conditioning.mask])


def test_cancelling_stops_the_fill_at_once():
    shot, path = scene(), cameras()
    seen = []

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        fill(shot, path, conditioning_of(shot, path), 0, cancel)
    assert len(seen) == 3


def test_conditioning_of_another_path_is_refused():
    shot, path = scene(), cameras()
    conditioning = conditioning_of(shot, path)
    shorter = Conditioning(conditioning.color[1:], conditioning.mask[1:], conditioning.depth[1:])
    with pytest.raises(ShapeError, match="Render the take again"):
        fill(shot, path, shorter)


def test_engines_are_found_by_name():
    assert engine("auto").name == "preview"
    assert [engine(name).name for name in ENGINES] == list(ENGINES)
    with pytest.raises(InputError, match="no engine 'wam'"):
        engine("wam")
