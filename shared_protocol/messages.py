# SPDX-License-Identifier: Apache-2.0
"""Every message of the protocol, as a type. New fields come with defaults; old fields keep their meaning.

Change PROTOCOL_VERSION in the same commit: the minor number when something is added, the major one when old peers
break.
`hello`, `welcome` and `error` are frozen for ever, so that two versions can always tell each other what is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from .fields import RAW, AtMost, Checked, Matches, PlainData, Within

# 1.1 previews; 1.2 several workers, priorities, estimates, drain, list of jobs; 1.3 files on the same machine;
# 1.4 pairing and clients; 1.5 metrics; 1.6 checking a stored file;
# 1.7 a job's log; 1.8 what a job will take, before it is sent; 1.9 naming a file that is already on its way
PROTOCOL_VERSION = (1, 9)
HEADER_LIMIT = 64 * 1024  # bytes of a message's first frame
CHUNK_LIMIT = 1024 * 1024  # bytes of its second frame; 1 MiB measured fastest together with a window of 4
WINDOW = 4  # chunks under way at once
PREVIEW_LIMIT = 64 * 1024  # bytes of a preview picture

JobId = Annotated[str, Matches("[0-9a-f]{32}")]  # uuid4().hex, made by the client: sending twice is harmless
Sha256 = Annotated[str, Matches("[0-9a-f]{64}")]
Size = Annotated[int, Within(0, 2**46)]  # bytes
Count = Annotated[int, Within(0, 2**53)]
Word = Annotated[str, Matches("[a-z][a-z0-9_.-]{0,63}")]  # kinds, codes
DEVICE_NAMES = "(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])"  # no file on Windows may be called so, with any extension
Role = Annotated[  # a file's name in the shot folder
    str, Matches(f"(?!{DEVICE_NAMES}([.]|$))[A-Za-z0-9][A-Za-z0-9_-]{{0,47}}([.][A-Za-z0-9]{{1,15}}){{0,3}}")
]
Params = Annotated[dict[str, Any], PlainData()]
Priority = Annotated[int, Within(-100, 100)]  # higher ones run first
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
EventName = Literal["queued", "started", "stage", "requeued", "done", "failed", "cancelled"]


class Message(Checked):
    """One frame-0 header. `type_name` is what stands on the wire."""

    type_name: ClassVar[str]


MESSAGES: dict[str, type[Message]] = {}
MessageType = TypeVar("MessageType", bound=type[Message])


def message(type_name: str) -> Callable[[MessageType], MessageType]:
    """Register a message under its name on the wire."""

    def register(cls: MessageType) -> MessageType:
        assert type_name not in MESSAGES, f"two messages are called {type_name}"
        cls.type_name = type_name
        MESSAGES[type_name] = cls
        return cls

    return register


# Parts


@dataclass(frozen=True)
class ArtifactRef(Checked):
    """A file by its content."""

    sha256: Sha256
    size: Size


@dataclass(frozen=True)
class InputRef(Checked):
    """A file that a job reads."""

    role: Role
    artifact: ArtifactRef
    file_name: str  # as the artist knows it: its extension tells the worker what it is


@dataclass(frozen=True)
class OutputRef(Checked):
    """A file that a job made; the role is its name in the shot folder."""

    role: Role
    artifact: ArtifactRef


@dataclass(frozen=True)
class ErrorInfo(Checked):
    """What went wrong, for a person: the title says what, the hint what to do, the detail where to look."""

    code: Word
    title: str
    hint: str = ""
    detail: str = ""


# Hello


@message("hello")
@dataclass(frozen=True)
class Hello(Message):
    """First words of a client."""

    proto: tuple[int, int]
    client: str = ""  # name and version, for the log


@message("welcome")
@dataclass(frozen=True)
class Welcome(Message):
    """The server's answer. A changed boot_id means: subscribe to everything again."""

    proto: tuple[int, int]
    server_version: str
    boot_id: str


@message("error")
@dataclass(frozen=True)
class Refusal(Message):
    """The request was not done."""

    error: ErrorInfo


# Files


@message("blob.stat")
@dataclass(frozen=True)
class StatBlob(Message):
    """Ask how much of a file the server has."""

    artifact: ArtifactRef


@message("blob.put")
@dataclass(frozen=True)
class PutBlob(Message):
    """One chunk of a file, in the second frame. A chunk that does not continue what is stored changes nothing."""

    artifact: ArtifactRef
    offset: Size


@message("blob.name")
@dataclass(frozen=True)
class NameBlob(Message):
    """Tell what a file is whose sending was begun under a made-up name, while its sender was still hashing it."""

    sent_as: Sha256
    artifact: ArtifactRef


@message("blob.state")
@dataclass(frozen=True)
class BlobState(Message):
    """How much of a file the server has: go on from `offset`."""

    artifact: ArtifactRef
    offset: Size
    complete: bool


@message("blob.get")
@dataclass(frozen=True)
class GetBlob(Message):
    """Ask for one chunk of a file."""

    artifact: ArtifactRef
    offset: Size
    length: Annotated[int, Within(1, CHUNK_LIMIT)]


@message("blob.data")
@dataclass(frozen=True)
class BlobData(Message):
    """One chunk of a file, in the second frame."""

    artifact: ArtifactRef
    offset: Size


Token = Annotated[str, Matches("[0-9a-f]{32}")]


@message("blob.place")
@dataclass(frozen=True)
class PlaceBlob(Message):
    """Ask where a file lies in the server's folder, or where to put it: for clients that can reach that folder."""

    artifact: ArtifactRef


@message("blob.placed")
@dataclass(frozen=True)
class BlobPlace(Message):
    """Where the file lies or, when it is not complete, an empty file to write it into.

    Before that is written to, it holds its token: who can read that is on the server's machine.
    """

    artifact: ArtifactRef
    complete: bool
    path: str
    token: Token


@message("blob.adopt")
@dataclass(frozen=True)
class AdoptBlob(Message):
    """The file is written; check and keep it."""

    artifact: ArtifactRef
    token: Token


@message("blob.check")
@dataclass(frozen=True)
class CheckBlob(Message):
    """Read a stored file again, because it arrived damaged; one that is no longer what it was is dropped."""

    artifact: ArtifactRef


# Jobs


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
    peak_bytes: Size | None = None  # GPU memory that the plan needs; None: the engine needs no GPU
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


# Server


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


# Clients


Key = Annotated[str, Matches("[!-~]{40}")]  # a CURVE key in Z85
Name = Annotated[str, Matches("[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")]


@message("client.known")
@dataclass(frozen=True)
class KnownClient(Message):
    """A client that may connect."""

    key: Key
    name: Name
    added_at_s: float  # Unix time


@message("client.list")
@dataclass(frozen=True)
class AskClients(Message):
    """Ask who may connect. This and all below but joining is for the user who runs the server."""


@message("client.names")
@dataclass(frozen=True)
class ClientList(Message):
    """Who may connect, beside the user who runs the server."""

    clients: tuple[KnownClient, ...] = ()
    listens: tuple[str, ...] = ()  # endpoints that are open now


@message("client.add")
@dataclass(frozen=True)
class AddClient(Message):
    """Let a client in whose key is known."""

    key: Key
    name: Name


@message("client.remove")
@dataclass(frozen=True)
class RemoveClient(Message):
    """Refuse a client from now on, by its name or key."""

    name: Annotated[str, Matches("[!-~]{1,64}")]


@message("pair.begin")
@dataclass(frozen=True)
class BeginPairing(Message):
    """Make a code with which one client can let itself in."""

    lifetime_s: Annotated[float, Within(1, 3600)] = 600.0


@message("pair.code")
@dataclass(frozen=True)
class PairingCode(Message):
    """The code and where it works."""

    code: str
    endpoint: str
    server_key: Key


@message("pair.join")
@dataclass(frozen=True)
class JoinServer(Message):
    """Let me in: I know the code. The key is the one of this connection."""

    code: Annotated[str, Matches("[A-Z2-7]{8,64}")]
    name: Name


@message("server.stop")
@dataclass(frozen=True)
class StopServer(Message):
    """End the server. Running jobs go back to the queue, or with `drain` are done first; no other one begins then."""

    drain: bool = False
