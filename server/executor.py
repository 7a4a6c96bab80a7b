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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shared_protocol.launch import NO_WINDOW

from .pipe import read_message, write_message
from .worker import DEFAULT_RUNNER

CANCEL_GRACE_S = 10.0  # for a job that is in the middle of a step; then its process is killed
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
    """The worker process died under the job."""

    exit_code: int


Outcome = Finished | Failed | Cancelled | WorkerLost


class _Process:
    """One life of the worker process and the thread that listens to it."""

    def __init__(self, runner: str, logs: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.output_log = logs / "worker.out"
        search_path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-m", "server.worker", "--job-runner", runner]
        command += ["--log", str(logs / "worker.log"), "--parent", str(os.getpid())]
        with self.output_log.open("wb") as output:
            # From the main thread: on Linux the kernel ends the worker when the thread that started it ends.
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONPATH": search_path},
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
    """Runs one task at a time in a worker process on this machine."""

    def __init__(self, logs: Path, runner: str = DEFAULT_RUNNER, cancel_grace_s: float = CANCEL_GRACE_S) -> None:
        self._logs = logs
        self._runner = runner
        self._cancel_grace_s = cancel_grace_s
        self._process: _Process | None = None
        self._log = logging.getLogger("ex4d.server")
        self.last_report = time.monotonic()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, when there is one."""
        return self._process.popen.pid if self._process else None

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome:
        """Do a task.

        Args:
            task: what to do.
            on_report: receives every report.
            cancel: when set, the task is asked to stop; after the grace its process is killed.
        """
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
            }
        )
        stopper = asyncio.create_task(self._stop_when_told(process, cancel))
        try:
            while (report := await process.inbox.get()) is not None:
                self.last_report = time.monotonic()
                outcome = _outcome(report, on_report)
                if outcome is not None:
                    return outcome
        except BaseException:
            self.end()  # it may still be doing what nobody waits for
            raise
        finally:
            stopper.cancel()
        exit_code = self.end()
        return Cancelled(killed=True) if cancel.is_set() else WorkerLost(exit_code)

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
            self._process = _Process(self._runner, self._logs, asyncio.get_running_loop())
        return self._process

    async def _stop_when_told(self, process: _Process, cancel: asyncio.Event) -> None:
        await cancel.wait()
        process.send({"t": "cancel"})
        await asyncio.sleep(self._cancel_grace_s)
        self._log.warning("the worker did not stop within %g s: killing it", self._cancel_grace_s)
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
