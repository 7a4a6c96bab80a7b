# SPDX-License-Identifier: Apache-2.0
"""One connection to the server, used from one thread. Requests wait for their reply; events queue up meanwhile.

A client lives as long as its connection: when that breaks, every call raises, and a new client is made from the
connection file, because a restarted server has another port.
"""

import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import transfer
from .connection import Connection
from .errors import (
    BadConnectionFile,
    LinkError,
    NotPaired,
    NotRunning,
    RemoteError,
    ServerLost,
    TimedOut,
    VersionMismatch,
    WrongServerKey,
)
from .messages import (
    PROTOCOL_VERSION,
    ArtifactRef,
    AskEstimate,
    AskJobs,
    AskLog,
    AskMetrics,
    AskStatus,
    CancelJob,
    Estimate,
    Hello,
    InputRef,
    JobEvent,
    JobList,
    JobProgress,
    JobStatus,
    JobSummary,
    LogText,
    Message,
    MetricValues,
    Pictures,
    PrioritiseJob,
    Refusal,
    ServerState,
    StopServer,
    SubmitJob,
    SubscribeJob,
    Welcome,
)
from .transfer import TransferProgress
from .wire import FRAME_LIMIT, check_frames, decode, encode

Reply = TypeVar("Reply", bound=Message)
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000  # a stopped peer is noticed within 4 s (measured)
_CLOSING_EVENTS = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED


class Client:
    """A connection to a server. Making one never blocks; `hello` finds out whether somebody is there."""

    def __init__(self, connection: Connection, name: str = "ex4d", timeout_s: float = 30.0) -> None:
        self.connection = connection
        self.timeout_s = timeout_s  # generous: the last chunk's reply waits until a big file is hashed
        self._name = name
        self._next_rid = 1
        self._waiting: set[int] = set()
        self._replies: dict[int, tuple[Message, memoryview]] = {}
        self._events: deque[JobEvent | JobProgress] = deque()
        self._lost: LinkError | None = None
        self._shaken_hands = False
        self._server_speaks: tuple[int, int] | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket()
        try:
            self._open(connection)
        except (zmq.ZMQError, ValueError) as error:  # not an endpoint, not a key
            self.close()
            raise BadConnectionFile(f"{connection.endpoint!r} and its keys make no connection: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back sockets and threads. Safe to call twice."""
        if self._context.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self._context.term()

    # Requests

    def hello(self, timeout_s: float = 5.0) -> Welcome:
        """Introduce ourselves.

        Raises:
            NotRunning, NotPaired, WrongServerKey, TimedOut: nobody answers, for the reason that the type tells.
            VersionMismatch: the server speaks another major version.
        """
        welcome = self.request(Hello(PROTOCOL_VERSION, self._name), Welcome, timeout_s)
        if welcome.proto[0] != PROTOCOL_VERSION[0]:
            older = "server" if welcome.proto[0] < PROTOCOL_VERSION[0] else "add-on"
            raise VersionMismatch(
                f"The server speaks protocol {welcome.proto[0]}, this add-on {PROTOCOL_VERSION[0]}",
                hint=f"Update the {older}.",
            )
        self._server_speaks = welcome.proto
        return welcome

    def server_speaks(self, version: tuple[int, int]) -> bool:
        """Whether the server knows what came with a version of the protocol."""
        return (self._server_speaks or self.hello().proto) >= version

    def submit(
        self,
        job_id: str,
        kind: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, tuple[ArtifactRef, str]],
        priority: int = 0,
        fresh: bool = False,
        makes: Pictures | None = None,
    ) -> JobStatus:
        """Queue a job; harmless to repeat.

        Args:
            job_id: uuid4().hex, made by the caller.
            kind: what to do.
            params: plain data, at most 64 KiB.
            inputs: role -> (uploaded artifact, file name).
            priority: higher ones run first.
            fresh: do it even when the result of the same request is known.
            makes: the pictures that it makes, so that the server learns how long such jobs take.
        """
        refs = tuple(InputRef(role, artifact, name) for role, (artifact, name) in sorted(inputs.items()))
        return self.request(SubmitJob(job_id, kind, dict(params), refs, priority, fresh, makes), JobStatus)

    def estimate(self, makes: Pictures, params: Mapping[str, Any]) -> Estimate:
        """What a take would need on this server."""
        return self.request(AskEstimate(makes, dict(params)), Estimate)

    def subscribe(self, job_id: str, after_seq: int = 0) -> JobStatus:
        """Have the job's events after `after_seq`, and all new ones, arrive in `poll`."""
        return self.request(SubscribeJob(job_id, after_seq), JobStatus)

    def cancel(self, job_id: str) -> JobStatus:
        """Ask for a job to be stopped; its end arrives as an event."""
        return self.request(CancelJob(job_id), JobStatus)

    def prioritise(self, job_id: str, priority: int) -> JobStatus:
        """Put a waiting job before or behind others."""
        return self.request(PrioritiseJob(job_id, priority), JobStatus)

    def jobs(self, limit: int = 100) -> tuple[JobSummary, ...]:
        """The jobs that run, those that wait in their order, those that ended last."""
        return self.request(AskJobs(limit), JobList).jobs

    def log(self, job_id: str, lines: int = 100) -> str:
        """The last lines of a job's log."""
        return self.request(AskLog(job_id, lines), LogText).text

    def status(self) -> ServerState:
        """How the server is."""
        return self.request(AskStatus(), ServerState)

    def metrics(self) -> dict[str, Any]:
        """Numbers about what the server does and holds."""
        return self.request(AskMetrics(), MetricValues).values

    def stop_server(self, drain: bool = False) -> ServerState:
        """End the server; it answers first. With `drain` it ends when what runs has ended."""
        return self.request(StopServer(drain), ServerState)

    def upload(self, path: Path, progress: TransferProgress | None = None) -> ArtifactRef:
        """Send a file; see `transfer.upload`."""
        return transfer.upload(self, path, progress)

    def download(self, artifact: ArtifactRef, path: Path, progress: TransferProgress | None = None) -> None:
        """Fetch a file; see `transfer.download`."""
        transfer.download(self, artifact, path, progress)

    def poll(self, timeout_s: float, wake: socket.socket | None = None) -> list[JobEvent | JobProgress]:
        """Events that arrived, waiting for the first one at most `timeout_s` or until `wake` is readable."""
        if not self._events:
            self._pump(timeout_s, wake)
        events = list(self._events)
        self._events.clear()
        return events

    # Underneath

    def request(self, message: Message, reply_type: type[Reply], timeout_s: float | None = None) -> Reply:
        """Send a request and wait for its reply."""
        reply, _binary = self.receive(self.send(message), reply_type, timeout_s)
        return reply

    def send(self, message: Message, binary: bytes | memoryview | None = None) -> int:
        """Send a request without waiting; the number finds its reply."""
        if self._lost:
            raise self._lost
        rid = self._next_rid
        self._next_rid += 1
        frames = [encode(message, rid)] + ([] if binary is None else [binary])
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                self._socket.send_multipart(frames, flags=zmq.DONTWAIT, copy=False)
            except zmq.Again as error:  # the queue is full, or the connection broke: the monitor tells
                if time.monotonic() > deadline:
                    raise TimedOut(f"The server at {self.connection.endpoint} does not take any more data") from error
                self._pump(self.timeout_s, room=True)
            else:
                self._waiting.add(rid)
                return rid

    def receive(self, rid: int, reply_type: type[Reply], timeout_s: float | None = None) -> tuple[Reply, memoryview]:
        """Wait for the reply to a request.

        Raises:
            RemoteError: the server refused.
            ServerLost, TimedOut and what `hello` lists.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while rid not in self._replies:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._waiting.discard(rid)
                raise TimedOut(f"The server at {self.connection.endpoint} did not answer within {timeout_s:g} s")
            self._pump(left_s)
        reply, binary = self._replies.pop(rid)
        if isinstance(reply, Refusal):
            error = reply.error
            raise RemoteError(error.code, error.title, error.hint, error.detail)
        if not isinstance(reply, reply_type):
            raise LinkError(f"Expected a {reply_type.type_name} from the server, got a {reply.type_name}")
        return reply, binary

    def forget(self, rids: list[int]) -> None:
        """Drop the replies to these requests when they arrive."""
        for rid in rids:
            self._waiting.discard(rid)
            self._replies.pop(rid, None)

    def _open(self, connection: Connection) -> None:
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RECONNECT_IVL, -1),  # a broken connection is told, not mended behind our back
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
            (zmq.MAXMSGSIZE, FRAME_LIMIT),
        ):
            self._socket.setsockopt(option, value)
        if "[" in connection.endpoint:
            self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.curve_serverkey = connection.server_key.encode("ascii")
        self._socket.curve_publickey = connection.client_key.encode("ascii")
        self._socket.curve_secretkey = connection.client_secret.encode("ascii")
        self._socket.connect(connection.endpoint)

    def _pump(self, timeout_s: float, wake: socket.socket | None = None, room: bool = False) -> None:
        """Wait for something to arrive (or for room to send) and sort it in.

        What arrived before a connection broke still counts; after that, the reason is raised.
        """
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN | zmq.POLLOUT if room else zmq.POLLIN)
        if not self._lost:
            poller.register(self._monitor, zmq.POLLIN)
        if wake is not None:
            poller.register(wake, zmq.POLLIN)
        ready = dict(poller.poll(0 if self._lost else max(1, int(timeout_s * 1000))))
        arrived = False
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._sort([frame.buffer for frame in self._socket.recv_multipart(copy=False)])
            arrived = True
        if self._monitor in ready:
            self._read_monitor()
        elif self._lost and not arrived:
            raise self._lost

    def _sort(self, frames: list[memoryview]) -> None:
        check_frames([len(frame) for frame in frames])
        rid, message = decode(bytes(frames[0]))
        if isinstance(message, JobProgress) and len(frames) == 2:
            message = replace(message, preview=bytes(frames[1]))
        if isinstance(message, JobEvent | JobProgress):
            self._events.append(message)
        elif rid in self._waiting:
            self._waiting.discard(rid)
            self._replies[rid] = (message, frames[1] if len(frames) == 2 else memoryview(b""))

    def _read_monitor(self) -> None:
        while int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(self._monitor)["event"]
            where = self.connection.endpoint
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._shaken_hands = True
            elif self._lost:
                continue  # the first reason is the true one
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._lost = NotPaired(f"The server at {where} does not know this client's key")
            elif event & (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                self._lost = WrongServerKey(f"What answers at {where} is not the server of the connection file")
            elif event & _CLOSING_EVENTS and self._shaken_hands:
                self._lost = ServerLost(f"The connection to the server at {where} broke")
            elif event & _CLOSING_EVENTS:
                self._lost = NotRunning(f"No EX-4D server is running at {where}")
