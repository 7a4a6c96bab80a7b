# SPDX-License-Identifier: Apache-2.0
"""One attempt at one job: lay out its inputs, have a worker do it, keep what it made."""

import asyncio
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ex4d.errors import Ex4dError
from shared_protocol.errors import BadMessage
from shared_protocol.messages import DEVICE_NAMES, JobProgress, JobSummary, OutputRef

from .artifacts import Artifacts
from .executor import Cancelled, Executor, Failed, Finished, Report, Task, WorkerLost
from .positions import Position
from .store import StoredJob

MAX_OUTPUTS = 200  # their list must fit into one header


@dataclass(frozen=True)
class Kept:
    """The job is done and its files lie in the store."""

    outputs: tuple[OutputRef, ...]


Ending = Kept | Failed | Cancelled | WorkerLost


class Attempt:
    """A job while a worker has it. `cancel` stops it; `progress` is the newest that it reported."""

    def __init__(self, job: StoredJob, executor: Executor, artifacts: Artifacts, workdir: Path, log: Path) -> None:
        self.job = job
        self.executor = executor
        self.cancel = asyncio.Event()
        self.progress: JobProgress | None = None
        self._artifacts = artifacts
        self._workdir = workdir
        self._job_log = log
        self._log = logging.getLogger("ex4d.server")

    async def run(self, follow: Callable[[JobProgress], None]) -> Ending:
        """Do it. Whatever goes wrong costs this job, not the server.

        Args:
            follow: receives every report.
        """
        try:
            task = await asyncio.to_thread(self._prepare)
            outcome = await self.executor.run(task, lambda report: self._report(report, follow), self.cancel)
            if isinstance(outcome, Finished):
                outputs = await asyncio.to_thread(self._keep_outputs, outcome.outputs)
                return Cancelled(killed=False) if self.cancel.is_set() else Kept(outputs)
        except Ex4dError as error:
            return Failed(error.code, str(error))
        except Exception as error:
            self._log.exception("job %s", self.job.job_id)
            return Failed("internal", f"{type(error).__name__}: {error}")
        finally:
            await asyncio.to_thread(shutil.rmtree, self._workdir, ignore_errors=True)
        return Cancelled(killed=False) if self.cancel.is_set() else outcome

    def _prepare(self) -> Task:
        """Lay out the inputs. Blocks on the disk."""
        job = self.job
        shutil.rmtree(self._workdir, ignore_errors=True)
        inputs = {}
        for item in job.inputs:
            path = self._workdir / "inputs" / item.role / safe_file_name(item.file_name)
            self._artifacts.lend(item.artifact, path)
            inputs[item.role] = path
        self._workdir.mkdir(parents=True, exist_ok=True)
        return Task(job.job_id, job.kind, job.params, inputs, self._workdir, self._job_log)

    def _keep_outputs(self, outputs: dict[str, Path]) -> tuple[OutputRef, ...]:
        """Move the job's files into the store. Blocks on the disk."""
        if len(outputs) > MAX_OUTPUTS:
            raise Ex4dError(f"A job may have {MAX_OUTPUTS} outputs, this one made {len(outputs)}")
        kept = []
        for role, path in sorted(outputs.items()):
            if not path.resolve().is_relative_to(self._workdir.resolve()) or not path.is_file():
                raise Ex4dError(f"The job's output {role} is not a file in its work folder")
            try:
                kept.append(OutputRef(role, self._artifacts.adopt(path)))
            except BadMessage as error:
                raise Ex4dError(f"The job's output has an unusable name: {error}") from error
        return tuple(kept)

    def _report(self, report: Report, follow: Callable[[JobProgress], None]) -> None:
        try:
            message = JobProgress(self.job.job_id, **vars(report))
        except BadMessage as error:
            self._log.warning("job %s reports unusable progress: %s", self.job.job_id, error)
            return
        seen = self.progress.preview if self.progress else None
        # Kept with the newest picture, for who listens later; sent with a picture only when that is new.
        self.progress = replace(message, preview=message.preview or seen)
        follow(message)


def summary(job: StoredJob, attempt: Attempt | None, position: Position | None, owner: str) -> JobSummary:
    """A job as a line of a list, for the client with the key `owner`."""
    progress = attempt.progress if attempt else None
    stage, i, n, eta_s = (progress.stage, progress.i, progress.n, progress.eta_s) if progress else ("", 0, 0, None)
    if position is not None:
        eta_s = position[1]
    mine = job.owner == owner
    return JobSummary(job.job_id, job.kind, job.state, job.priority, job.attempt, mine, stage[:80], i, n, eta_s)


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
