# SPDX-License-Identifier: Apache-2.0
"""What an artist sees while the model paints: how far it is, how long it still takes, how the take is about to look."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ex4d.generation.wan.latent_preview import latent_picture, moment
from ex4d.generation.wan.preparation import Work
from ex4d.generation.wan.time_left import TimeLeft
from ex4d.progress import Progress, ProgressCallback

Show = Callable[[Any, int], NDArray[np.uint8] | None]
"""(latents, torch float [1, 16, f, h, w]; which of their frames) -> RGB [h, w, 3]; None: it cannot."""


class Follower:
    """Makes one report of all windows' reports, and adds pictures of what is about to be painted."""

    def __init__(
        self, work: Work, count: int, progress: ProgressCallback | None, interval_s: float, left: TimeLeft
    ) -> None:
        """
        Args:
            work: the take with its lead-in.
            count: frames of the take.
            progress: receives the reports.
            interval_s: least time between two pictures.
            left: knows how long it still takes.
        """
        self._left = left
        self.show: Show | None = None  # the latents themselves are shown without it
        self._work, self._count, self._progress = work, count, progress
        self._interval_s = interval_s
        self._number = 0
        self._picture: NDArray[np.uint8] | None = None
        self._pictures, self._last_s = 0, -interval_s

    @property
    def beside(self) -> ProgressCallback | None:
        """What is done before and after the windows reports to."""
        return None if self._progress is None else self._beside

    def _beside(self, report: Progress) -> None:
        assert self._progress is not None
        self._progress(replace(report, eta_s=self._left.after(report)))

    def window(self, number: int) -> ProgressCallback | None:
        """What a painter reports to while it is at that window."""
        self._number = number
        return None if self._progress is None else self._report

    def _report(self, report: Progress) -> None:
        assert self._progress is not None
        eta_s = self._left.after(report, self._number)
        windows = len(self._work.parts)
        stage = f"{report.stage} {self._number + 1}/{windows}" if windows > 1 else report.stage
        done = self._number * report.n + report.i  # of all windows
        picture, self._picture = self._picture, None
        self._progress(Progress(stage, done, windows * report.n, eta_s, picture))

    def on_latents(self, step: int, latents: Any) -> None:
        """Keep a picture for the next report. latents: torch float [1, 16, f, h, w]"""
        now_s = time.monotonic()
        if self._progress is None or now_s - self._last_s < self._interval_s:
            return
        first, last = self._shown(latents.shape[2])
        frame = first + moment(self._pictures, last - first + 1)
        self._picture = self.show(latents, frame) if self.show is not None else None
        if self._picture is None:
            self._picture = latent_picture(latents[0, :, frame].float().cpu().numpy())
        self._pictures, self._last_s = self._pictures + 1, now_s

    def _shown(self, latent_frames: int) -> tuple[int, int]:
        """The window's first and last latent frame of the take; frame t lies in latent frame ceil(t / 4)."""
        start = self._work.parts[self._number].start
        first, last = self._work.lead - start, self._work.lead + self._count - 1 - start
        return min(max(0, first + 3) // 4, latent_frames - 1), min((last + 3) // 4, latent_frames - 1)
