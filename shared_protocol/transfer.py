# SPDX-License-Identifier: Apache-2.0
"""Files over a connection: 1 MiB chunks, four under way, resumed where they stopped, checked by sha256.

A client that can reach the server's folder on a disk copies instead; see `same_machine`.
"""

import contextlib
import hashlib
import secrets
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from . import same_machine
from .errors import LocalStorage, RemoteError, Stopped, TransferFailed
from .messages import (
    CHUNK_LIMIT,
    WINDOW,
    ArtifactRef,
    BlobData,
    BlobState,
    CheckBlob,
    GetBlob,
    NameBlob,
    PutBlob,
    StatBlob,
)
from .pieces import pieces, write_all

if TYPE_CHECKING:
    from .client import Client

TransferProgress = Callable[[int, int], None]
"""Receives (bytes done, bytes in all). It may raise to stop the transfer; what was stored is kept for a resume."""

EARLY_BYTES = 32 * 1024 * 1024  # from here on sending begins before the file's hash is known
MAX_REWINDS = 20  # another client sending the same file at the same time costs a few; more is a defect


def file_reference(path: Path, progress: TransferProgress | None = None) -> ArtifactRef:
    """Hash a file.

    Raises:
        LocalStorage: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        total = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            for piece in pieces(file):
                digest.update(piece)
                size += len(piece)
                if progress:
                    progress(0, max(size, total))  # nothing is sent yet; gives the caller its chance to stop us
    except OSError as error:
        raise LocalStorage(f"{path.name} cannot be read: {error.strerror or error}", detail=str(path)) from error
    return ArtifactRef(digest.hexdigest(), size)


def upload(client: "Client", path: Path, progress: TransferProgress | None = None) -> ArtifactRef:
    """Send a file; what the server already has is not sent again.

    Raises:
        LocalStorage: the file cannot be read.
        TransferFailed: it changed while it was sent.
        RemoteError: the server could not store it.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            early = size >= EARLY_BYTES and not same_machine.likely(client, size) and client.server_speaks((1, 9))
            if early:
                artifact, state = _upload_early(client, path, file, size, progress)
            else:
                artifact = file_reference(path, progress)
                state = client.request(StatBlob(artifact), BlobState)
            if not state.complete:
                state = same_machine.upload(client, path, artifact, progress) or state
            rewinds = 0
            while not state.complete:
                if rewinds > MAX_REWINDS:
                    raise TransferFailed(f"The server did not accept {path.name} in order")
                state = _upload_from(client, artifact, file, state.offset, progress)
                rewinds += 1
    except OSError as error:
        raise LocalStorage(f"{path.name} cannot be read: {error.strerror or error}", detail=str(path)) from error
    if progress:
        progress(artifact.size, artifact.size)
    return artifact


def _upload_early(
    client: "Client", path: Path, file: BufferedReader, size: int, progress: TransferProgress | None
) -> tuple[ArtifactRef, BlobState]:
    """Send under a made-up name while the file is being hashed; returns what it is, and how much the server has."""
    stop = threading.Event()

    def go_on(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped("The upload was stopped")

    with ThreadPoolExecutor(1, "ex4d-hash") as thread:
        hashing = thread.submit(file_reference, path, go_on)
        try:
            unnamed = ArtifactRef(secrets.token_hex(32), size)
            _upload_from(client, unnamed, file, 0, progress, lambda end: end < size and not hashing.done())
            artifact = hashing.result()
        finally:
            stop.set()
    if artifact.size != size:
        raise TransferFailed(f"{path.name} changed while it was sent")
    return artifact, client.request(NameBlob(unnamed.sha256, artifact), BlobState)


def _upload_from(
    client: "Client",
    artifact: ArtifactRef,
    file: BufferedReader,
    offset: int,
    progress: TransferProgress | None,
    wanted: Callable[[int], bool] = lambda end: True,
) -> BlobState:
    """Send chunks from an offset until all are stored, or until the server says that it is elsewhere.

    Args:
        wanted: whether to send another chunk, which ends there; the last one has to be, unless a name follows.
    """
    file.seek(offset)
    buffers = [memoryview(bytearray(min(CHUNK_LIMIT, artifact.size))) for _ in range(WINDOW)]
    under_way: deque[tuple[int, int]] = deque()  # request number, offset that its reply should tell
    first = True
    state = BlobState(artifact, offset, False)
    try:
        while True:
            while len(under_way) < WINDOW and (offset < artifact.size or first):  # an empty file is one empty chunk
                length = min(CHUNK_LIMIT, artifact.size - offset)
                if not wanted(offset + length):
                    break
                chunk = buffers[0][:length]
                if file.readinto(chunk) < length:
                    raise TransferFailed("The file became shorter while it was sent")
                rid = client.send(PutBlob(artifact, offset), chunk)
                buffers.append(buffers.pop(0))  # its turn comes again when the server has answered
                offset += length
                under_way.append((rid, offset))
                first = False
            if not under_way:
                return state
            rid, expected = under_way.popleft()
            state, _ = client.receive(rid, BlobState, client.timeout_s + artifact.size / same_machine.HASHING_BYTES_S)
            if progress:
                progress(min(state.offset, artifact.size), artifact.size)
            if state.complete or state.offset != expected:
                while under_way:
                    state, _ = client.receive(under_way.popleft()[0], BlobState)
                return state
    finally:
        client.forget([rid for rid, _ in under_way])


def download(client: "Client", artifact: ArtifactRef, path: Path, progress: TransferProgress | None = None) -> None:
    """Fetch a file under a temporary name (`.part`, kept for a resume), check it and rename it.

    Raises:
        LocalStorage: the file cannot be written.
        TransferFailed: what arrived is not what was promised.
        RemoteError: the server does not have it.
    """
    part = path.with_name(f"{path.name}.{artifact.sha256[:16]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrived = same_machine.download(client, artifact, part, progress) or _download(client, artifact, part, progress)
        if arrived != artifact:
            part.unlink()
            _have_checked(client, artifact)
            raise TransferFailed(f"{path.name} arrived damaged", hint="Try again: the server has checked its copy.")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()  # a full disk needs the space back more than we need the resume
        raise LocalStorage(f"{path.name} cannot be written: {error.strerror or error}", detail=str(path)) from error


def _have_checked(client: "Client", artifact: ArtifactRef) -> None:
    """Have the server drop the file if it is its copy that is damaged; the job that made it then runs again."""
    with contextlib.suppress(RemoteError):  # an older server
        client.request(CheckBlob(artifact), BlobState, client.timeout_s + artifact.size / same_machine.HASHING_BYTES_S)


def _download(client: "Client", artifact: ArtifactRef, part: Path, progress: TransferProgress | None) -> ArtifactRef:
    """Fetch what is missing of a file in chunks; returns what lies there then."""
    digest = hashlib.sha256()
    with part.open("ab", buffering=0) as file:
        offset = file.tell()
        if offset > artifact.size:
            file.truncate(0)
            offset = 0

        def keep(chunk: memoryview) -> None:
            write_all(file, chunk)
            digest.update(chunk)

        with ThreadPoolExecutor(1, "ex4d-arrivals") as thread:  # which leaves ours free to ask for more
            _download_from(client, artifact, offset, lambda chunk: thread.submit(keep, chunk), progress)
    return file_reference(part) if offset else ArtifactRef(digest.hexdigest(), part.stat().st_size)


def _download_from(
    client: "Client",
    artifact: ArtifactRef,
    offset: int,
    keep: Callable[[memoryview], Future[None]],
    progress: TransferProgress | None,
) -> None:
    under_way: deque[tuple[int, int]] = deque()  # request number, length
    arrived: deque[Future[None]] = deque()
    done = offset
    try:
        while done < artifact.size:
            while len(under_way) < WINDOW and offset < artifact.size:
                length = min(CHUNK_LIMIT, artifact.size - offset)
                under_way.append((client.send(GetBlob(artifact, offset, length)), length))
                offset += length
            rid, length = under_way.popleft()
            data, chunk = client.receive(rid, BlobData)
            if data.offset != done or len(chunk) != length:
                raise TransferFailed(f"Expected {length} bytes at {done}, got {len(chunk)} at {data.offset}")
            arrived.append(keep(chunk))
            if len(arrived) > WINDOW:
                arrived.popleft().result()
            done += length
            if progress:
                progress(done, artifact.size)
        for each in arrived:
            each.result()
    finally:
        client.forget([rid for rid, _ in under_way])
