# SPDX-License-Identifier: Apache-2.0
"""Answers what clients ask about files: in threads, what changes a file in its order, a bounded number at a time."""

import asyncio
import time
from collections import Counter, deque
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
    NameBlob,
    PlaceBlob,
    PutBlob,
    Refusal,
    StatBlob,
)

from .artifacts import Artifacts
from .failures import NotYours, QuotaExceeded, UnknownArtifact
from .uploads import Uploads

BLOB_TASKS = 16  # chunks being written or read at once, over all clients: 16 MiB of memory at most
MOST_UPLOADS = 50  # files that one client may have begun to send
UPLOAD_MEMORY_S = 600.0  # one that was not continued for so long no longer counts

BlobRequest = StatBlob | PutBlob | NameBlob | GetBlob | PlaceBlob | AdoptBlob | CheckBlob
Answer = Callable[[Message, bytes | None], None]
Chunks = deque[tuple[PutBlob, memoryview, Answer]]


class Blobs:
    """Takes requests about files and answers them later.

    Args:
        artifacts: the files.
        explain: makes an exception an answer.
    """

    def __init__(self, artifacts: Artifacts, explain: Callable[[Exception], ErrorInfo]) -> None:
        self._artifacts = artifacts
        self._uploads = Uploads(artifacts)
        self._explain = explain
        self._slots = asyncio.Semaphore(BLOB_TASKS)
        self._lanes: WeakValueDictionary[str, _Lane] = WeakValueDictionary()
        self._naming = asyncio.Lock()  # who names a file holds two lanes
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
        try:
            if isinstance(request, GetBlob):
                data = await asyncio.to_thread(self._artifacts.get, request.artifact, request.offset, request.length)
                answer(BlobData(request.artifact, request.offset), data)
                return
            lane = self._lane(request.artifact.sha256)
            self._check(user, trusted, request)
            if isinstance(request, PutBlob):
                lane.chunks.append((request, chunk, answer))
                async with lane.lock:  # asyncio's locks are fair: chunks are written in the order in which they came
                    if lane.chunks:  # else whoever had the lock before has stored ours too
                        await asyncio.to_thread(self._put, lane.chunks, asyncio.get_running_loop())
                return
            reply: BlobState | BlobPlace
            if isinstance(request, NameBlob):
                unnamed = self._lane(request.sent_as)
                async with self._naming, unnamed.lock, lane.lock:
                    reply = await asyncio.to_thread(self._uploads.name, request.sent_as, request.artifact)
            else:
                async with lane.lock:
                    reply = await asyncio.to_thread(self._store, request)
            if isinstance(reply, BlobState) and reply.complete:
                self._uploading.pop(request.artifact.sha256, None)
            answer(reply, None)
        except Exception as error:
            answer(Refusal(self._explain(error)), None)
        finally:
            self._slots.release()

    def _lane(self, sha256: str) -> "_Lane":
        return self._lanes.setdefault(sha256, _Lane())

    def _put(self, chunks: Chunks, loop: asyncio.AbstractEventLoop) -> None:
        """Store the chunks that wait: one walk to a thread for all of them."""
        for _ in range(len(chunks)):
            request, chunk, answer = chunks.popleft()
            reply: Message
            try:
                reply = self._uploads.put(request.artifact, request.offset, chunk)
            except Exception as error:
                reply = Refusal(self._explain(error))
            loop.call_soon_threadsafe(self._stored, reply, answer)

    def _stored(self, reply: Message, answer: Answer) -> None:
        if isinstance(reply, BlobState) and reply.complete:
            self._uploading.pop(reply.artifact.sha256, None)
        answer(reply, None)

    def _check(self, user: str, trusted: bool, request: BlobRequest) -> None:
        if isinstance(request, PlaceBlob | AdoptBlob) and not trusted:
            raise NotYours("Only the user who runs the server may reach its files.")
        if isinstance(request, NameBlob):
            begun_by, _ = self._uploading.get(request.sent_as, ("", 0.0))
            if begun_by != user or request.sent_as == request.artifact.sha256:
                raise UnknownArtifact(f"You have begun no other file as {request.sent_as[:12]}. Send it again.")
            del self._uploading[request.sent_as]
        if isinstance(request, PutBlob | PlaceBlob | NameBlob):
            now = time.monotonic()
            self._uploading = {sha: each for sha, each in self._uploading.items() if now - each[1] < UPLOAD_MEMORY_S}
            others = Counter(each[0] for sha, each in self._uploading.items() if sha != request.artifact.sha256)
            if others[user] >= MOST_UPLOADS:
                raise QuotaExceeded(f"{MOST_UPLOADS} of your files are on their way already. Let them arrive first.")
            self._uploading[request.artifact.sha256] = (user, now)

    def _store(self, request: StatBlob | PlaceBlob | AdoptBlob | CheckBlob) -> BlobState | BlobPlace:
        artifact = request.artifact
        match request:
            case CheckBlob():
                self._artifacts.check(artifact)
            case PlaceBlob():
                return self._uploads.place(artifact)
            case AdoptBlob():
                return self._uploads.adopt_placed(artifact, request.token)
        return self._uploads.stat(artifact)


class _Lane:
    """What waits for one file."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.chunks: Chunks = deque()
