# SPDX-License-Identifier: Apache-2.0
"""How long a take will still need, over loading and all windows: one number that never grows.

Until the network has answered often enough to be measured, the plan's expectation stands in for it. When something
takes longer than it seemed, the number stands still until the truth has come down to it.
"""

import time
from collections.abc import Callable
from itertools import accumulate

from ex4d.generation.wan.modes import Mode
from ex4d.progress import Progress

# Stages of a window, as they are reported; all others come before the first one or after the last one.
LOADING, LOOKING, PAINTING, DEVELOPING = "Loading Wan2.1", "Looking at the plate", "Painting", "Developing the frames"
# Before and after the steps of a window, in forwards of the network. H200: docs/benchmarks.md, quality lossless.
ENCODING, DECODING = 0.9, 0.5


class TimeLeft:
    """Follows the reports of a take."""

    def __init__(self, mode: Mode, steps: int, windows: int, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            mode: says how often each step asks the network.
            steps: of a window.
            windows: of the take.
            clock: seconds.
        """
        guided = 0 if mode.guidance_scale == 1 else mode.guidance_share * steps
        asks = [2 if step < guided else 1 for step in range(steps)]
        self._done = [0, *accumulate(asks)]  # forwards, after so many steps
        self._windows, self._clock = windows, clock
        self._expected_s: float | None = None  # of a forward, before one was measured
        self._measured = 0.0, 0  # seconds, forwards
        self._since: tuple[float, int] | None = None  # when this window's first step was done, and after how many steps
        self._stage_s: dict[str, float] = {}  # how long the stages before and after the steps took
        self._stage, self._began_s = "", 0.0
        self._shown: float | None = None

    def expect(self, window_s: float | None) -> None:
        """Take what the plan says that a window takes; None: it does not know this GPU."""
        self._expected_s = None if window_s is None else window_s / (ENCODING + self._done[-1] + DECODING)

    def after(self, report: Progress, window: int | None = None) -> float | None:
        """Seconds that are left after a report, as far as they are known.

        Args:
            report: as the stage makes it.
            window: its number; None before the first and after the last.
        """
        left = None
        if window is not None:
            left = self._in_window(report, window)
        elif report.stage == LOADING and report.eta_s is not None and self._expected_s is not None:
            left = report.eta_s + self._of_windows(self._expected_s, *[self._windows] * 3)
        if left is not None:
            self._shown = left if self._shown is None else min(self._shown, left)
        return self._shown

    def _in_window(self, report: Progress, window: int) -> float | None:
        self._measure(report)
        share = report.i / report.n if report.n else 0.0
        encoding, painting, decoding = 1.0, 1.0, 1.0  # how much of each is left
        if report.stage == LOOKING:
            encoding -= share
        elif report.stage == PAINTING:
            encoding, painting = 0.0, 1 - self._done[report.i] / self._done[-1]
        elif report.stage == DEVELOPING:
            encoding, painting, decoding = 0.0, 0.0, 1 - share
        rate = self._forward_s()
        if rate is None:
            return None
        later = self._windows - window - 1
        return self._of_windows(rate, encoding + later, painting + later, decoding + later)

    def _of_windows(self, rate: float, encoding: float, painting: float, decoding: float) -> float:
        """Seconds for so much of the stages of windows. rate: seconds of a forward"""
        looking = self._stage_s.get(LOOKING, ENCODING * rate)
        developing = self._stage_s.get(DEVELOPING, DECODING * rate)
        return encoding * looking + painting * self._done[-1] * rate + decoding * developing

    def _measure(self, report: Progress) -> None:
        now_s = self._clock()
        if report.stage != self._stage:
            self._stage, self._began_s, self._since = report.stage, now_s, None
        if report.stage != PAINTING:
            if report.i == report.n:
                self._stage_s[report.stage] = now_s - self._began_s
        elif report.i > 0:
            if self._since is not None:  # not the first step: it may pay for what happens once
                since_s, steps = self._since
                seconds, forwards = self._measured
                self._measured = seconds + now_s - since_s, forwards + self._done[report.i] - self._done[steps]
            self._since = now_s, report.i

    def _forward_s(self) -> float | None:
        seconds, forwards = self._measured
        return seconds / forwards if forwards else self._expected_s
