# SPDX-License-Identifier: Apache-2.0
"""Messages about jobs."""

from dataclasses import dataclass, field
from typing import Annotated

from ..fields import RAW, AtMost, Checked, Within
from .base import (
    PREVIEW_LIMIT,
    Count,
    ErrorInfo,
    EventName,
    InputRef,
    JobId,
    JobState,
    Message,
    OutputRef,
    Params,
    Priority,
    Size,
    Word,
    message,
)


@dataclass(frozen=True)
class Pictures(Checked):
    """How many pictures of what size a job makes: how long jobs took is compared by that."""

    width: Annotated[int, Within(1, 2**20)]
    height: Annotated[int, Within(1, 2**20)]
    count: Annotated[int, Within(1, 2**31)]


@message("job.submit")
@dataclass(frozen=True)
class SubmitJob(Message):
    """Queue a job. The same id with the same content is harmless, with another content it is refused."""

    job_id: JobId
    kind: Word
    params: Params = field(default_factory=dict)
    inputs: tuple[InputRef, ...] = ()
    priority: Priority = 0
    fresh: bool = False  # do it even when the result of the same request is known
    makes: Pictures | None = None


@message("job.estimate")
@dataclass(frozen=True)
class AskEstimate(Message):
    """Ask what a take with these parameters would need here. Nothing is queued. Answering takes a second or two."""

    makes: Pictures
    params: Params = field(default_factory=dict)  # of a job of kind take


@message("job.estimated")
@dataclass(frozen=True)
class Estimate(Message):
    """What the take would need, as far as it is known."""

    engine: Word  # that would paint it
    seconds: float | None = None  # from how long such takes took on this server; None: it has done none
    measured: Count = 0  # on how many of them
    reference_s: float | None = None  # what the machine of our benchmarks takes; None: not measured
    reference: str = ""  # that machine
    windows: Count = 1  # in which the model paints it
    gpu: str = ""  # the server's; empty: none
    gpu_bytes: Size = 0  # its memory, of which
    gpu_used_bytes: Size = 0  # is in use now, by this server's own workers too
    peak_bytes: Size | None = None  # GPU memory that the plan needs; None: no GPU is needed, or it is not known
    ram_bytes: Size | None = None  # main memory that the plan needs
    notices: tuple[str, ...] = ()  # about the plan
    refusal: str = ""  # why it cannot be painted, and what could be
    ahead: Count = 0  # jobs that run or wait now


@message("job.subscribe")
@dataclass(frozen=True)
class SubscribeJob(Message):
    """Send the events after `after_seq`, then every new one."""

    job_id: JobId
    after_seq: Count = 0


@message("job.cancel")
@dataclass(frozen=True)
class CancelJob(Message):
    """Stop a job. Never waits behind work."""

    job_id: JobId


@message("job.prioritise")
@dataclass(frozen=True)
class PrioritiseJob(Message):
    """Put a waiting job before or behind others."""

    job_id: JobId
    priority: Priority


@message("job.list")
@dataclass(frozen=True)
class AskJobs(Message):
    """Ask for the jobs: those that run, those that wait in their order, those that ended last."""

    limit: Annotated[int, Within(1, 100)] = 100  # of each


@dataclass(frozen=True)
class JobSummary(Checked):
    """A job in a list."""

    job_id: JobId
    kind: Word
    state: JobState
    priority: Priority = 0
    attempt: Count = 0
    mine: bool = True  # sent by who asks
    stage: str = ""
    i: Count = 0
    n: Count = 0
    eta_s: float | None = None  # of the stage when it runs, until it is done when it waits


@message("job.summaries")
@dataclass(frozen=True)
class JobList(Message):
    """The jobs."""

    jobs: tuple[JobSummary, ...] = ()


@message("job.state")
@dataclass(frozen=True)
class JobStatus(Message):
    """Where a job stands."""

    job_id: JobId
    state: JobState
    last_seq: Count
    ahead: Count = 0  # jobs that run before this one
    eta_s: float | None = None  # seconds until a waiting job is done, from how long such jobs took; None: unknown


@message("job.event")
@dataclass(frozen=True)
class JobEvent(Message):
    """Something that happened to a job. Stored; `seq` counts from 1 without gaps."""

    job_id: JobId
    seq: Count
    name: EventName
    at_s: float  # Unix time
    attempt: Count = 0
    note: str = ""  # the stage's name, or why it was queued again
    error: ErrorInfo | None = None
    outputs: tuple[OutputRef, ...] = ()


@message("job.progress")
@dataclass(frozen=True)
class JobProgress(Message):
    """Step `i` of `n` of a stage is done. Never stored: a newer one replaces it."""

    job_id: JobId
    stage: str
    i: Count
    n: Count
    eta_s: float | None = None
    preview: Annotated[bytes, AtMost(PREVIEW_LIMIT)] | None = field(default=None, repr=False, metadata=RAW)  # JPEG
    message: str = ""  # more for the user than the stage: which jobs come first


@message("job.log")
@dataclass(frozen=True)
class AskLog(Message):
    """Ask for the last lines of a job's log."""

    job_id: JobId
    lines: Annotated[int, Within(1, 1000)] = 100


@message("job.log_text")
@dataclass(frozen=True)
class LogText(Message):
    """The lines; of a long log as many of the last as fit."""

    job_id: JobId
    text: str
