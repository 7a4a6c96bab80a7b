# SPDX-License-Identifier: Apache-2.0
"""Answers what clients ask about files: in threads, in order for each file, a bounded number at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from weakref import WeakValueDictionary

from shared_protocol.messages import (
    AdoptBlob,
    BlobData,
    BlobPlace,
    BlobState,
    CheckBlob,
    ErrorInfo,
    GetBlob,
    Message,
    PlaceBlob,
    PutBlob,
    Refusal,
    StatBlob,
)

from .artifacts import Artifacts
from .failures import NotYours, QuotaExceeded

BLOB_TASKS = 16  # chunks being written or read at once, over all clients: 16 MiB of memory at most
MOST_UPLOADS = 50  # files that one client may have begun to send
UPLOAD_MEMORY_S = 600.0  # one that was not continued for so long no longer counts

BlobRequest = StatBlob | PutBlob | GetBlob | PlaceBlob | AdoptBlob | CheckBlob
Answer = Callable[[Message, bytes | None], None]


class Blobs:
    """Takes requests about files and answers them later.

    Args:
        artifacts: the files.
        explain: makes an exception an answer.
    """

    def __init__(self, artifacts: Artifacts, explain: Callable[[Exception], ErrorInfo]) -> None:
        self._artifacts = artifacts
        self._explain = explain
        self._slots = asyncio.Semaphore(BLOB_TASKS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._uploading: dict[str, tuple[str, float]] = {}  # file -> its client, when the last chunk came

    async def take(self, user: str, trusted: bool, request: BlobRequest, chunk: memoryview, answer: Answer) -> None:
        """Accept a request; waits while too many are under way.

        Args:
            user: the client's key.
            trusted: whether it is the user who runs the server.
            request: what it wants.
            chunk: of the file, with PutBlob.
            answer: receives the answer.
        """
        await self._slots.acquire()
        task = asyncio.create_task(self._do(user, trusted, request, chunk, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, user: str, trusted: bool, request: BlobRequest, chunk: memoryview, answer: Answer) -> None:
        lock = self._locks.setdefault(request.artifact.sha256, asyncio.Lock())
        data: bytes | None = None
        try:
            async with lock:  # asyncio's locks are fair: chunks are written in the order in which they came
                reply: Message
                if isinstance(request, GetBlob):
                    arguments = (request.artifact, request.offset, request.length)
                    data = await asyncio.to_thread(self._artifacts.get, *arguments)
                    reply = BlobData(request.artifact, request.offset)
                else:
                    self._check(user, trusted, request)
                    reply = await asyncio.to_thread(self._store, request, chunk)
                if isinstance(reply, BlobState) and reply.complete:
                    self._uploading.pop(request.artifact.sha256, None)
        except Exception as error:
            reply, data = Refusal(self._explain(error)), None
        finally:
            self._slots.release()
        answer(reply, data)

    def _check(self, user: str, trusted: bool, request: BlobRequest) -> None:
        if isinstance(request, PlaceBlob | AdoptBlob) and not trusted:
            raise NotYours("Only the user who runs the server may reach its files.")
        if isinstance(request, PutBlob | PlaceBlob):
            now = time.monotonic()
            self._uploading = {sha: each for sha, each in self._uploading.items() if now - each[1] < UPLOAD_MEMORY_S}
            others = Counter(each[0] for sha, each in self._uploading.items() if sha != request.artifact.sha256)
            if others[user] >= MOST_UPLOADS:
                raise QuotaExceeded(f"{MOST_UPLOADS} of your files are on their way already. Let them arrive first.")
            self._uploading[request.artifact.sha256] = (user, now)

    def _store(
        self, request: StatBlob | PutBlob | PlaceBlob | AdoptBlob | CheckBlob, chunk: memoryview
    ) -> BlobState | BlobPlace:
        artifact = request.artifact
        match request:
            case StatBlob():
                return self._artifacts.stat(artifact)
            case CheckBlob():
                return self._artifacts.check(artifact)
            case PlaceBlob():
                return self._artifacts.place(artifact)
            case AdoptBlob():
                return self._artifacts.adopt_placed(artifact, request.token)
        return self._artifacts.put(artifact, request.offset, chunk)
