# SPDX-License-Identifier: Apache-2.0
"""Owns the worker process: starts it when there is work, keeps it warm, stops it softly or hard, notices its death."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from shared_protocol.launch import NO_WINDOW

from .pipe import DEFAULT_RUNNER, read_message, write_message

PACKAGES = Path(__file__).resolve().parents[1]  # the folder that holds `server`, `ex4d` and `shared_protocol`
_OUTPUT_TAIL = 2000  # characters of a dead worker's output that go into the log


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

    device: str  # on which it works, for people
    last_report: float  # monotonic time of the last sign of progress

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, when there is one on this machine."""

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome:
        """Do a task.

        Args:
            task: what to do.
            on_report: receives every report.
            cancel: when set, the task is asked to stop; after the grace its process is killed.
        """

    def rest(self) -> None:
        """Give memory and GPU back: there has been nothing to do for a while."""


@dataclass(frozen=True)
class Patience:
    """How long the server waits for a worker, in seconds, before it kills it."""

    cancel_s: float = 10.0  # for a job that was cancelled in the middle of a step
    silence_s: float = 120.0  # without any sign of life: stopped, or stuck in a call that lets nothing else run
    stall_s: float = 3600.0  # alive but without progress; loading and compiling a big model takes minutes


class _Process:
    """One life of the worker process and the thread that listens to it."""

    def __init__(
        self, runner: str, logs: Path, number: int, environment: dict[str, str], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.output_log = logs / f"worker-{number}.out"
        search_path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-m", "server.worker", "--job-runner", runner]
        command += ["--log", str(logs / f"worker-{number}.log"), "--parent", str(os.getpid())]
        self.output_log.write_bytes(b"")
        with self.output_log.open("ab") as output:  # appending: the worker empties it before each job
            # From the main thread: on Linux the kernel ends the worker when the thread that started it ends.
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **environment, "PYTHONPATH": search_path},
                creationflags=NO_WINDOW,
            )
        assert self.popen.stdout is not None
        threading.Thread(
            target=self._listen, args=(self.popen.stdout, loop), name="worker-reports", daemon=True
        ).start()

    def send(self, message: dict[str, Any]) -> None:
        """Say something to the worker; a dead one is noticed by the listener."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            write_message(self.popen.stdin, message)  # type: ignore[arg-type]

    def end(self) -> int:
        """Kill it if it still runs, and give back what it holds. Returns the exit code."""
        if self.popen.poll() is None:
            self.popen.kill()
        exit_code = self.popen.wait()
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        return exit_code

    def _listen(self, reports: BinaryIO, loop: asyncio.AbstractEventLoop) -> None:
        message: dict[str, Any] | None = {}
        with reports:
            while message is not None:
                message = read_message(reports)
                try:
                    loop.call_soon_threadsafe(self.inbox.put_nowait, message)
                except RuntimeError:  # the server's loop is closed
                    return


class LocalExecutor:
    """Runs one task at a time in a worker process on this machine.

    Args:
        logs: where the worker's log goes.
        runner: module:function that does a job.
        patience: how long to wait for the worker.
        number: of this worker, from 0.
        device: on which it works, for people.
        environment: for the worker: which GPU it may see.
    """

    def __init__(
        self,
        logs: Path,
        runner: str = DEFAULT_RUNNER,
        patience: Patience | None = None,
        number: int = 0,
        device: str = "CPU",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.device = device
        self._logs = logs
        self._runner = runner
        self._patience = patience or Patience()
        self._number = number
        self._environment = dict(environment or {})
        self._process: _Process | None = None
        self._log = logging.getLogger("ex4d.server")
        self.last_report = time.monotonic()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, when there is one."""
        return self._process.popen.pid if self._process and self._process.popen.poll() is None else None

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
                if report["t"] == "alive":
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
        with contextlib.suppress(OSError):
            said = process.output_log.read_bytes()[-_OUTPUT_TAIL:].decode("utf-8", "replace")
            for line in said.splitlines():
                self._log.info("worker said: %s", line)
        self._log.info("worker %d ended with exit code %d", process.popen.pid, exit_code)
        return exit_code

    def _warm_process(self) -> _Process:
        if self._process is not None and self._process.popen.poll() is not None:
            self.end()  # it died while it had nothing to do
        if self._process is None:
            loop = asyncio.get_running_loop()
            self._process = _Process(self._runner, self._logs, self._number, self._environment, loop)
        return self._process

    async def _hear(self, process: _Process) -> dict[str, Any] | str | None:
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

    async def _stop_when_told(self, process: _Process, cancel: asyncio.Event) -> None:
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
    return Failed(report["code"], report["title"])
