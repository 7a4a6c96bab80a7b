# SPDX-License-Identifier: Apache-2.0
"""Owns the worker process: starts it when there is work, keeps it warm, stops it softly or hard, notices its death."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .devices import CPU, Device
from .pipe import DEFAULT_RUNNER
from .worker_process import WorkerProcess, worker_command


@dataclass(frozen=True)
class Task:
    """What the worker has to do."""

    job_id: str
    kind: str
    params: dict[str, Any]
    inputs: dict[str, Path]
    workdir: Path
    log: Path  # of this job


@dataclass(frozen=True)
class Report:
    """How far the worker is."""

    stage: str
    i: int
    n: int
    eta_s: float | None = None
    preview: bytes | None = None  # JPEG


@dataclass(frozen=True)
class Finished:
    """The job ran to its end; role -> file."""

    outputs: dict[str, Path]


@dataclass(frozen=True)
class Failed:
    """The job raised."""

    code: str
    title: str


@dataclass(frozen=True)
class Cancelled:
    """The job was stopped; `killed` when it did not listen and its process had to be ended."""

    killed: bool


@dataclass(frozen=True)
class WorkerLost:
    """The worker process died under the job; `why` when the server ended it."""

    exit_code: int
    why: str = ""

    @property
    def text(self) -> str:
        """What happened, for the user."""
        code = f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
        return self.why or f"The worker process died ({code})"


Outcome = Finished | Failed | Cancelled | WorkerLost


class Executor(Protocol):
    """Does one task at a time, somewhere."""

    last_report: float  # monotonic time of the last sign of progress

    @property
    def device(self) -> str:
        """On which it works, for people."""

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, when there is one on this machine."""

    @property
    def ready(self) -> bool:
        """Whether it can begin a task at once."""

    async def make_ready(self) -> None:
        """Wait until it can, however long it takes to get a place for a worker. Called before `run` if not `ready`."""

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome:
        """Do a task.

        Args:
            task: what to do.
            on_report: receives every report.
            cancel: when set, the task is asked to stop; after the grace its process is killed.
        """

    def rest(self) -> None:
        """Give memory and GPU back: there has been nothing to do for a while."""

    def end(self) -> int:
        """End its worker, if there is one; returns the exit code."""


@dataclass(frozen=True)
class Patience:
    """How long the server waits for a worker, in seconds, before it kills it."""

    cancel_s: float = 10.0  # for a job that was cancelled in the middle of a step
    silence_s: float = 120.0  # without any sign of life: stopped, or stuck in a call that lets nothing else run
    stall_s: float = 3600.0  # alive but without progress; loading and compiling a big model takes minutes


NO_NEWS = ("alive", "waiting", "ready")  # reports that say nothing about the job


class _Life(WorkerProcess):
    """One life of the worker process; what it reports waits in `inbox`, None at its end."""

    def __init__(self, command: Sequence[str], output_log: Path, environment: Mapping[str, str]) -> None:
        self.inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        super().__init__(command, output_log, environment, self._put)

    def _put(self, message: dict[str, Any] | None) -> None:
        self._loop.call_soon_threadsafe(self.inbox.put_nowait, message)


class LocalExecutor:
    """Runs one task at a time in a worker process on this machine.

    Args:
        logs: where the worker's log goes.
        runner: module:function that does a job.
        patience: how long to wait for the worker.
        number: of this worker, from 0.
        own: the GPUs that it has unless it is lent others.
    """

    def __init__(
        self,
        logs: Path,
        runner: str = DEFAULT_RUNNER,
        patience: Patience | None = None,
        number: int = 0,
        own: Device = CPU,
    ) -> None:
        self.own = own
        self.using = own
        self._logs = logs
        self._runner = runner
        self._patience = patience or Patience()
        self._number = number
        self._process: _Life | None = None
        self._log = logging.getLogger("ex4d.server")
        self.last_report = time.monotonic()

    @property
    def device(self) -> str:
        """On which it works, for people."""
        return self.using.name

    @property
    def warm(self) -> bool:
        """Whether there is a worker process, with whatever the last job has left loaded."""
        return self._process is not None and self._process.alive

    def use(self, device: Device) -> None:
        """Have the next task done with other GPUs; for that the process has to end."""
        if device.gpus != self.using.gpus:
            self.end()
        self.using = device

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, when there is one."""
        return self._process.popen.pid if self._process and self._process.alive else None

    @property
    def ready(self) -> bool:
        """Always: a process is started in no time."""
        return True

    async def make_ready(self) -> None:
        """See `ready`."""

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome:
        """Do a task; see `Executor`. A worker that hangs is killed."""
        process = self._warm_process()
        self.last_report = time.monotonic()
        process.send(
            {
                "t": "run",
                "job_id": task.job_id,
                "kind": task.kind,
                "params": task.params,
                "inputs": {role: str(path) for role, path in task.inputs.items()},
                "workdir": str(task.workdir),
                "log": str(task.log),
            }
        )
        stopper = asyncio.create_task(self._stop_when_told(process, cancel))
        why = ""
        try:
            while (report := await self._hear(process)) is not None:
                if isinstance(report, str):
                    why = report
                    break
                if report["t"] in NO_NEWS:
                    continue
                self.last_report = time.monotonic()
                outcome = _outcome(report, on_report)
                if outcome is not None:
                    if report["last"]:
                        self.end()
                    return outcome
        except BaseException:
            self.end()  # it may still be doing what nobody waits for
            raise
        finally:
            stopper.cancel()
        exit_code = self.end()
        return Cancelled(killed=True) if cancel.is_set() else WorkerLost(exit_code, why)

    def rest(self) -> None:
        """End the worker process until the next task comes."""
        if self._process is not None:
            self._log.info("nothing to do: the worker gives its memory back")
            self.end()

    def end(self) -> int:
        """End the worker process, if there is one; returns its exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        exit_code = process.end()
        for line in process.said():
            self._log.info("worker said: %s", line)
        self._log.info("worker %d ended with exit code %d", process.popen.pid, exit_code)
        return exit_code

    def _warm_process(self) -> _Life:
        if self._process is not None and not self._process.alive:
            self.end()  # it died while it had nothing to do
        if self._process is None:
            output_log = self._logs / f"worker-{self._number}.out"
            self._process = _Life(self._command(), output_log, self.using.environment)
        return self._process

    def _command(self) -> list[str]:
        return worker_command(self._runner, self._logs / f"worker-{self._number}.log")

    async def _hear(self, process: _Life) -> dict[str, Any] | str | None:
        """The worker's next message; None when it is gone, a text when it hangs: what it does wrong."""
        stalled_s = self.last_report + self._patience.stall_s - time.monotonic()
        try:
            # Not wait_for: Python 3.11's forgets that it was cancelled when a report comes in the same moment.
            async with asyncio.timeout(max(0.0, min(self._patience.silence_s, stalled_s))):
                return await process.inbox.get()
        except TimeoutError:
            stalled = stalled_s < self._patience.silence_s
            wrong = (
                f"The job made no progress for {self._patience.stall_s:g} s"
                if stalled
                else f"The worker gave no sign of life for {self._patience.silence_s:g} s"
            )
            self._log.warning("%s: killing worker %d", wrong, process.popen.pid)
            return wrong

    async def _stop_when_told(self, process: _Life, cancel: asyncio.Event) -> None:
        await cancel.wait()
        process.send({"t": "cancel"})
        await asyncio.sleep(self._patience.cancel_s)
        self._log.warning("the worker did not stop within %g s: killing it", self._patience.cancel_s)
        process.popen.kill()  # its pipe closes, which wakes `run`


def _outcome(report: dict[str, Any], on_report: Callable[[Report], None]) -> Outcome | None:
    if report["t"] == "progress":
        on_report(Report(report["stage"], report["i"], report["n"], report["eta_s"], report["preview"]))
        return None
    if report["t"] == "done":
        return Finished({role: Path(path) for role, path in report["outputs"].items()})
    if report["t"] == "cancelled":
        return Cancelled(killed=False)
    if report["t"] == "lost":
        return WorkerLost(report["exit_code"], report["why"])
    return Failed(report["code"], report["title"])
