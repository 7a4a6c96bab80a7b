# SPDX-License-Identifier: Apache-2.0
"""The queue: decides which job runs, follows it, and records what happened. One job at a time, in order of arrival."""

import asyncio
import logging
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from ex4d.errors import Ex4dError
from shared_protocol.errors import BadMessage
from shared_protocol.messages import (
    DEVICE_NAMES,
    ErrorInfo,
    JobEvent,
    JobProgress,
    JobStatus,
    OutputRef,
    SubmitJob,
)

from .artifacts import Artifacts
from .executor import Cancelled, Failed, Finished, Outcome, Report, Task, WorkerLost
from .failures import MissingArtifact, UnknownArtifact, error_info, from_exception
from .store import Store, StoredJob

WORKER_LOSSES = 2  # a job may kill its worker once; the second time it fails
SERVER_LOSSES = 5  # a server that is killed is mostly not the job's fault, so a job gets more of these
MAX_STAGES = 50  # milestones recorded for one attempt; real jobs have fewer than ten
MAX_OUTPUTS = 200  # their list must fit into one header
SAVE_RETRY_S = 2.0  # wait while the database cannot be written (full disk)

T = TypeVar("T")


class Executor(Protocol):
    """Does a task somewhere; see `executor.LocalExecutor`."""

    last_report: float

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome: ...


class JobQueue:
    """The state machine of the jobs. `publish` hands events and progress to whoever listens."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        executor: Executor,
        work_folder: Path,
        logs: Path,
        publish: Callable[[JobEvent | JobProgress], None],
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._executor = executor
        self._work_folder = work_folder
        self._logs = logs
        self._publish = publish
        self._log = logging.getLogger("ex4d.server")
        self._new_work = asyncio.Event()
        self._cancel = asyncio.Event()
        self.running: StoredJob | None = None
        self._progress: JobProgress | None = None

    # What clients ask

    def submit(self, request: SubmitJob) -> JobStatus:
        """Queue a job; harmless to repeat.

        Raises:
            MissingArtifact, IdConflict: see there.
        """
        for item in request.inputs:
            try:
                self._artifacts.path(item.artifact)
            except UnknownArtifact as error:
                raise MissingArtifact(f"The server does not have the {item.role} of this job") from error
        if self._store.submit(request):
            self._log.info("job %s queued: %s", request.job_id, request.kind)
            self._publish(self._store.events(request.job_id)[-1])
            self._new_work.set()
        return self.status(request.job_id)

    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job: at once when it waits, as soon as it listens when it runs."""
        job = self._store.job(job_id)
        if job.state == "queued":
            self._publish(self._store.finish(job_id, "cancelled"))
        elif job.state == "running":
            self._store.request_cancel(job_id)
            self._cancel.set()
        return self.status(job_id)

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""
        job = self._store.job(job_id)
        ahead = self._store.count_queued(before=job.number) if job.state == "queued" else 0
        return JobStatus(job_id, job.state, self._store.last_seq(job_id), ahead)

    def replay(self, job_id: str, after_seq: int) -> list[JobEvent | JobProgress]:
        """What a new listener has missed: the events after a number and the newest progress."""
        missed: list[JobEvent | JobProgress] = [*self._store.events(job_id, after_seq)]
        if self._progress is not None and self._progress.job_id == job_id:
            missed.append(self._progress)
        return missed

    # The work

    def recover(self) -> None:
        """Put the jobs over which the last server died back into the queue, before anything else happens."""
        for job in self._store.running():
            if job.cancel_requested:
                self._store.finish(job.job_id, "cancelled")
            elif job.server_lost + 1 >= SERVER_LOSSES:
                title = f"The server stopped {SERVER_LOSSES} times while it ran this job"
                self._store.finish(job.job_id, "failed", self._error("server_lost", title))
            else:
                self._store.requeue(job.job_id, "The server was restarted", "server_lost")
        shutil.rmtree(self._work_folder, ignore_errors=True)
        self._work_folder.mkdir(mode=0o700, exist_ok=True)
        self._artifacts.sweep()

    async def work(self) -> None:
        """Run jobs for ever. When cancelled (the server stops) the running job goes back to the queue uncounted."""
        while True:
            self._new_work.clear()
            job = self._store.next_queued()
            if job is None:
                await self._new_work.wait()
                continue
            self._cancel.clear()
            try:
                await self._run(job)
            except asyncio.CancelledError:
                if self._store.job(job.job_id).state == "running":
                    if self._cancel.is_set():
                        self._store.finish(job.job_id, "cancelled")
                    else:
                        self._store.requeue(job.job_id, "The server was stopped", None)
                raise
            finally:
                self.running = self._progress = None

    async def _run(self, job: StoredJob) -> None:
        await self._record(partial(self._store.start, job.job_id))
        self.running = job
        self._log.info("job %s started: %s", job.job_id, job.kind)
        workdir = self._work_folder / job.job_id
        try:
            task = await asyncio.to_thread(self._prepare, job, workdir)
            outcome = await self._executor.run(task, self._follower(job.job_id), self._cancel)
            finish = await self._conclude(job, outcome, workdir)
        except Ex4dError as error:
            finish = partial(self._store.finish, job.job_id, "failed", from_exception(error, self._where()))
        except Exception as error:  # a defect costs this job, not the server
            self._log.exception("job %s", job.job_id)
            finish = partial(
                self._store.finish, job.job_id, "failed", self._error("internal", f"{type(error).__name__}: {error}")
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, workdir, ignore_errors=True)
        event = await self._record(finish)
        self._log.info("job %s %s%s", job.job_id, event.name, f": {event.error.title}" if event.error else "")

    def _prepare(self, job: StoredJob, workdir: Path) -> Task:
        """Lay out a job's inputs. Blocks on the disk."""
        shutil.rmtree(workdir, ignore_errors=True)
        inputs = {}
        for item in job.inputs:
            path = workdir / "inputs" / item.role / safe_file_name(item.file_name)
            self._artifacts.lend(item.artifact, path)
            inputs[item.role] = path
        workdir.mkdir(parents=True, exist_ok=True)
        return Task(job.job_id, job.kind, job.params, inputs, workdir)

    async def _conclude(self, job: StoredJob, outcome: Outcome, workdir: Path) -> Callable[[], JobEvent]:
        """What to record about an outcome."""
        job_id = job.job_id
        if isinstance(outcome, Finished):
            outputs = await asyncio.to_thread(self._keep_outputs, outcome.outputs, workdir)
            if not self._cancel.is_set():
                return partial(self._store.finish, job_id, "done", None, outputs)
        if self._cancel.is_set() or isinstance(outcome, Cancelled):
            return partial(self._store.finish, job_id, "cancelled")
        if isinstance(outcome, Failed):
            return partial(self._store.finish, job_id, "failed", self._error(outcome.code, outcome.title))
        assert isinstance(outcome, WorkerLost)
        title = f"The worker process died ({exit_text(outcome.exit_code)})"
        if job.worker_lost + 1 >= WORKER_LOSSES:
            return partial(
                self._store.finish, job_id, "failed", self._error("worker_lost", f"{title} {WORKER_LOSSES} times")
            )
        return partial(self._store.requeue, job_id, f"{title}: trying once more", "worker_lost")

    def _keep_outputs(self, outputs: dict[str, Path], workdir: Path) -> tuple[OutputRef, ...]:
        """Move a job's files into the store. Blocks on the disk."""
        if len(outputs) > MAX_OUTPUTS:
            raise Ex4dError(f"A job may have {MAX_OUTPUTS} outputs, this one made {len(outputs)}")
        kept = []
        for role, path in sorted(outputs.items()):
            if not path.resolve().is_relative_to(workdir.resolve()) or not path.is_file():
                raise Ex4dError(f"The job's output {role} is not a file in its work folder")
            try:
                kept.append(OutputRef(role, self._artifacts.adopt(path)))
            except BadMessage as error:
                raise Ex4dError(f"The job's output has an unusable name: {error}") from error
        return tuple(kept)

    def _follower(self, job_id: str) -> Callable[[Report], None]:
        stages: set[str] = set()

        def follow(report: Report) -> None:
            try:
                message = JobProgress(job_id, **vars(report))
            except BadMessage as error:
                self._log.warning("job %s reports unusable progress: %s", job_id, error)
                return
            if report.stage not in stages and len(stages) < MAX_STAGES:
                stages.add(report.stage)
                try:
                    self._publish(self._store.stage(job_id, report.stage))
                except sqlite3.Error as error:  # a milestone is not worth a job
                    self._log.warning("stage of job %s not recorded: %s", job_id, error)
            older = self._progress
            self._progress = message
            if older is not None and older.job_id == job_id and message.preview is None:
                self._progress = replace(message, preview=older.preview)  # a late listener sees the newest picture too
            self._publish(message)

        return follow

    async def _record(self, write: Callable[[], JobEvent]) -> JobEvent:
        """Write an event, waiting as long as the disk refuses: a job's end must not get lost."""
        while True:
            try:
                event = write()
            except sqlite3.OperationalError as error:
                self._log.error("the job database cannot be written, trying again: %s", error)
                await asyncio.sleep(SAVE_RETRY_S)
            else:
                self._publish(event)
                return event

    def _error(self, code: str, title: str) -> ErrorInfo:
        return error_info(code, title, self._where())

    def _where(self) -> str:
        return f"log files: {self._logs}"

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return self._store.count_queued()

    @property
    def progress_age_s(self) -> float | None:
        """Seconds since the running job last reported."""
        return time.monotonic() - self._executor.last_report if self.running else None


def safe_file_name(name: str) -> str:
    """A client's file name as one that every platform takes; the extension survives."""
    name = re.split(r"[/\\]", name)[-1]
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    stem, dot, extension = kept.rpartition(".")
    stem, extension = (stem, extension[:16]) if dot else (extension, "")
    stem = stem[:80].strip("._") or "input"
    if re.match(f"{DEVICE_NAMES}([.]|$)", stem):
        stem = f"file_{stem}"
    return f"{stem}.{extension}" if extension else stem


def exit_text(exit_code: int) -> str:
    """An exit code as the system meant it."""
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
