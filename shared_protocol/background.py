# SPDX-License-Identifier: Apache-2.0
"""The client that Blender uses: every call returns at once, everything slow happens in threads, news waits in `poll`.

Four daemon threads: `link` owns the control connection (submit, events, cancel), `files` uploads and downloads over a
connection of its own so that a cancel never waits behind a file, `calls` runs the functions handed to `call`,
`questions` asks what the server has to think about.
"""

import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .client import Client
from .connection import Connection
from .errors import NotRunning
from .events import CallDone, CallFailed, Event, Inbox
from .job import Job
from .link import Link
from .messages import Estimate, Pictures


class TaskThread:
    """A daemon thread that runs one function after the other."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def add(self, task: Callable[[], None]) -> None:
        """Queue a function that handles its own errors."""
        self._tasks.put(task)

    def close(self, timeout_s: float) -> None:
        """Let the thread end after its present task."""
        self._tasks.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


class BackgroundClient:
    """Runs jobs on a server without ever making its caller wait.

    Args:
        connection: a server to use; None to find this user's server through the connection file at each connect.
        server_command: how to start one when none is running: `[*server_command, "server", "start"]`. None: never.
    """

    def __init__(self, connection: Connection | None = None, server_command: Sequence[str] | None = None) -> None:
        self._inbox = Inbox()
        self._calls = TaskThread("ex4d-calls")
        self._files = TaskThread("ex4d-files")
        self._questions = TaskThread("ex4d-questions")
        self._link = Link(connection, server_command, self._inbox, self._files.add)
        self._closed = False

    def connect(self) -> None:
        """Find or start the server. The answer is a Connected or a Disconnected event."""
        self._link.tell(self._link.connect)

    def run_job(
        self,
        kind: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Path],
        output_folder: Path,
        job_id: str | None = None,
        makes: Pictures | None = None,
    ) -> str:
        """Upload the inputs, run a job, fetch its outputs; connects first when needed.

        Args:
            kind: "reconstruct", "take", ...
            params: plain data.
            inputs: role -> file.
            output_folder: where the outputs go, each under its role's name, all at once when all have arrived.
            job_id: the id of an earlier call with the same arguments, to pick that job up again.
            makes: the pictures that it makes.

        Returns:
            The job's id, under which its JobProgress and its one JobDone, JobFailed or JobCancelled arrive.
        """
        job = Job(job_id or uuid.uuid4().hex, kind, dict(params), {}, Path(output_folder), makes)
        job.inputs.update({role: Path(path) for role, path in inputs.items()})
        self._link.tell(lambda: self._link.start(job))
        return job.job_id

    def cancel(self, job_id: str) -> None:
        """Stop a job; JobCancelled follows (or JobDone, when it came too late)."""
        self._link.tell(lambda: self._link.cancel(job_id))

    def call(self, function: Callable[..., Any], *args: Any) -> str:
        """Run a slow function (reading files) in a thread; CallDone or CallFailed carries the returned id."""
        return self._run(self._calls, lambda: function(*args))

    def estimate(self, makes: Pictures, params: Mapping[str, Any]) -> str:
        """Ask what a take would need; a CallDone with an Estimate, or a CallFailed, carries the returned id."""

        def ask() -> Estimate:
            connection = self._link.connection
            if connection is None:
                raise NotRunning("The server is not connected")
            with Client(connection, "ex4d question") as client:
                return client.estimate(makes, params)

        return self._run(self._questions, ask)

    def _run(self, thread: TaskThread, function: Callable[[], Any]) -> str:
        call_id = uuid.uuid4().hex

        def task() -> None:
            event: Event
            try:
                event = CallDone(call_id, function())
            except Exception as error:  # whatever it is, the caller asked to be told
                event = CallFailed(call_id, error)
            self._inbox.put(event)

        thread.add(task)
        return call_id

    def poll(self, budget_s: float = 0.02) -> list[Event]:
        """What happened since the last poll, oldest first; of a job's progress only the newest. Never waits."""
        return self._inbox.take(budget_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """End the threads. The server and its jobs go on."""
        if self._closed:
            return
        self._closed = True
        self._link.close(timeout_s)
        self._files.close(timeout_s)
        self._calls.close(0.1)  # a function that is still reading dies with the process
        self._questions.close(0.1)
