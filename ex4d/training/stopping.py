# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and a farm's SIGTERM end a run after the step that is being made, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While it is entered, the first signal is remembered; a second one does what it always did."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # nowhere else may signals be handled
            self._before = {one: signal.signal(one, self._remember) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}
