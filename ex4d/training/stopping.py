# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and a farm's SIGTERM end a run after the step that is being made, with a checkpoint."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SAME_S = 1.0  # launchers hand a terminal's Ctrl-C on, so that it arrives twice


class StopRequest:
    """While it is entered, signals are remembered; a second Ctrl-C does what it always did."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._interrupted: float | None = None  # when Ctrl-C was first pressed

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # nowhere else may signals be handled
            self._before = {one: signal.signal(one, self._remember) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is None:
                self._interrupted = now
            elif now - self._interrupted > SAME_S:
                raise KeyboardInterrupt
