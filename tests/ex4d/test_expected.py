# SPDX-License-Identifier: Apache-2.0
"""What a take will need, told before it is painted: from what was measured, never from thin air."""

import pytest

from ex4d import expected as module
from ex4d.errors import MachineError
from ex4d.expected import DoneTake, Pictures, expected
from ex4d.generation.options import GenerateOptions
from ex4d.generation.wan.machine import GIB, Machine

SQUARE, HD = Pictures(512, 512, 49), Pictures(1920, 1080, 49)
BIG = Machine("NVIDIA L40S", total=48 * GIB, free=47 * GIB, ram_free=64 * GIB)
SMALL = Machine("NVIDIA GeForce RTX 4090", total=24 * GIB, free=23 * GIB, ram_free=64 * GIB)
TINY = Machine("NVIDIA T4", total=8 * GIB, free=7 * GIB, ram_free=64 * GIB, fp8=False)
WAN = GenerateOptions(engine="wan")


@pytest.fixture
def installed(monkeypatch):
    """A machine with the packages and the weights."""
    monkeypatch.setattr(module, "need_installed", lambda mode, loras=(): None)


@pytest.mark.parametrize(
    ("quality", "seconds"),  # docs/benchmarks.md; cached: the most that it takes
    [("reference", 61.4), ("lossless", 40.1), ("fp8", 30.0), ("cached", 24.2), ("draft", 4.6)],
)
def test_without_a_measurement_the_benchmarks_are_told(installed, quality, seconds):
    found = expected(GenerateOptions(engine="wan", quality=quality), SQUARE, [], BIG)
    assert found.seconds is None
    assert found.measured == 0
    assert found.reference == "NVIDIA H200"
    assert found.reference_s == pytest.approx(seconds, rel=0.05)


def test_the_benchmarks_are_scaled_by_steps_and_windows(installed):
    few = expected(GenerateOptions(engine="wan", steps=5), SQUARE, [], BIG)
    assert few.reference_s == pytest.approx(1.06 + 10 * 0.779, rel=0.05)
    long = expected(WAN, Pictures(512, 512, 150), [], BIG)
    assert long.windows == 2
    assert long.reference_s > 2 * expected(WAN, SQUARE, [], BIG).reference_s


def test_the_picture_size_does_not_change_what_the_model_paints(installed):
    """It always paints about as many pixels."""
    assert expected(WAN, HD, [], BIG).reference_s == pytest.approx(expected(WAN, SQUARE, [], BIG).reference_s, rel=0.1)


def test_what_was_measured_here_is_the_estimate(installed):
    done = [DoneTake(WAN, SQUARE, seconds) for seconds in (90.0, 100.0, 400.0)]
    found = expected(WAN, SQUARE, done, BIG)
    assert (found.seconds, found.measured) == (100.0, 3)
    other = GenerateOptions(engine="wan", quality="draft")
    assert expected(other, SQUARE, done, BIG).seconds is None, "it takes another time"


def test_only_the_latest_takes_count(installed):
    done = [DoneTake(WAN, SQUARE, 50.0)] * 5 + [DoneTake(WAN, SQUARE, 500.0)] * 20
    assert expected(WAN, SQUARE, done, BIG).seconds == 50.0


def test_a_measurement_is_scaled_to_the_pictures_that_are_asked_for():
    preview = GenerateOptions(engine="preview")
    done = [DoneTake(GenerateOptions(engine="preview", quality="draft"), Pictures(100, 100, 10), 2.0)]
    found = expected(preview, Pictures(200, 100, 20), done, None)
    assert found.seconds == pytest.approx(8.0)
    assert (found.peak_bytes, found.reference_s, found.refusal) == (None, None, "")


def test_the_memory_is_that_of_the_plan(installed):
    assert expected(WAN, SQUARE, [], BIG).peak_bytes == pytest.approx(38 * GIB, rel=0.05)
    streamed = expected(WAN, SQUARE, [], SMALL)
    assert streamed.peak_bytes < SMALL.free
    assert streamed.ram_bytes > 10 * GIB
    assert any("stream from main memory" in notice for notice in streamed.notices)


def test_what_does_not_fit_is_said_before_it_is_sent(installed):
    found = expected(WAN, SQUARE, [], TINY)
    assert "GPU memory" in found.refusal
    assert found.peak_bytes is None
    assert "has none" in expected(WAN, SQUARE, [], None).refusal


def test_auto_is_what_the_machine_can_paint_with(installed, monkeypatch):
    auto = GenerateOptions()
    assert expected(auto, SQUARE, [], BIG).engine == "wan"
    assert expected(auto, SQUARE, [], None).engine == "preview"

    def lacks(mode, loras=()):
        raise MachineError("The weights are missing.")

    monkeypatch.setattr(module, "need_installed", lacks)
    assert expected(auto, SQUARE, [], BIG).engine == "preview"
    assert expected(WAN, SQUARE, [], BIG).refusal == "The weights are missing."


def test_of_other_machines_only_what_was_measured_is_told():
    found = expected(WAN, SQUARE, [DoneTake(WAN, SQUARE, 33.0)], None, elsewhere=True)
    assert (found.engine, found.seconds, found.peak_bytes, found.refusal) == ("wan", 33.0, None, "")
    assert found.reference_s is not None
    auto = expected(GenerateOptions(), SQUARE, [], None, elsewhere=True)
    assert (auto.engine, auto.reference_s, auto.refusal) == ("auto", None, "")
