# SPDX-License-Identifier: Apache-2.0
"""The time that a take still needs, on a clock that the test turns."""

import itertools

import pytest

from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.time_left import DEVELOPING, LOADING, LOOKING, PAINTING, TimeLeft
from ex4d.progress import Progress

STEPS, WINDOWS = 25, 3
LOOKING_S, DEVELOPING_S, LOADING_S = 3.0, 2.0, 20.0


def take(forward_s, expected_s=None, mode=MODES["lossless"], first_s=0.0):
    """Every report of a take: seconds that it still takes in truth, and as they are shown.

    Args:
        forward_s: of a step -> seconds that a forward takes in it.
        expected_s: of a window, by the plan.
        mode: how often the network is asked.
        first_s: what the very first step pays once.
    """
    now_s = 0.0
    left = TimeLeft(mode, STEPS, WINDOWS, clock=lambda: now_s)
    left.expect(expected_s)
    guided = mode.guidance_share * STEPS if mode.guidance_scale != 1 else 0
    work = [(LOADING, None, i + 1, 4, LOADING_S / 4) for i in range(4)]
    for window in range(WINDOWS):
        work.append((LOOKING, window, 1, 1, LOOKING_S))
        for step in range(STEPS):
            seconds = forward_s(step) * (2 if step < guided else 1) + (first_s if window == step == 0 else 0)
            work.append((PAINTING, window, step + 1, STEPS, seconds))
        work += [(DEVELOPING, window, i + 1, 7, DEVELOPING_S / 7) for i in range(7)]
    total_s, reports = sum(seconds for *_, seconds in work), []
    for stage, window, i, n, seconds in work:
        for done in (0, i) if i == 1 else (i,):
            now_s += seconds if done else 0
            eta_s = (LOADING_S - now_s) if stage == LOADING and done >= 2 else None
            reports.append((total_s - now_s, left.after(Progress(stage, done, n, eta_s), window), stage, window, done))
    return reports


def never_grows(reports):
    shown = [eta_s for _, eta_s, *_ in reports if eta_s is not None]
    assert all(later <= earlier for earlier, later in itertools.pairwise(shown))
    assert shown[-1] == pytest.approx(0, abs=0.1)


def test_after_two_steps_it_is_right_over_all_windows():
    reports = take(lambda step: 0.8, first_s=6)
    never_grows(reports)
    known = [(truth, eta_s) for truth, eta_s, *_ in reports if eta_s is not None]
    assert known[0][0] > 2.8 * (STEPS * 1.6), "known from the first window's second step on"
    for truth, eta_s in known:
        assert eta_s == pytest.approx(truth, rel=0.06, abs=0.5)


def test_the_plan_s_expectation_gives_it_from_loading_on():
    reports = take(lambda step: 0.8, expected_s=STEPS * 1.6 + LOOKING_S + DEVELOPING_S)
    never_grows(reports)
    first = next(report for report in reports if report[1] is not None)
    assert first[2] == LOADING
    for truth, eta_s, *_ in reports:
        assert eta_s is None or eta_s == pytest.approx(truth, rel=0.06, abs=0.5)


@pytest.mark.parametrize("wrong", [0.4, 2.5])
def test_a_wrong_expectation_is_outlived(wrong):
    reports = take(lambda step: 0.8, expected_s=45 * wrong)
    never_grows(reports)
    for truth, eta_s, stage, window, done in reports:
        if truth > 1 and eta_s is not None:
            assert eta_s > 0.3
        if window == 2 and (stage, done) >= (PAINTING, 3):
            assert eta_s == pytest.approx(truth, rel=0.1, abs=0.5)


@pytest.mark.parametrize("mode", [MODES["cached"], MODES["draft"]], ids=lambda mode: mode.name)
def test_steps_that_ask_less_are_counted_as_such(mode):
    reports = take(lambda step: 0.5, mode=mode)
    never_grows(reports)
    for truth, eta_s, *_ in reports:
        assert eta_s is None or eta_s == pytest.approx(truth, rel=0.15, abs=0.5)


def test_steps_that_are_foretold_make_it_shorter_and_never_longer():
    reports = take(lambda step: 0.5 if step < 4 or step % 3 == 0 else 0.01, mode=MODES["cached"])
    never_grows(reports)
    for truth, eta_s, stage, window, done in reports:
        if window == 2 and (stage, done) >= (PAINTING, 5):
            assert eta_s == pytest.approx(truth, rel=0.4, abs=1.5)


def test_of_a_gpu_that_nobody_knows_nothing_is_said_before_its_second_step():
    early = [
        eta_s for _, eta_s, stage, window, done in take(lambda step: 1.0) if stage in (LOADING, LOOKING) and not window
    ]
    assert early == [None] * len(early)
