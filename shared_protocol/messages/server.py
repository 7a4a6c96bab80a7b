# SPDX-License-Identifier: Apache-2.0
"""Messages about the server itself."""

from dataclasses import dataclass, field

from ..fields import Checked
from .base import Count, Message, Params, message


@message("server.status")
@dataclass(frozen=True)
class AskStatus(Message):
    """Ask how the server is."""


@dataclass(frozen=True)
class WorkerState(Checked):
    """How one worker is."""

    device: str  # "CPU", or the GPU's name
    pid: Count | None = None  # None: not started yet
    job_id: str = ""
    job_kind: str = ""
    progress_age_s: float | None = None  # seconds since its job last reported


@message("server.state")
@dataclass(frozen=True)
class ServerState(Message):
    """How the server is."""

    server_version: str
    boot_id: str
    pid: Count
    uptime_s: float
    home: str
    log_path: str
    queued: Count
    job_id: str = ""  # the job that runs
    job_kind: str = ""
    progress_age_s: float | None = None  # seconds since the running job last reported: tells busy from hung
    worker_pid: Count | None = None
    workers: tuple[WorkerState, ...] = ()  # all of them; the fields above tell of the first that works
    draining: bool = False  # it ends when what runs has ended


@message("server.metrics")
@dataclass(frozen=True)
class AskMetrics(Message):
    """Ask for numbers about what the server does and holds."""


@message("server.numbers")
@dataclass(frozen=True)
class MetricValues(Message):
    """The numbers, by name."""

    values: Params = field(default_factory=dict)


@message("server.stop")
@dataclass(frozen=True)
class StopServer(Message):
    """End the server. Running jobs go back to the queue, or with `drain` are done first; no other one begins then."""

    drain: bool = False
