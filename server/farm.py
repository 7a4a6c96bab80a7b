# SPDX-License-Identifier: Apache-2.0
"""`ex4d run`: one self-contained job, for whoever has a queue of his own. Needs no server and no network.

Exit codes: 0 done (also when it was done before), 1 a defect, 2 the job is wrong, 3 this machine lacks something and
another may not, 4 out of memory, 5 stopped.
"""

import argparse
import importlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ex4d.errors import Cancelled
from ex4d.progress import Progress

from .failures import HINTS, classify
from .job_file import forget_result, read_job_file, read_result, write_result
from .pipe import DEFAULT_RUNNER
from .worker import JobRunner

PROGRESS_INTERVAL_S = 1.0  # farm managers read line by line
Tell = Callable[[dict[str, Any], str], None]


def add_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the ex4d command line."""
    parser = subparsers.add_parser(
        "run",
        help="one self-contained job, for render farms",
        description="Run one self-contained job. Exit codes: 0 done, 1 a defect, 2 the job is wrong, 3 this machine"
        " lacks something, 4 out of memory, 5 stopped (docs/server.md).",
        epilog="example: ex4d run job.json --out result --progress jsonl",
    )
    parser.add_argument("job", type=Path, metavar="JOB.json", help="kind, params and input files; docs/server.md")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the outputs and result.json go")
    parser.add_argument("--progress", choices=["plain", "jsonl"], default="plain", help="lines on standard output")
    parser.add_argument("--force", action="store_true", help="do it even when its result lies there already")
    parser.add_argument("--job-runner", default=DEFAULT_RUNNER, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do the job and return the exit code."""
    tell = _teller(arguments.progress)
    stopped = _stop_on_signals()
    workdir = arguments.out / ".work"
    started = time.monotonic()
    try:
        job = read_job_file(arguments.job)
        if not arguments.force and (result := read_result(arguments.out, job.key)) is not None:
            tell(
                {"t": "done", "known": True, "outputs": result["outputs"]}, "Done before: the result is there and whole"
            )
            return 0
        forget_result(arguments.out)
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir()
        tell({"t": "started", "kind": job.kind, "key": job.key}, f"Started: {job.kind}")
        module, _, function = arguments.job_runner.partition(":")
        run_job: JobRunner = getattr(importlib.import_module(module), function)
        outputs = run_job(job.kind, job.params, job.inputs, workdir.resolve(), _follower(tell, stopped))
        result = write_result(arguments.out, job, outputs, time.monotonic() - started)
        tell({"t": "done", "known": False, "outputs": result["outputs"]}, f"Done in {result['seconds']:.1f} s")
    except Exception as error:  # whatever it is, the farm must get an exit code it understands
        failure = classify(error)
        hint = HINTS.get(failure.code, HINTS["internal"])
        name = "cancelled" if isinstance(error, Cancelled) else "failed"
        tell(
            {"t": name, "code": failure.code, "title": failure.title, "hint": hint}, f"{name.title()}: {failure.title}"
        )
        if name == "failed":
            sys.stderr.write(f"{failure.title}\n{hint}\n")
        if failure.exit_code == 1:
            sys.excepthook(type(error), error, error.__traceback__)
        return failure.exit_code
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    return 0


def _stop_on_signals() -> list[int]:
    """Note the first SIGTERM or Ctrl-C; the job stops at its next step. A second one ends the process."""
    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped


def _follower(tell: Tell, stopped: list[int]) -> Callable[[Progress], None]:
    last_stage, last_time = "", 0.0

    def follow(progress: Progress) -> None:
        nonlocal last_stage, last_time
        if stopped:
            raise Cancelled(f"Stopped by signal {stopped[0]}")
        now = time.monotonic()
        finished = progress.n > 0 and progress.i >= progress.n
        if progress.stage != last_stage:
            tell({"t": "stage", "stage": progress.stage}, f"{progress.stage} ...")
        elif not finished and now - last_time < PROGRESS_INTERVAL_S:
            return
        last_stage, last_time = progress.stage, now
        share = f" {progress.i / progress.n:.0%}" if progress.n else ""
        numbers = {"stage": progress.stage, "i": progress.i, "n": progress.n, "eta_s": progress.eta_s}
        tell({"t": "progress", **numbers}, f"{progress.stage} {progress.i}/{progress.n or '?'}{share}")

    return follow


def _teller(form: str) -> Tell:
    def tell(event: dict[str, Any], text: str) -> None:
        sys.stdout.write((json.dumps({**event, "at_s": round(time.time(), 3)}) if form == "jsonl" else text) + "\n")
        sys.stdout.flush()

    return tell
