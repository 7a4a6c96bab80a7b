# SPDX-License-Identifier: Apache-2.0
"""The worker process: reads one job after the other from its standard input, does it, reports on its standard output.

Knows nothing of sockets and databases. Dies with its server: when the pipe closes, and on Linux also by the kernel.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import importlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ex4d.errors import Cancelled, Ex4dError
from ex4d.pipes import take_pipes
from ex4d.progress import Progress, ProgressCallback

from .failures import classify
from .log import job_log, start_log
from .pipe import DEFAULT_RUNNER, read_message, write_message
from .preview import preview_jpeg

PROGRESS_INTERVAL_S = 0.1  # at most ten reports a second; a panel draws no faster
PREVIEW_INTERVAL_S = 1.0
ALIVE_INTERVAL_S = 5.0  # between signs of life; see executor.Patience
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

JobRunner = Callable[[str, Mapping[str, Any], dict[str, Path], Path, ProgressCallback], dict[str, Path]]


class Worker:
    """Takes jobs from a pipe. A second thread listens, so that a cancel and the server's end are heard during work."""

    def __init__(self, runner: str, commands: BinaryIO, reports: BinaryIO, log: logging.Logger) -> None:
        self._runner = runner
        self._commands = commands
        self._reports = reports
        self._log = log
        self._cancelled = threading.Event()
        self._next_job: dict[str, Any] | None = None
        self._wake = threading.Semaphore(0)
        self._reporting = threading.Lock()
        self._spoilt = False

    def work(self) -> None:
        """Do jobs until the server is gone."""
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        threading.Thread(target=self._live, name="alive", daemon=True).start()
        while True:
            self._wake.acquire()
            assert self._next_job is not None
            job, self._next_job = self._next_job, None
            report = self._do(job)
            self._say({**report, "last": self._spoilt})  # the server starts another worker for the next job
            if self._spoilt:
                self._log.info("worker %d ends to give back what it may still hold", os.getpid())
                os._exit(0)

    def _listen(self) -> None:
        while (command := read_message(self._commands)) is not None:
            if command["t"] == "run":
                self._cancelled.clear()
                self._next_job = command
                self._wake.release()
            elif command["t"] == "cancel":
                self._cancelled.set()
        os._exit(0)  # the server is gone: nobody wants the result of what the main thread may still be doing

    def _live(self) -> None:
        """Tell that this process still runs, whatever the job does. Silence means that it is stuck."""
        while True:
            time.sleep(ALIVE_INTERVAL_S)
            self._say({"t": "alive"})

    def _say(self, message: dict[str, Any]) -> None:
        try:
            with self._reporting:
                write_message(self._reports, message)
        except OSError:
            os._exit(0)  # the server is gone

    def _do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job; returns the report of its end."""
        with contextlib.suppress(OSError):
            os.ftruncate(2, 0)  # what libraries print would fill the disk over the weeks
        with job_log(Path(job["log"])):
            return self._do_logged(job)

    def _do_logged(self, job: dict[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            module, _, function = self._runner.partition(":")
            self._log.info("job %s: %s", job["job_id"], job["kind"])
            run_job: JobRunner = getattr(importlib.import_module(module), function)
            inputs = {role: Path(path) for role, path in job["inputs"].items()}
            outputs = run_job(job["kind"], job["params"], inputs, Path(job["workdir"]), self._reporter(job["job_id"]))
            report = {"t": "done", "outputs": {role: str(path) for role, path in outputs.items()}}
        except Cancelled:
            report = {"t": "cancelled"}
        except Exception as error:  # whatever it is, it must become a report, not a dead worker
            failure = classify(error)
            if isinstance(error, Ex4dError):
                self._log.warning("job %s: %s: %s", job["job_id"], error.code, error)
            else:
                self._log.exception("job %s", job["job_id"])
            report = {"t": "failed", "code": failure.code, "title": _for_people(failure.title, job)}
            self._spoilt = failure.spoilt
        self._log.info("job %s %s after %.1f s", job["job_id"], report["t"], time.monotonic() - started)
        return report

    def _reporter(self, job_id: str) -> ProgressCallback:
        last_stage, last_time, last_preview = "", -math.inf, -math.inf

        def report(progress: Progress) -> None:
            nonlocal last_stage, last_time, last_preview
            if self._cancelled.is_set():
                raise Cancelled("The user stopped the job")
            now = time.monotonic()
            finished = progress.n > 0 and progress.i >= progress.n
            picture = progress.preview if now - last_preview >= PREVIEW_INTERVAL_S else None
            hurry = finished or progress.stage != last_stage or picture is not None
            if not hurry and now - last_time < PROGRESS_INTERVAL_S:
                return
            preview = None
            if picture is not None:
                preview, last_preview = preview_jpeg(picture), now
            if progress.stage != last_stage:
                self._log.info("job %s: %s", job_id, progress.stage)
            last_stage, last_time = progress.stage, now
            message = {"t": "progress", "stage": progress.stage[:200], "i": progress.i, "n": progress.n}
            self._say({**message, "eta_s": progress.eta_s, "preview": preview})

        return report


def _for_people(text: str, job: dict[str, Any]) -> str:
    """An error's text with the names of the user's files instead of where the server keeps them meanwhile."""
    for path in map(Path, job["inputs"].values()):
        text = text.replace(str(path), path.name)
    return text.replace(job["workdir"] + os.sep, "")[:4000]


def main() -> int:
    parser = argparse.ArgumentParser(description="The server's worker process; started by the server.")
    parser.add_argument("--job-runner", default=DEFAULT_RUNNER, help="module:function that does a job")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    die_before_others()
    faulthandler.enable()
    commands, reports = take_pipes()
    # Only the server decides when a worker stops: a Ctrl-C in the server's terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = start_log(arguments.log, "ex4d.worker")
    log.info("worker %d of server %d", os.getpid(), arguments.parent)
    Worker(arguments.job_runner, commands, reports, log).work()
    return 0


def die_with_parent(parent: int) -> None:
    """Have the kernel end us when the server ends, even while a job holds the interpreter. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(0)


def die_before_others() -> None:
    """Have a Linux kernel that runs out of memory end this process rather than the server or Blender."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
