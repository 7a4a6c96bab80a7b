# SPDX-License-Identifier: Apache-2.0
"""What the background client tells the add-on, and the inbox in which it waits to be read."""

import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Connected:
    """The server answers."""

    endpoint: str
    server_version: str


@dataclass(frozen=True)
class Disconnected:
    """The server cannot be reached, or the connection broke. Jobs under way are picked up again when it is back."""

    code: str
    title: str
    hint: str


@dataclass(frozen=True)
class JobProgress:
    """Step `i` of `n` of a stage is done (n = 0: not known). Only the newest one of a job is kept."""

    job_id: str
    stage: str
    i: int
    n: int
    eta_s: float | None = None
    message: str = ""  # for the panel: "Uploading plate.mp4", "Rendering the mesh 12/49"
    preview: bytes | None = field(default=None, repr=False)  # JPEG, when there is a new one


@dataclass(frozen=True)
class JobDone:
    """The job's files lie in the output folder, complete and checked."""

    job_id: str
    files: dict[str, Path]  # role -> file


@dataclass(frozen=True)
class JobFailed:
    """The job will not go on. The title says what is wrong, the hint what to do."""

    job_id: str
    code: str
    title: str
    hint: str
    detail: str = ""


@dataclass(frozen=True)
class JobCancelled:
    """The job was stopped on request."""

    job_id: str


@dataclass(frozen=True)
class CallDone:
    """A function handed to `call` returned."""

    call_id: str
    result: Any


@dataclass(frozen=True)
class CallFailed:
    """A function handed to `call` raised."""

    call_id: str
    error: Exception


Event = Connected | Disconnected | JobProgress | JobDone | JobFailed | JobCancelled | CallDone | CallFailed


class Inbox:
    """Events on their way from the background threads to the main thread, in order; newer progress replaces older."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[object, Event] = {}

    def put(self, event: Event) -> None:
        """Add an event; never blocks for longer than another thread's put."""
        with self._lock:
            if isinstance(event, JobProgress):
                older = self._events.get(event.job_id)
                if event.preview is None and isinstance(older, JobProgress):  # words replace words, not the picture
                    event = replace(event, preview=older.preview)
                self._events[event.job_id] = event
                return
            if isinstance(event, JobDone | JobFailed | JobCancelled):
                self._events.pop(event.job_id, None)
            self._events[object()] = event

    def take(self, budget_s: float) -> list[Event]:
        """Everything that waits, or what can be handed over within the budget."""
        deadline = time.monotonic() + budget_s
        taken: list[Event] = []
        with self._lock:
            while self._events:
                taken.append(self._events.pop(next(iter(self._events))))
                if time.monotonic() >= deadline:
                    break
        return taken
