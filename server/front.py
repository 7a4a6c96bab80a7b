# SPDX-License-Identifier: Apache-2.0
"""The server's one socket: checks what arrives, answers it, and pushes events to those who subscribed.

Small requests are answered in the loop, those about files in threads (`blobs.py`): a cancel never waits behind a
transfer.
"""

import asyncio
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import zmq
import zmq.asyncio

from ex4d.errors import Ex4dError
from shared_protocol.errors import LinkError, NotPaired
from shared_protocol.messages import (
    PROTOCOL_VERSION,
    AddClient,
    AskClients,
    AskEstimate,
    AskJobs,
    AskLog,
    AskMetrics,
    AskStatus,
    BeginPairing,
    CancelJob,
    ClientList,
    ErrorInfo,
    Estimate,
    Hello,
    JobEvent,
    JobList,
    JobProgress,
    JoinServer,
    LogText,
    Message,
    MetricValues,
    PairingCode,
    PrioritiseJob,
    Refusal,
    RemoveClient,
    ServerState,
    StopServer,
    SubmitJob,
    SubscribeJob,
    Welcome,
)
from shared_protocol.wire import FRAME_LIMIT, check_frames, decode, encode, request_number, unpack

from .artifacts import Artifacts
from .blobs import BlobRequest, Blobs
from .clients import Clients
from .estimates import Estimator
from .failures import NotYours, error_info, from_exception
from .jobs import JobQueue
from .listening import Listening
from .metrics import Metrics
from .runtime import VERSION, Home, Keys
from .state import server_state

T = TypeVar("T")
HIGH_WATER = 128  # messages that may wait for one peer; a transfer has four under way
MAX_SOCKETS = 512
HANDSHAKE_MS = 5000
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 5000


class Front:
    """Talks to the clients. `queue` and what follows are set once before `serve`: the parts need each other."""

    queue: JobQueue
    metrics: Metrics
    estimator: Estimator

    def __init__(
        self,
        home: Home,
        keys: Keys,
        clients: Clients,
        boot_id: str,
        artifacts: Artifacts,
        context: zmq.asyncio.Context,
        listen: str | None = None,
    ) -> None:
        self.boot_id = boot_id
        self.stopping = asyncio.Event()
        self._home = home
        self._server_key = keys.server_key
        self._clients = clients
        self._draining: asyncio.Task[None] | None = None
        self._started = time.monotonic()
        self._log = logging.getLogger("ex4d.server")
        self._listeners: dict[str, dict[bytes, str]] = defaultdict(dict)  # job -> connection -> its client's key
        self._tasks: set[asyncio.Task[None]] = set()
        self._blobs = Blobs(artifacts, self._explain)
        self._socket = context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 200),  # ms: the answer to `stop` should still leave
            (zmq.ROUTER_MANDATORY, 1),  # or messages to a full or gone peer vanish without a word
            (zmq.MAXMSGSIZE, FRAME_LIMIT),
            (zmq.SNDHWM, HIGH_WATER),
            (zmq.RCVHWM, HIGH_WATER),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
            (zmq.CURVE_SERVER, 1),
        ):
            self._socket.setsockopt(option, value)
        self._socket.curve_secretkey = keys.server_secret.encode("ascii")
        self._socket.curve_publickey = keys.server_key.encode("ascii")
        self.listening = Listening(self._socket, clients, listen)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    async def serve(self) -> None:
        """Answer requests for ever."""
        while True:
            identity, *frames = await self._socket.recv_multipart(copy=False)
            user = str(identity.get("User-Id"))  # the client's key, which the handshake has proved
            await self._receive(identity.bytes, user, [frame.buffer for frame in frames])

    def publish(self, message: JobEvent | JobProgress) -> None:
        """Push to everybody who follows the job.

        Who cannot keep up misses progress; who would miss an event is dropped, and subscribes again.
        """
        listeners = self._listeners.get(message.job_id, {})
        frames = _pushed(message) if listeners else []
        for identity, user in list(listeners.items()):
            heard = self._clients.allows(user) and self._send_frames(identity, frames)
            if not heard and isinstance(message, JobEvent):
                del listeners[identity]
        if isinstance(message, JobEvent) and message.name in ("done", "failed", "cancelled"):
            self._listeners.pop(message.job_id, None)

    async def _receive(self, identity: bytes, user: str, frames: list[memoryview]) -> None:
        rid = 0
        try:
            check_frames([len(frame) for frame in frames])
            header = bytes(frames[0])
            with suppress(LinkError):
                rid = request_number(unpack(header))  # so that a refusal finds its request
            rid, message = decode(header)
            if not self._clients.allows(user) and not isinstance(message, Hello | JoinServer):
                raise NotPaired("This server does not know this client's key")
            chunk = frames[1] if len(frames) == 2 else memoryview(b"")  # not copied: it is written from where it is
            if isinstance(message, BlobRequest):

                def answer(reply: Message, data: bytes | None) -> None:
                    self._send(identity, rid, reply, data)

                await self._blobs.take(user, user == self._clients.admin_key, message, chunk, answer)
            elif isinstance(message, AskMetrics | AskEstimate):
                task = asyncio.create_task(self._answer_slowly(identity, rid, message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._send(identity, rid, self._answer(user, message))
                if isinstance(message, SubscribeJob):
                    self._replay(identity, user, message)
        except Exception as error:
            self._send(identity, rid, Refusal(self._explain(error)))

    def _answer(self, user: str, message: Message) -> Message:
        owner = None if user == self._clients.admin_key else user  # who runs the server may stop and move every job
        match message:
            case Hello():
                self._log.info("client %s speaks protocol %s", message.client, message.proto)
                return Welcome(PROTOCOL_VERSION, VERSION, self.boot_id)
            case SubmitJob():
                return self.queue.submit(message, user)
            case SubscribeJob():
                return self.queue.status(message.job_id)
            case CancelJob():
                return self.queue.cancel(message.job_id, owner)
            case PrioritiseJob():
                return self.queue.prioritise(message.job_id, message.priority, owner)
            case AskJobs():
                return JobList(tuple(self.queue.summaries(message.limit, user)))
            case AskLog():
                return LogText(message.job_id, self.queue.log(message.job_id, message.lines, owner))
            case AskStatus():
                return self._state()
            case StopServer():
                if owner is not None:
                    raise NotYours("Only the user who runs the server may stop it.")
                self._stop(message.drain)
                return self._state()
            case JoinServer():
                return self._changed_clients(lambda: self._clients.join(message.code, user, message.name))
            case BeginPairing() | AskClients() | AddClient() | RemoveClient() if owner is not None:
                raise NotYours("Only the user who runs the server decides who may connect.")
            case BeginPairing():
                return self._begin_pairing(message.lifetime_s)
            case AddClient():
                return self._changed_clients(lambda: self._clients.add(message.key, message.name))
            case RemoveClient():
                self._changed_clients(lambda: self._clients.remove(message.name))
                return self._client_list()
            case AskClients():
                return self._client_list()
            case _:
                raise LinkError(f"{message.type_name} is an answer, not a request")

    def _stop(self, drain: bool) -> None:
        if not drain:
            self.stopping.set()
        elif self._draining is None:
            self.queue.draining = True

            async def stop_when_drained() -> None:
                await self.queue.idle()
                self.stopping.set()

            self._draining = asyncio.create_task(stop_when_drained())

    async def _answer_slowly(self, identity: bytes, rid: int, message: AskMetrics | AskEstimate) -> None:
        """Answer what takes longer than others should wait."""
        try:
            reply: Message = await (self._metrics() if isinstance(message, AskMetrics) else self._estimate(message))
        except Exception as error:
            reply = Refusal(self._explain(error))
        self._send(identity, rid, reply)

    async def _metrics(self) -> MetricValues:
        values = {**self.metrics.of_jobs(), "uptime_s": round(time.monotonic() - self._started, 1)}
        return MetricValues(values | await asyncio.to_thread(self.metrics.of_machine))

    async def _estimate(self, asked: AskEstimate) -> Estimate:
        return await self.estimator.estimate(asked, self.queue.queued + len(self.queue.attempts))

    def _begin_pairing(self, lifetime_s: float) -> PairingCode:
        code = self._clients.begin_pairing(lifetime_s)
        self._changed_clients(lambda: None)
        asyncio.get_running_loop().call_later(lifetime_s + 0.1, self._changed_clients, lambda: None)
        return PairingCode(code, self.listening.address or self.listening.local, self._server_key)

    def _changed_clients(self, change: Callable[[], T]) -> T:
        try:
            return change()
        finally:  # a wrong code may have been one too many
            self.listening.adjust()

    def _client_list(self) -> ClientList:
        listens = (self.listening.local, *([self.listening.address or ""] if self.listening.open else []))
        return ClientList(self._clients.known, listens)

    def _replay(self, identity: bytes, user: str, message: SubscribeJob) -> None:
        for missed in self.queue.replay(message.job_id, message.after_seq):
            if not self._send_frames(identity, _pushed(missed)):
                return
        if self.queue.status(message.job_id).state in ("queued", "running"):
            self._listeners[message.job_id][identity] = user

    def _send(self, identity: bytes, rid: int, message: Message, binary: bytes | None = None) -> bool:
        return self._send_frames(identity, [encode(message, rid), *([] if binary is None else [binary])])

    def _send_frames(self, identity: bytes, frames: list[bytes]) -> bool:
        """Send without waiting; False when the peer is gone or does not read."""
        # With DONTWAIT the future is done already.
        sent: Any = self._socket.send_multipart([identity, *frames], flags=zmq.DONTWAIT, copy=False)
        error = sent.exception()
        if error is not None and not isinstance(error, zmq.ZMQError):
            raise error
        return error is None

    def _explain(self, error: Exception) -> ErrorInfo:
        """An exception as an answer to the client."""
        if isinstance(error, Ex4dError):
            return from_exception(error)
        if isinstance(error, LinkError):
            return error_info(error.code if error.code != "link" else "bad_message", error.title, error.detail)
        if isinstance(error, sqlite3.OperationalError | OSError):
            self._log.error("storage: %s", error)
            return error_info("storage", f"The server cannot write to its folder: {error}", f"log: {self._home.log}")
        self._log.error("while answering a client", exc_info=error)
        return error_info("internal", f"{type(error).__name__}: {error}", f"log: {self._home.log}")

    def _state(self) -> ServerState:
        return server_state(self.queue, self._home, self.boot_id, time.monotonic() - self._started)


def _pushed(message: JobEvent | JobProgress) -> list[bytes]:
    """The frames of what nobody asked for."""
    preview = message.preview if isinstance(message, JobProgress) else None
    return [encode(message), *([] if preview is None else [preview])]
