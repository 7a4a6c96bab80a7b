# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the background client: same interface, no network, no threads. For tests of what uses it."""

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .errors import LinkError, NotRunning, RemoteError
from .events import (
    CallDone,
    CallFailed,
    Connected,
    Disconnected,
    Event,
    JobCancelled,
    JobDone,
    JobFailed,
    JobProgress,
)
from .messages import Estimate, Pictures

FakeJob = Callable[[str, dict[str, Any], dict[str, Path], Path], dict[str, Path]]
"""(kind, params, inputs, output folder) -> files by role; a LinkError becomes JobFailed."""


class FakeClient:
    """Runs jobs in `poll`, one event at a time, so that a test sees every state in between.

    Args:
        run: does a job; None makes empty results.
        running: whether a server answers.
        estimate: what it says of every take; None for a server that is too old to say anything.
    """

    def __init__(self, run: FakeJob | None = None, running: bool = True, estimate: Estimate | None = None) -> None:
        self.running = running
        self.submitted: list[tuple[str, str, dict[str, Any], dict[str, Path], Path]] = []
        self.asked: list[tuple[Pictures, dict[str, Any]]] = []
        self.closed = False
        self.estimated = estimate
        self._run = run
        self._steps: deque[Callable[[], Event | None]] = deque()
        self._cancelled: set[str] = set()

    def connect(self) -> None:
        def step() -> Event:
            if self.running:
                return Connected("fake://", "fake")
            error = NotRunning("No EX-4D server is running")
            return Disconnected(error.code, error.title, error.hint)

        self._steps.append(step)

    def run_job(
        self,
        kind: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Path],
        output_folder: Path,
        job_id: str | None = None,
        makes: Pictures | None = None,
    ) -> str:
        job = (job_id or uuid.uuid4().hex, kind, dict(params), dict(inputs), Path(output_folder))
        self.submitted.append(job)
        stages = ("Uploading", "Waiting in the queue", "Working", "Downloading")
        for i, stage in enumerate(stages):
            progress = JobProgress(job[0], stage, i, len(stages), None, stage)
            self._steps.append(partial(self._unless_cancelled, progress))
        self._steps.append(lambda: self._finish(*job))
        return job[0]

    def cancel(self, job_id: str) -> None:
        self._cancelled.add(job_id)

    def call(self, function: Callable[..., Any], *args: Any) -> str:
        call_id = uuid.uuid4().hex

        def step() -> Event:
            try:
                return CallDone(call_id, function(*args))
            except Exception as error:  # whatever it is, the caller asked to be told
                return CallFailed(call_id, error)

        self._steps.append(step)
        return call_id

    def estimate(self, makes: Pictures, params: Mapping[str, Any]) -> str:
        self.asked.append((makes, dict(params)))
        return self.call(self._estimate)

    def poll(self, budget_s: float = 0.02) -> list[Event]:
        while self._steps:
            event = self._steps.popleft()()
            if event is not None:
                return [event]
        return []

    def close(self, timeout_s: float = 2.0) -> None:
        self.closed = True
        self._steps.clear()

    def _estimate(self) -> Estimate:
        if self.estimated is None:
            raise RemoteError("bad_message", "The server does not know the message job.estimate", "Update the server.")
        return self.estimated

    def _unless_cancelled(self, progress: JobProgress) -> Event | None:
        return None if progress.job_id in self._cancelled else progress

    def _finish(
        self, job_id: str, kind: str, params: dict[str, Any], inputs: dict[str, Path], output_folder: Path
    ) -> Event:
        if job_id in self._cancelled:
            return JobCancelled(job_id)
        if not self.running:
            error: LinkError = NotRunning("No EX-4D server is running")
            return JobFailed(job_id, error.code, error.title, error.hint)
        try:
            return JobDone(job_id, self._run(kind, params, inputs, output_folder) if self._run else {})
        except LinkError as error:
            return JobFailed(job_id, error.code, error.title, error.hint, error.detail)
