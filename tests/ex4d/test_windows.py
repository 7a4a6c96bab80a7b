# SPDX-License-Identifier: Apache-2.0
"""Takes of any length: every frame is painted, and no seam shows where two windows meet."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ex4d.generation.wan.windows import MOST_FRAMES, OVERLAP, TUNED_FRAMES, crossfaded, held, paint_spans, spans


@given(st.integers(1, 3000))
def test_windows_cover_every_frame_and_are_of_a_length_that_the_model_takes(count):
    parts = spans(count)
    assert parts[0].start == 0
    assert parts[0].overlap == 0
    for part in parts:
        assert part.count % 4 == 1
        assert TUNED_FRAMES <= part.count <= MOST_FRAMES
    for before, after in itertools.pairwise(parts):
        assert after.start > before.start
        assert before.start + before.count - after.start == after.overlap >= OVERLAP
    end = parts[-1].start + parts[-1].count
    assert end >= count
    assert end == count or len(parts) == 1


@pytest.mark.parametrize(
    ("count", "lengths"), [(1, [49]), (49, [49]), (50, [53]), (80, [81]), (81, [81]), (82, [49, 49]), (161, [61] * 3)]
)
def test_no_more_windows_than_needed(count, lengths):
    assert [part.count for part in spans(count)] == lengths


def test_a_clip_stands_still_at_its_end():
    clip = np.arange(3)[:, None]
    assert held(clip, 5)[:, 0].tolist() == [0, 1, 2, 2, 2]
    assert held(clip, 2)[:, 0].tolist() == [0, 1, 2]


@given(st.integers(1, 60))
def test_what_a_faithful_painter_paints_comes_back_frame_by_frame(count):
    color = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    mask = np.ones((count, 2, 2), bool)
    parts = spans(count, shortest=5, longest=13, overlap=3)
    np.testing.assert_array_equal(paint_spans(color, mask, parts, lambda number, color, mask: color), color)


def test_each_window_starts_from_what_the_one_before_it_has_painted():
    count, seen = 30, []
    color = np.zeros((count, 2, 2, 3), np.uint8)
    mask = np.zeros((count, 2, 2), bool)
    parts = spans(count, shortest=5, longest=13, overlap=3)

    def paint(number, color, mask):
        seen.append((color.copy(), mask.copy()))
        return np.full(color.shape, 50 * (number + 1), np.uint8)

    result = paint_spans(color, mask, parts, paint)
    assert len(seen) == len(parts) == 3
    for number, (part, (told, known)) in enumerate(zip(parts, seen, strict=True)):
        assert known[: part.overlap].all()
        assert not known[part.overlap :].any()
        assert (told[: part.overlap] == 50 * number).all()
    levels = result[:, 0, 0, 0].astype(int)
    assert (np.diff(levels) >= 0).all()
    assert np.diff(levels).max() <= 50 / 3  # the step is spread over the shared frames
    assert color.max() == 0, "the take's own clips must stay as they are"


def test_a_crossfade_goes_over_evenly():
    before, after = np.full((3, 1, 1, 3), 0, np.uint8), np.full((3, 1, 1, 3), 200, np.uint8)
    assert crossfaded(before, after)[:, 0, 0, 0].tolist() == [50, 100, 150]
