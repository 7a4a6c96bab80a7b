# SPDX-License-Identifier: Apache-2.0
"""Messages about files."""

from dataclasses import dataclass
from typing import Annotated

from ..fields import Matches, Within
from .base import CHUNK_LIMIT, ArtifactRef, Message, Sha256, Size, message


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
