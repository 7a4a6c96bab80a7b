# SPDX-License-Identifier: Apache-2.0
"""The short way for files between a server and a client of the same user on the same machine: a copy on the disk.

The server names a path in its private folder. Whoever can read the token there, or the file itself, is on that machine
and is that user; everybody else sends and fetches chunks. Everything is still checked by its sha256.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RemoteError
from .messages import AdoptBlob, ArtifactRef, BlobPlace, BlobState, PlaceBlob
from .pieces import pieces, write_all

if TYPE_CHECKING:
    from .client import Client
    from .transfer import TransferProgress

LEAST_BYTES = 4 * 1024 * 1024  # below this, chunks are as fast
LOOPBACK = ("tcp://127.0.0.1:", "tcp://localhost:", "tcp://[::1]:")
HASHING_BYTES_S = 100e6  # at least so fast does a server hash a file before it answers


def likely(client: "Client", size: int) -> bool:
    """Whether it is worth asking the server for a place."""
    return size >= LEAST_BYTES and client.connection.endpoint.startswith(LOOPBACK)


def upload(
    client: "Client", path: Path, artifact: ArtifactRef, progress: "TransferProgress | None"
) -> BlobState | None:
    """Put a file into the server's folder.

    Returns:
        The server's word on it; None when this is not the way: another machine, user or older server.
    """
    place = _place(client, artifact)
    if place is None or place.complete:
        return None
    target = Path(place.path)
    try:
        if target.read_text(encoding="ascii") != place.token:
            return None
        _copy(path, target, artifact.size, progress, lambda piece: None)  # the server hashes it anyway
    except (OSError, ValueError):
        return None  # chunks say what is wrong, if something is
    timeout_s = client.timeout_s + artifact.size / HASHING_BYTES_S
    return client.request(AdoptBlob(artifact, place.token), BlobState, timeout_s)


def download(
    client: "Client", artifact: ArtifactRef, part: Path, progress: "TransferProgress | None"
) -> ArtifactRef | None:
    """Copy a file from the server's folder.

    Returns:
        What lies there then; None when this is not the way.
    """
    place = _place(client, artifact)
    if place is None or not place.complete:
        return None
    try:
        digest = hashlib.sha256()
        _copy(Path(place.path), part, artifact.size, progress, digest.update)
        return ArtifactRef(digest.hexdigest(), part.stat().st_size)
    except OSError:
        return None


def _place(client: "Client", artifact: ArtifactRef) -> BlobPlace | None:
    if not likely(client, artifact.size):
        return None
    try:
        return client.request(PlaceBlob(artifact), BlobPlace)
    except RemoteError:  # an older server, or one that does not trust us so far
        return None


def _copy(
    source: Path, target: Path, size: int, progress: "TransferProgress | None", see: Callable[[memoryview], object]
) -> None:
    """Copy a file; `see` gets every piece of it."""
    done = 0
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        for piece in pieces(reader):
            write_all(writer, piece)
            see(piece)
            done += len(piece)
            if progress:
                progress(min(done, size), size)
