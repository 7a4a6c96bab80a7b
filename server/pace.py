# SPDX-License-Identifier: Apache-2.0
"""Keeps a job that reports without pause from drowning its listeners: newer progress replaces older."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from shared_protocol.messages import JobProgress

RATE = 10.0  # reports a second, in the long run; a panel draws no faster
BURST = 20.0  # reports that pass at once, so that short stages are seen


class Pace:
    """Passes on the progress of one job, at once as long as there is little, else the newest only.

    Args:
        publish: receives what passes.
    """

    def __init__(self, publish: Callable[[JobProgress], None]) -> None:
        self._publish = publish
        self._allowed = BURST
        self._counted_s = time.monotonic()
        self._held: JobProgress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self, message: JobProgress) -> None:
        """Take a report. A picture that has not passed yet stays with the newest one."""
        if self._held is None and self._may_pass():
            self._publish(message)
            return
        picture = self._held.preview if self._held else None
        self._held = replace(message, preview=message.preview or picture)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1 / RATE, self._release)

    def close(self) -> None:
        """The job has ended: nothing more passes."""
        self._held = None
        if self._timer is not None:
            self._timer.cancel()

    def _release(self) -> None:
        self._timer = None
        if self._held is not None:
            held, self._held = self._held, None
            self._allowed -= 1
            self._publish(held)

    def _may_pass(self) -> bool:
        now = time.monotonic()
        self._allowed = min(BURST, self._allowed + (now - self._counted_s) * RATE)
        self._counted_s = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True
