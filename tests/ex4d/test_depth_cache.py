# SPDX-License-Identifier: Apache-2.0
"""The same plate, source and settings do not run twice; anything else does."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ex4d.cache_folder import cache_folder
from ex4d.depth import DepthClip, DisparityClip, cache
from ex4d.depth.cache import cached_estimate
from ex4d.errors import Cancelled
from ex4d.video import Clip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EX4D_CACHE", str(tmp_path))
    return tmp_path / "depth"


@pytest.fixture
def clip() -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    return Clip(frames, Fraction(25), 0, Path("plate.mov"), "0" * 64, None, ())


class CountingSource:
    """A model that counts how often it runs."""

    name, label, licence, commercial_use = "counting", "Counting", "CC0", True

    def __init__(self, steps: int = 5, cached: bool = True, relative: bool = False) -> None:
        self.cache_key = {"steps": steps} if cached else None
        self.relative, self.runs = relative, 0

    def estimate(self, clip, progress=None):
        self.runs += 1
        values = clip.frames[..., 0].astype(np.float32) + 1
        origin = {"source": "counting", "licence": "CC0", "commercial_use": True, "notices": ("one",), "focal_px": 9.0}
        if self.relative:
            return DisparityClip(disparity=values, sky=values > 100, **origin)
        return DepthClip(depth=values, kind="metric", parameters={"a": [1, None]}, **origin)


@pytest.mark.parametrize("relative", [False, True])
def test_the_second_run_is_read_and_is_the_same(clip, relative):
    source = CountingSource(relative=relative)
    first, second = cached_estimate(source, clip), cached_estimate(source, clip)
    assert source.runs == 1
    assert type(first) is type(second)
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_another_plate_setting_or_code_runs_again(clip, monkeypatch):
    source = CountingSource()
    cached_estimate(source, clip)
    frames = clip.frames.copy()
    frames[2, 3, 4, 0] ^= 1
    cached_estimate(source, dataclasses.replace(clip, frames=frames))
    cached_estimate(source, dataclasses.replace(clip, frames=clip.frames[:2]))
    assert source.runs == 3
    more = CountingSource(steps=6)
    cached_estimate(more, clip)
    assert more.runs == 1
    monkeypatch.setattr(cache, "code_version", lambda: "newer")
    cached_estimate(source, clip)
    assert source.runs == 4


def test_the_same_frames_of_a_moved_file_are_the_same_plate(clip):
    source = CountingSource()
    cached_estimate(source, clip)
    cached_estimate(source, dataclasses.replace(clip, path=Path("elsewhere.mov"), sha256="1" * 64))
    assert source.runs == 1


def test_sources_as_fast_as_reading_are_not_kept_and_the_cache_can_be_switched_off(clip, folder, monkeypatch):
    cached_estimate(CountingSource(cached=False), clip)
    assert not folder.exists()
    monkeypatch.setenv("EX4D_CACHE", "")
    assert cache_folder("depth") is None
    source = CountingSource()
    cached_estimate(source, clip)
    cached_estimate(source, clip)
    assert source.runs == 2


def test_a_damaged_entry_is_made_again(clip, folder):
    source = CountingSource()
    cached_estimate(source, clip)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    for damage in (b"", whole[:100], whole[: len(whole) // 2] + bytes(20) + whole[len(whole) // 2 + 20 :]):
        entry.write_bytes(damage)
        runs = source.runs
        np.testing.assert_array_equal(cached_estimate(source, clip).depth, clip.frames[..., 0] + 1.0)
        assert source.runs == runs + 1


def test_what_was_not_used_longest_is_dropped(clip, folder, monkeypatch):
    sources = [CountingSource(steps) for steps in range(4)]
    for source in sources[:3]:
        cached_estimate(source, clip)
    size = max(path.stat().st_size for path in folder.iterdir())
    for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        cache.os.utime(path, (1000 + age, 1000 + age))
    cached_estimate(sources[0], clip)  # used now
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    cached_estimate(sources[3], clip)
    assert len(list(folder.iterdir())) == 3
    for source in (sources[0], sources[2], sources[3]):
        cached_estimate(source, clip)
    assert [source.runs for source in sources] == [1, 1, 1, 1]
    cached_estimate(sources[1], clip)
    assert sources[1].runs == 2


def test_a_cache_that_cannot_be_written_costs_no_result(clip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EX4D_CACHE", str(tmp_path / "file"))
    assert cached_estimate(CountingSource(), clip).depth.shape == (3, 12, 16)


def test_a_cancelled_run_leaves_nothing(clip, folder):
    source = CountingSource()

    def stopped(clip, progress):
        raise Cancelled("stopped")

    source.estimate = stopped
    with pytest.raises(Cancelled):
        cached_estimate(source, clip)
    assert not folder.exists()
