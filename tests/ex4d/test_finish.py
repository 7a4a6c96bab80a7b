# SPDX-License-Identifier: Apache-2.0
"""Result files and the contact sheet."""

from fractions import Fraction

import numpy as np
import pytest

from ex4d.coverage import Coverage
from ex4d.errors import ShapeError
from ex4d.finish import COLUMNS, PAPER, contact_sheet, write_result
from ex4d.takes import Take, take_folder
from ex4d.video import read_video

TAKE = Take("take1", "cpu", "preview", 0, Coverage((0.0,), (0.0,)), {}, "0.1.0")


def flat(count: int, height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((count, height, width, 3), colour, np.uint8)


def test_the_result_is_written_lossless_and_for_looking_at(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
    write_result(tmp_path, TAKE, frames, Fraction(24000, 1001))
    folder = take_folder(tmp_path, "take1")
    assert sorted(path.name for path in folder.iterdir()) == ["result.mkv", "result.mp4"]
    np.testing.assert_array_equal(read_video(folder / "result.mkv").frames, frames)
    shown = read_video(folder / "result.mp4")
    assert shown.frames.shape == frames.shape
    assert shown.fps == Fraction(24000, 1001)


def test_the_contact_sheet_shows_each_row_in_its_colour():
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    sheet = contact_sheet(
        flat(12, 64, 64, red), flat(12, 64, 64, green), np.ones((12, 64, 64), bool), flat(12, 64, 64, blue)
    )
    assert sheet.dtype == np.uint8
    tops = [int(np.argmax((sheet == colour).all(axis=2).any(axis=1))) for colour in (red, green, (255, 255, 255), blue)]
    assert tops == sorted(tops)
    for colour in (red, green, blue):
        shown = (sheet == colour).all(axis=2)
        assert shown.any(axis=0).sum() == COLUMNS * 240
    assert tuple(sheet[0, 0]) == PAPER
    assert (sheet[:, :84] > 150).any()  # the labels


def test_sizes_and_lengths_may_differ_between_plate_and_take():
    sheet = contact_sheet(
        flat(3, 90, 50, (9, 9, 9)),
        flat(1, 40, 120, (9, 9, 9)),
        np.zeros((1, 40, 120), np.uint8),
        flat(1, 40, 120, (9, 9, 9)),
    )
    assert sheet.shape[1] > 3 * 240


def test_the_mask_may_be_bool_grey_or_rgb():
    mask = np.arange(64 * 64).reshape(1, 64, 64) % 3 == 0
    grey = mask.astype(np.uint8) * 255
    frames = flat(1, 64, 64, (50, 60, 70))
    sheets = [contact_sheet(frames, frames, m, frames) for m in (mask, grey, np.repeat(grey[..., None], 3, axis=3))]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    np.testing.assert_array_equal(sheets[0], sheets[2])


def test_clips_of_different_length_make_no_sheet():
    frames = flat(4, 16, 16, (0, 0, 0))
    with pytest.raises(ShapeError, match="same number of frames"):
        contact_sheet(frames, frames, np.ones((3, 16, 16), bool), frames)
