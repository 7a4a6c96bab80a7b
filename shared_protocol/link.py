# SPDX-License-Identifier: Apache-2.0
"""The thread behind the background client: keeps the connection, follows the jobs, mends both after a restart.

All methods without an underscore but `tell` and `close` run in the link's own thread; others reach them through `tell`.
"""

import threading
import time
from collections.abc import Callable, Sequence

from . import messages
from .client import Client
from .connection import Connection, connection_path, read_connection
from .errors import (
    BadConnectionFile,
    BadMessage,
    LinkError,
    NotRunning,
    RemoteError,
    Stopped,
    TimedOut,
    WrongServerKey,
    as_link_error,
)
from .events import Connected, Disconnected, Inbox, JobCancelled, JobDone, JobFailed, JobProgress
from .job import CONNECTION_TROUBLE, Job, Report, download_outputs, failure, transfer, upload_inputs
from .launch import start_server
from .mailbox import Mailbox

IDLE_S = 1.0  # how long the thread sleeps when nobody wakes it
RETRY_S = (0.2, 0.5, 1.0)  # waits between attempts to reach a server that was lost; the last one repeats
HELLO_S, HELLO_AGAIN_S = 5.0, 2.0  # for the server's first words: at the start, and in each such attempt
QUIET_S = 20.0  # nothing heard for so long: subscribe again, in case the server dropped us as too slow a reader
GIVE_UP_S = 60.0  # then the jobs that wait for it fail, and say so
GIVE_UP_FAR_S = 900.0  # the same for a server on another machine: cables are plugged in again, that server goes on
TRANSFER_TRIES = 5  # for a file connection that breaks while the control connection lives


class Link:
    """One connection, its jobs, and the thread that looks after them."""

    def __init__(
        self,
        connection: Connection | None,
        server_command: Sequence[str] | None,
        inbox: Inbox,
        add_file_task: Callable[[Callable[[], None]], None],
    ) -> None:
        self._given = connection
        self._server_command = server_command
        self._inbox = inbox
        self._add_file_task = add_file_task
        self._client: Client | None = None
        self._version = ""
        self._jobs: dict[str, Job] = {}
        self._lost_since: float | None = None
        self._next_try = 0.0
        self._heard_at = 0.0
        self._tries = 0
        self._stop = threading.Event()
        self._mailbox = Mailbox()
        self._thread = threading.Thread(target=self._work, name="ex4d-link", daemon=True)
        self._thread.start()

    # From any thread

    def tell(self, command: Callable[[], None]) -> None:
        """Run a function in the link's thread, soon."""
        self._mailbox.put(command)

    def close(self, timeout_s: float) -> None:
        """End the thread and the connection."""
        self._stop.set()
        self.tell(lambda: None)
        self._thread.join(timeout_s)

    @property
    def connection(self) -> Connection | None:
        """To the server that answers at present; for further connections. From any thread."""
        client = self._client
        return client.connection if client is not None else None

    # In the link's thread

    def connect(self) -> None:
        """Reach the server, starting one if there is none and we know how."""
        if self._client is not None:
            self._inbox.put(Connected(self._client.connection.endpoint, self._version))
            return
        try:
            self._reach(may_start=True)
        except LinkError as error:
            self._inbox.put(Disconnected(error.code, error.title, error.hint))
            if self._lost_since is None:  # else we keep trying, and the jobs keep waiting
                self._fail_all(error)
        else:
            self._resume()

    def start(self, job: Job) -> None:
        """Begin a job, or pick it up again."""
        if job.job_id in self._jobs:
            return
        self._jobs[job.job_id] = job
        if self._client is None and self._lost_since is None:
            self.connect()
        self._advance(job)

    def cancel(self, job_id: str) -> None:
        """Stop a job wherever it is."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.cancelled.set()
        if job.transferring:
            return  # the transfer sees the flag at its next chunk
        if not job.submitted:
            self._end(job, JobCancelled(job_id))
        elif self._client is not None and job.followed:  # else it is sent after the next connect
            try:
                self._client.cancel(job_id)
            except RemoteError as error:
                self._end(job, failure(job_id, error))

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._guarded(self._turn)
        finally:
            if self._client is not None:
                self._client.close()
            self._mailbox.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step; a broken connection is news, not the end of the thread."""
        try:
            step()
        except CONNECTION_TROUBLE as error:
            self._lose(error)
        except Exception as error:  # the server talks nonsense, or a defect of ours: trying again would not help
            reason = as_link_error(error)
            self._lose(reason)
            self._fail_all(reason)

    def _turn(self) -> None:
        for command in self._mailbox.take():
            self._guarded(command)
        if self._client is not None:
            self._listen(self._client)
        else:
            wait_s = self._retry() if self._lost_since is not None else IDLE_S
            self._mailbox.wait(max(0.01, min(wait_s, IDLE_S)))
        self._mailbox.calm()

    def _listen(self, client: Client) -> None:
        events = client.poll(IDLE_S, self._mailbox.wake)
        for event in events:
            self._receive(event)
        now = time.monotonic()
        if events or now - self._heard_at > QUIET_S:
            self._heard_at = now
            for job in self._jobs.values() if not events else ():
                if job.followed and job.outputs is None:
                    client.subscribe(job.job_id, job.last_seq)

    # Connection

    def _reach(self, may_start: bool) -> None:
        """Connect and say hello.

        Raises:
            LinkError: not reached; its type says why.
        """
        try:
            hello_s = HELLO_S if self._lost_since is None else HELLO_AGAIN_S
            self._greet(self._given or read_connection(), hello_s)
        except (NotRunning, WrongServerKey, TimedOut, BadConnectionFile):
            if not may_start or self._server_command is None or self._given is not None or self._stop.is_set():
                raise
            start_server(self._server_command, self._stop)
            self._greet(read_connection(), HELLO_S)

    def _greet(self, connection: Connection, timeout_s: float) -> None:
        client = Client(connection, "ex4d background client")
        try:
            welcome = client.hello(timeout_s)
        except LinkError:
            client.close()
            raise
        self._client = client
        self._version = welcome.server_version
        self._lost_since, self._tries = None, 0
        self._inbox.put(Connected(connection.endpoint, welcome.server_version))

    def _resume(self) -> None:
        """Follow all jobs on a new connection."""
        for job in list(self._jobs.values()):
            job.followed = False
            self._advance(job)

    def _lose(self, error: LinkError) -> None:
        """The connection broke: say so, and try to get it back when jobs are waiting."""
        if self._client is not None:
            self._client.close()
            self._client = None
            self._inbox.put(Disconnected(error.code, error.title, error.hint))
        if self._jobs and self._lost_since is None:
            self._lost_since, self._tries = time.monotonic(), 0
            self._next_try = time.monotonic() + RETRY_S[0]

    def _fail_all(self, error: LinkError) -> None:
        """Nobody is there to run the jobs. What the server already has of them stays on its disk."""
        self._lost_since = None
        for job in list(self._jobs.values()):
            self._end(job, failure(job.job_id, error))

    def _retry(self) -> float:
        """Try to reach a lost server again; returns the seconds until the next try is due."""
        now = time.monotonic()
        give_up_s = GIVE_UP_S if self._given is None else GIVE_UP_FAR_S
        if now < self._next_try:
            return self._next_try - now
        try:
            # A server that was stopped on purpose removed its connection file; only a crashed one is started again.
            self._reach(may_start=connection_path().exists())
        except LinkError as error:
            if not self._jobs:
                self._lost_since = None
            elif self._lost_since is not None and now - self._lost_since > give_up_s:
                self._fail_all(error)
            self._tries += 1
            self._next_try = time.monotonic() + RETRY_S[min(self._tries, len(RETRY_S) - 1)]
            return self._next_try - time.monotonic()
        self._resume()
        return 0.0

    # Jobs

    def _advance(self, job: Job) -> None:
        """Do the next thing that a job needs."""
        if self._client is None or job.transferring or job.job_id not in self._jobs:
            return
        try:
            if job.outputs is not None:
                self._transfer(job, download_outputs)
            elif job.uploaded is None:
                self._transfer(job, upload_inputs)
            elif not job.followed:  # submitting again is harmless
                status = self._client.submit(job.job_id, job.kind, job.params, job.uploaded, makes=job.makes)
                job.submitted = job.followed = True
                if status.state == "queued":
                    waiting = f"Waiting for {status.ahead} other jobs" if status.ahead else "Waiting in the queue"
                    self._inbox.put(JobProgress(job.job_id, "Waiting in the queue", 0, 0, None, waiting))
                if status.last_seq < job.last_seq:  # a server that forgot the job has taken it as a new one
                    job.last_seq = 0
                self._client.subscribe(job.job_id, job.last_seq)
                if job.cancelled.is_set():
                    self._client.cancel(job.job_id)
        except RemoteError as error:
            if error.code == "missing_artifact" and job.transfer_failures < TRANSFER_TRIES:
                job.transfer_failures += 1  # the server lost its files between upload and now
                job.uploaded = None
                self._transfer(job, upload_inputs)
            else:
                self._end(job, failure(job.job_id, error))
        except BadMessage as error:
            self._end(job, failure(job.job_id, error))

    def _receive(self, event: messages.JobEvent | messages.JobProgress) -> None:
        job = self._jobs.get(event.job_id)
        if job is None:
            return
        if isinstance(event, messages.JobProgress):
            text = event.message or (f"{event.stage} {event.i}/{event.n}" if event.n else event.stage)
            self._inbox.put(JobProgress(job.job_id, event.stage, event.i, event.n, event.eta_s, text, event.preview))
            return
        if event.seq <= job.last_seq:
            return
        job.last_seq = event.seq
        if event.name == "done":
            job.outputs = event.outputs
            self._advance(job)
        elif event.name == "failed":
            error = event.error or messages.ErrorInfo("internal", "The job failed without saying why")
            self._end(job, JobFailed(job.job_id, error.code, error.title, error.hint, error.detail))
        elif event.name == "cancelled":
            self._end(job, JobCancelled(job.job_id))
        elif event.name != "queued":  # which submitting has told already, together with how many come first
            stage = "Starting" if event.name == "started" else event.note
            self._inbox.put(JobProgress(job.job_id, stage, 0, 0, None, stage))

    def _end(self, job: Job, event: JobDone | JobFailed | JobCancelled) -> None:
        if self._jobs.get(job.job_id) is job:
            del self._jobs[job.job_id]
            self._inbox.put(event)

    def _transfer(self, job: Job, work: Callable[[Client, Job, Report], None]) -> None:
        """Run an upload or a download in the files' thread, over a connection of its own."""
        assert self._client is not None
        connection = self._client.connection
        job.transferring = True

        def report(stage: str, name: str, done: int, total: int) -> None:
            if job.cancelled.is_set() or self._stop.is_set():
                raise Stopped("The transfer was stopped")
            text = f"{stage} {name}"
            self._inbox.put(JobProgress(job.job_id, stage, done, total, None, text))

        def task() -> None:
            trouble = transfer(connection, job, work, report)
            self.tell(lambda: self._transferred(job, trouble))

        self._add_file_task(task)

    def _transferred(self, job: Job, trouble: LinkError | None) -> None:
        job.transferring = False
        if trouble is None and job.outputs is not None:
            files = {output.role: job.output_folder / output.role for output in job.outputs}
            self._end(job, JobDone(job.job_id, files))
        elif isinstance(trouble, Stopped) or (job.cancelled.is_set() and not job.submitted):
            self._end(job, JobCancelled(job.job_id))
        elif trouble is None:
            self._advance(job)
        elif isinstance(trouble, CONNECTION_TROUBLE) and job.transfer_failures < TRANSFER_TRIES:
            job.transfer_failures += 1
            if self._client is not None:
                self._client.status()  # raises when the link is broken too, which starts the mending
                self._advance(job)
        else:
            self._end(job, failure(job.job_id, trouble))
