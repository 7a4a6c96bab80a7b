# SPDX-License-Identifier: Apache-2.0
"""The working size: any shape, at the number of pixels that the model was tuned for, there and back."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ex4d.camera import CameraPath, read_camera_path
from ex4d.conditioning import render_conditioning
from ex4d.generation.wan.framing import (
    PIXELS_TOLERANCE,
    SIDE_STEP,
    TUNED_PIXELS,
    framing,
    into_take,
    into_working,
    release_framing,
)
from ex4d.take import ReconstructOptions, reconstruct

SAMPLE = Path(__file__).parents[2] / "examples" / "sample"

sides = st.integers(1, 5000)


@given(sides, sides)
def test_any_take_gets_a_size_that_the_model_takes(width, height):
    layout = framing(width, height)
    assert all(side % SIDE_STEP == 0 and side > 0 for side in layout.working)
    assert all(inner <= side for inner, side in zip(layout.inner, layout.working, strict=True))
    assert layout.inner[0] == layout.working[0] or layout.inner[1] == layout.working[1]


@given(st.integers(64, 4096), st.floats(0.25, 4))
def test_a_take_is_never_squashed_and_keeps_the_tuned_number_of_pixels(width, aspect):
    height = max(1, round(width / aspect))
    layout = framing(width, height)
    # Its sides are whole pixels: each is off by at most half of one.
    assert abs(layout.inner[0] - layout.inner[1] * width / height) <= 0.5 * (1 + width / height)
    assert abs(layout.working[0] * layout.working[1] / TUNED_PIXELS - 1) <= PIXELS_TOLERANCE + 1e-9
    padding = layout.working[0] * layout.working[1] - layout.inner[0] * layout.inner[1]
    assert padding <= 0.04 * TUNED_PIXELS


@pytest.mark.parametrize(
    ("take", "working"),
    [
        ((512, 512), (512, 512)),
        ((1920, 1080), (688, 384)),
        ((1080, 1920), (384, 688)),
        ((640, 480), (576, 432)),
        ((720, 480), (624, 416)),
        ((2048, 858), (800, 336)),
    ],
)
def test_usual_shapes(take, working):
    assert framing(*take).working == working


def test_a_take_of_the_working_size_passes_untouched():
    rng = np.random.default_rng(0)
    layout = framing(64, 48, 64 * 48)
    assert layout.working == (64, 48)
    color, mask = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), rng.random((48, 64)) > 0.5
    moved = into_working(layout, color, mask)
    np.testing.assert_array_equal(moved[0], color)
    np.testing.assert_array_equal(moved[1], mask)
    np.testing.assert_array_equal(into_take(layout, color), color)


@given(st.integers(20, 200), st.integers(20, 200))
def test_a_picture_comes_back_where_it_was(width, height):
    layout = framing(width, height, 96 * 96)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    color = np.stack([255 * x, 255 * y, 128 + 0 * x], axis=-1).astype(np.uint8)
    working, mask = into_working(layout, color, np.ones((height, width), bool))
    assert working.shape == (*layout.working[::-1], 3)
    assert mask.all()
    back = into_take(layout, working)
    assert back.shape == color.shape
    assert np.abs(back.astype(int) - color).mean() < 3


def test_black_of_holes_does_not_leak_into_what_shows():
    color = np.full((200, 200, 3), 200, np.uint8)
    mask = np.ones((200, 200), bool)
    mask[61:140, 33:90] = False
    color[~mask] = 0
    for pixels in (96 * 96, 320 * 320):
        small, shows = into_working(framing(200, 200, pixels), color, mask)
        assert (small[shows] == 200).all()
        assert (small[~shows] == 0).all()
        assert abs(shows.mean() - mask.mean()) < 0.01


def test_what_is_left_over_is_mirrored_from_the_edge():
    layout = framing(100, 57, 96 * 96)
    assert layout.inner != layout.working
    color = np.random.default_rng(0).integers(100, 150, (57, 100, 3), dtype=np.uint8)
    working, mask = into_working(layout, color, np.ones((57, 100), bool))
    assert mask.all()
    assert working.min() > 50


def test_the_reference_squashes_as_the_release_does():
    rng = np.random.default_rng(1)
    color, mask = rng.integers(0, 256, (60, 100, 3), dtype=np.uint8), rng.random((60, 100)) > 0.5
    layout = release_framing(100, 60)
    working, shows = into_working(layout, color, mask)
    np.testing.assert_array_equal(working, cv2.resize(color, (512, 512)))
    # EX-4D release, generate.py: the mask's video is resized, then compared with a half.
    np.testing.assert_array_equal(shows, cv2.resize(mask * np.uint8(255), (512, 512)) / 255 > 0.5)
    assert into_take(layout, working).shape == (60, 100, 3)


def test_the_takes_own_clips_are_as_near_to_the_truth_as_the_mesh_drawn_at_the_working_size():
    """So that an artist's changes in them count: the sample from its second camera, at 1080 lines and at 512."""
    moment = 24
    options = ReconstructOptions("file", SAMPLE / "depth.mkv", focal_px=497.7778, frame_start=moment, frame_count=1)
    shot = reconstruct(SAMPLE / "plate.mp4", options)
    second = read_camera_path(SAMPLE / "second_camera.npz")

    def drawn(side):
        lens = np.diag([side / 512, side / 512, 1]) @ second.intrinsics[moment]
        cameras = CameraPath(second.world_to_camera[[moment]], lens[None], side, side, np.zeros(1))
        seen = render_conditioning(shot.frames, shot.depth, shot.intrinsics, shot.convention, cameras, "cpu")
        return seen.color[0], seen.mask[0]

    scaled, anew = into_working(framing(1080, 1080), *drawn(1080)), drawn(512)
    both = scaled[1] & anew[1]
    assert (scaled[1] ^ anew[1]).mean() < 0.02
    truth = cv2.imread(str(SAMPLE / "truth" / f"{moment:04}.jpg"))[..., ::-1].astype(float)
    errors = [float(np.square(color[both] - truth[both]).mean()) for color, _ in (scaled, anew)]
    assert errors[0] < 1.02 * errors[1]
