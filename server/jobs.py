# SPDX-License-Identifier: Apache-2.0
"""The queue: decides which job runs on which worker, and records what happened.

Order: higher priority first, then those over which no server died, then order of arrival. A request whose result is
known is answered with that result and takes no worker.
"""

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from shared_protocol.messages import JobEvent, JobProgress, JobStatus, JobSummary, SubmitJob

from .artifacts import Artifacts
from .attempt import Attempt, summary
from .endings import Endings
from .executor import Executor, LocalExecutor
from .failures import MissingArtifact, NotYours, QuotaExceeded, UnknownArtifact
from .fingerprint import Circumstances
from .lending import Lending, shares_gpus
from .log import last_lines
from .pace import Pace
from .positions import Position, positions
from .results import Results
from .store import Store, StoredJob

MAX_STAGES = 50  # milestones recorded for one attempt; real jobs have fewer than ten
MAX_QUEUED = 200  # jobs of one client
LOG_MESSAGE_BYTES = 20_000  # less than a third of a header: what is no UTF-8 takes three times its room as text
SAVE_RETRY_S = 2.0  # wait while the database cannot be written (full disk)
IDLE_S = 900.0
POSITIONS_INTERVAL_S = 0.5  # who waits hears at most this often where it stands
WAITING = "Waiting in the queue"


class JobQueue:
    """The state machine of the jobs, with one slot for each executor.

    Args:
        store, artifacts: what survives a crash.
        executors: do one task at a time each.
        work_folder: for the attempts' files; emptied at the start.
        logs: the folder of the logs; each job gets one in `jobs`.
        publish: hands events and progress to whoever listens.
        circumstances: make the keys of results; None: no result is used twice.
        machine: the name of this machine's present boot.
        idle_s: a worker without work for so long gives its memory back; an artist may want the GPU.
        lending: of GPUs among the executors; None: each has its own.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        executors: Sequence[Executor],
        work_folder: Path,
        logs: Path,
        publish: Callable[[JobEvent | JobProgress], None],
        circumstances: Circumstances | None = None,
        machine: str = "",
        idle_s: float = IDLE_S,
        lending: Lending | None = None,
    ) -> None:
        self.executors = executors
        self.attempts: dict[str, Attempt] = {}
        self.draining = False  # set to begin no more jobs
        self._store = store
        self._artifacts = artifacts
        self._work_folder = work_folder
        self._publish = publish
        self._endings = Endings(store, logs)
        self._results = Results(store, artifacts, circumstances)
        self._machine = machine
        self._idle_s = idle_s
        self._lending = lending
        self._log = logging.getLogger("ex4d.server")
        self._changed = asyncio.Event()  # the queue: a worker may have something to do
        self._moved = asyncio.Event()  # the same, for telling who waits
        self._preparing = 0  # executors that get ready
        self._idle = asyncio.Event()
        self._idle.set()

    # What clients ask

    def submit(self, request: SubmitJob, owner: str = "") -> JobStatus:
        """Queue a job; harmless to repeat. One whose results were dropped meanwhile runs again.

        Raises:
            MissingArtifact, IdConflict, QuotaExceeded: see there.
        """
        for item in request.inputs:
            try:
                self._artifacts.use(item.artifact)
            except UnknownArtifact as error:
                raise MissingArtifact(f"The server does not have the {item.role} of this job") from error
        if self._store.count_queued(owner) >= MAX_QUEUED:
            raise QuotaExceeded(f"{MAX_QUEUED} of your jobs wait already; the server takes no more at a time.")
        if self._store.submit(request, owner):
            self._log.info("job %s queued: %s", request.job_id, request.kind)
            self._publish(self._store.events(request.job_id)[-1])
            finish = self._results.known(self._store.job(request.job_id))
            if finish is not None:
                self._publish(finish())
        elif self._results.lost(self._store.job(request.job_id)):
            self._publish(self._store.requeue(request.job_id, "Its results are no longer stored: doing it again"))
        self._wake()
        return self.status(request.job_id)

    def cancel(self, job_id: str, owner: str | None = None) -> JobStatus:
        """Stop a job: at once when it waits, as soon as it listens when it runs.

        Raises:
            NotYours: `owner` is given and did not send it.
        """
        job = self._own(job_id, owner)
        attempt = self.attempts.get(job_id)
        if attempt is not None:
            self._store.request_cancel(job_id)
            attempt.cancel.set()
        elif job.state == "queued":
            self._publish(self._store.finish(job_id, "cancelled"))
            self._wake()
        return self.status(job_id)

    def prioritise(self, job_id: str, priority: int, owner: str | None = None) -> JobStatus:
        """Put a job before or behind others.

        Raises:
            NotYours: `owner` is given and did not send it.
        """
        self._own(job_id, owner)
        self._store.prioritise(job_id, priority)
        self._wake()
        return self.status(job_id)

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""
        job = self._store.job(job_id)
        ahead, eta_s = 0, None
        if job.state == "queued":
            ahead, eta_s = self._positions()[job_id]
        return JobStatus(job_id, job.state, self._store.last_seq(job_id), ahead, eta_s)

    def summaries(self, limit: int, owner: str) -> list[JobSummary]:
        """The jobs that run, those that wait in their order, those that ended last."""
        jobs = [*self._store.running(), *self._store.queued(limit), *self._store.ended(limit)]
        places = self._positions()
        return [summary(job, self.attempts.get(job.job_id), places.get(job.job_id), owner) for job in jobs]

    def log(self, job_id: str, lines: int, owner: str | None) -> str:
        """The last lines of a job's log, as many as fit into a message; empty before a worker has begun with it.

        Raises:
            NotYours: `owner` is given and did not send it.
        """
        self._own(job_id, owner)
        try:
            text = "\n".join(last_lines(self._endings.log_file(job_id), lines, LOG_MESSAGE_BYTES))
        except FileNotFoundError:
            return ""
        return text

    def replay(self, job_id: str, after_seq: int) -> list[JobEvent | JobProgress]:
        """What a new listener has missed: the events after a number and the newest progress."""
        missed: list[JobEvent | JobProgress] = [*self._store.events(job_id, after_seq)]
        attempt = self.attempts.get(job_id)
        if attempt is not None and attempt.progress is not None:
            missed.append(attempt.progress)
        return missed

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return self._store.count_queued()

    # The work

    def recover(self) -> None:
        """Put the jobs over which the last server died back into the queue, before anything else happens."""
        self._endings.recover(self._machine)
        shutil.rmtree(self._work_folder, ignore_errors=True)
        self._work_folder.mkdir(mode=0o700, exist_ok=True)

    async def work(self) -> None:
        """Run jobs for ever. When cancelled (the server stops) running jobs go back to the queue uncounted."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_positions())
            for executor in self.executors:
                group.create_task(self._serve(executor))

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    async def _serve(self, executor: Executor) -> None:
        while True:
            self._changed.clear()
            job = None if self.draining else self._next()
            if job is None:
                await self._wait_for_work(executor)
            elif (finish := self._results.known(job)) is not None:
                self._log.info("job %s: its result is known", job.job_id)
                await self._record(finish)
            elif not executor.ready:
                await self._make_ready(executor)
            elif self._may_begin(job, executor):
                await self._run(job, executor)
            else:
                await self._wait_for_work(executor)

    def _may_begin(self, job: StoredJob, executor: Executor) -> bool:
        """Give the executor the GPUs that it should have for a job, unless another one has or gets them."""
        if self._lending is None or not isinstance(executor, LocalExecutor):
            return True
        wide, others_wait, busy = shares_gpus(job.kind, job.params), self.queued > 1, self._busy()
        if self._lending.holds_back(executor, others_wait, busy):
            return False
        self._lending.share_out(executor, wide, others_wait, busy)
        return True

    def _busy(self) -> list[Executor]:
        return [attempt.executor for attempt in self.attempts.values()]

    async def _make_ready(self, executor: Executor) -> None:
        """Get an executor ready, unless enough others are for the jobs that wait."""
        busy = self._busy()
        others = self._preparing + sum(other.ready and other not in busy for other in self.executors)
        if self.queued <= others:
            await self._wait_for_work(executor)
            return
        self._preparing += 1
        try:
            await executor.make_ready()
        finally:
            self._preparing -= 1

    async def _wait_for_work(self, executor: Executor) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await self._changed.wait()
        except TimeoutError:
            executor.rest()
            await self._changed.wait()

    def _next(self) -> StoredJob | None:
        waiting = self._store.queued(len(self.attempts) + 1)
        return next((job for job in waiting if job.job_id not in self.attempts), None)

    async def _run(self, job: StoredJob, executor: Executor) -> None:
        workdir, log = self._work_folder / job.job_id, self._endings.log_file(job.job_id)
        attempt = Attempt(job, executor, self._artifacts, workdir, log)
        pace = Pace(self._publish)
        self.attempts[job.job_id] = attempt
        self._idle.clear()
        try:
            await self._record(partial(self._store.start, job.job_id, self._machine))
            self._wake()
            self._log.info("job %s started: %s", job.job_id, job.kind)
            ending = await attempt.run(self._follower(job.job_id, pace))
            pace.close()
            event = await self._record(partial(self._endings.record, job, ending, self._results.key(job)))
            self._log.info("job %s %s%s", job.job_id, event.name, f": {event.error.title}" if event.error else "")
        except asyncio.CancelledError:
            if self._store.job(job.job_id).state == "running":
                if attempt.cancel.is_set():
                    self._store.finish(job.job_id, "cancelled")
                else:
                    self._store.requeue(job.job_id, "The server was stopped")
            raise
        finally:
            pace.close()
            del self.attempts[job.job_id]
            if not self.attempts:
                self._idle.set()
            self._wake()

    def _follower(self, job_id: str, pace: Pace) -> Callable[[JobProgress], None]:
        stages: set[str] = set()

        def follow(progress: JobProgress) -> None:
            if progress.stage not in stages and len(stages) < MAX_STAGES:
                stages.add(progress.stage)
                try:
                    self._publish(self._store.stage(job_id, progress.stage))
                except sqlite3.Error as error:  # a milestone is not worth a job
                    self._log.warning("stage of job %s not recorded: %s", job_id, error)
            pace.put(progress)

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

    # Positions

    def _wake(self) -> None:
        self._changed.set()
        self._moved.set()

    async def _tell_positions(self) -> None:
        """Tell those who wait where they stand, whenever the queue has moved."""
        while True:
            await self._moved.wait()
            await asyncio.sleep(POSITIONS_INTERVAL_S)
            self._moved.clear()
            for job_id, (ahead, eta_s) in self._positions().items():
                text = f"{ahead} {'job runs' if ahead == 1 else 'jobs run'} before this one" if ahead else WAITING
                self._publish(JobProgress(job_id, WAITING, 0, 0, eta_s, message=text))

    def _positions(self) -> dict[str, Position]:
        return positions(self._store, [attempt.job for attempt in self.attempts.values()], len(self.executors))

    # Small things

    def _own(self, job_id: str, owner: str | None) -> StoredJob:
        job = self._store.job(job_id)
        if owner is not None and job.owner != owner:
            raise NotYours(f"Job {job_id[:8]} was sent by somebody else.")
        return job
