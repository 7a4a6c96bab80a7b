# SPDX-License-Identifier: Apache-2.0
"""What all messages share: limits, kinds of fields, the register of types, parts, and the first words.

`hello`, `welcome` and `error` are frozen for ever, so that two versions can always tell each other what is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from ..fields import Checked, Matches, PlainData, Within

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
