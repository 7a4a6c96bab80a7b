# SPDX-License-Identifier: Apache-2.0
"""`ex4d server status|jobs|cancel|logs|metrics`: what the server does."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from ex4d.errors import InputError
from shared_protocol.client import Client
from shared_protocol.connection import home_folder
from shared_protocol.errors import LinkError
from shared_protocol.messages import JobSummary

from .cli_answers import EXIT_FAILED, EXIT_OK, complain, say, tell, with_server
from .log import last_lines
from .metrics import prometheus_text
from .runtime import Home

FOLLOW_INTERVAL_S = 0.3


def status(arguments: argparse.Namespace) -> int:
    """Tell how the server is; exit code 0 when it runs, 3 when not."""
    return with_server(
        arguments, lambda client: tell(arguments, client.connection.endpoint, client.status(), "running")
    )


def jobs(arguments: argparse.Namespace) -> int:
    """List the jobs: those that run, those that wait in their order, those that ended last."""

    def show(client: Client) -> int:
        found = client.jobs(arguments.limit)
        return say(arguments, [asdict(job) for job in found], "\n".join(map(_line, found)) or "No jobs")

    return with_server(arguments, show)


def cancel(arguments: argparse.Namespace) -> int:
    """Stop a job."""

    def stop(client: Client) -> int:
        job_id = _find(client, arguments.job)
        state = client.cancel(job_id).state
        text = "The job is being stopped" if state == "running" else f"The job is {state}"
        return say(arguments, {"job_id": job_id, "state": state}, text)

    return with_server(arguments, stop)


def prioritise(arguments: argparse.Namespace) -> int:
    """Put a waiting job before or behind others: those with a higher priority run first."""

    def move(client: Client) -> int:
        job_id = _find(client, arguments.job)
        status = client.prioritise(job_id, arguments.priority)
        data = {"job_id": job_id, "state": status.state, "ahead": status.ahead}
        return say(arguments, data, f"{status.ahead} jobs run before it" if status.state == "queued" else status.state)

    return with_server(arguments, move)


def metrics(arguments: argparse.Namespace) -> int:
    """Numbers for monitoring."""

    def show(client: Client) -> int:
        values = client.metrics()
        return say(arguments, values, prometheus_text(values).rstrip("\n"))

    return with_server(arguments, show)


def logs(arguments: argparse.Namespace) -> int:
    """Show the last lines of the server's log, or of a job's."""
    if arguments.server:
        return with_server(arguments, lambda client: _far_log(client, arguments))
    home = Home(home_folder())
    try:
        path = _job_log(home, arguments.job) if arguments.job else home.log
        lines = last_lines(path, arguments.lines)
    except (OSError, InputError) as error:
        return complain(arguments, error)
    say(arguments, {"path": str(path), "lines": lines}, "\n".join([f"{path}:", *lines]))
    if arguments.follow:
        _follow(path)
    return EXIT_OK


def _far_log(client: Client, arguments: argparse.Namespace) -> int:
    """A job's log on another machine; the server's own stays there."""
    if not arguments.job or arguments.follow:
        raise LinkError("Of a server on another machine only jobs' logs can be shown", "Name a job, leave -f out.")
    job_id = _find(client, arguments.job)
    text = client.log(job_id, min(max(arguments.lines, 1), 1000))
    return say(arguments, {"job_id": job_id, "lines": text.splitlines()}, text)


def _line(job: JobSummary) -> str:
    done = f"{job.stage} {job.i}/{job.n}" if job.n else job.stage
    eta = f"{job.eta_s:.0f} s left" if job.eta_s is not None else ""
    priority = f"priority {job.priority}" if job.priority else ""
    return "  ".join(filter(None, (job.job_id[:12], f"{job.state:9}", job.kind, priority, done, eta)))


def _find(client: Client, start: str) -> str:
    """A job by the beginning of its id."""
    found = [job.job_id for job in client.jobs() if job.job_id.startswith(start)]
    if len(found) != 1:
        raise LinkError(f"{len(found)} jobs begin with {start}", "Look at them with 'ex4d server jobs'.")
    return found[0]


def _job_log(home: Home, start: str) -> Path:
    if not (start.isalnum() and start.isascii()):
        raise InputError(f"A job's id has letters and digits only, got '{start}'.")
    found = sorted((home.logs / "jobs").glob(f"{start}*.log"))
    if len(found) != 1:
        raise InputError(f"{len(found)} logs of jobs begin with '{start}' in {home.logs / 'jobs'}.")
    return found[0]


def _follow(path: Path) -> int:
    """Print what is added to a log until Ctrl-C."""
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        try:
            while path.exists():
                text = file.read()
                sys.stdout.write(text)
                sys.stdout.flush()
                time.sleep(FOLLOW_INTERVAL_S)
        except KeyboardInterrupt:
            return EXIT_OK
    return EXIT_FAILED
