# SPDX-License-Identifier: Apache-2.0
"""End the worker under its job in every way there is: the right job is marked, the next one starts, the server lives.

python benchmarks/server_workers.py --deaths 200
"""

import argparse
import os
import signal
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from server_bench import PATIENCE_S, BenchServer, machine, percentile

from shared_protocol.client import Client
from shared_protocol.messages import JobEvent, JobProgress

WAYS = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV, "abort": signal.SIGABRT, "hang": signal.SIGSTOP}
SILENCE_S = 2.0


@dataclass
class Figures:
    """What happened."""

    deaths: int = 0
    wrong: list[str] = field(default_factory=list)
    noticed_s: dict[str, list[float]] = field(default_factory=dict)  # from the death to the job's requeued
    next_s: list[float] = field(default_factory=list)  # from there to the job's next report, on another worker
    cancel_s: list[float] = field(default_factory=list)


def end_workers(home: Path, deaths: int) -> Figures:
    """Kill workers from outside, one way after the other, and follow the jobs."""
    figures = Figures()
    server = BenchServer(home, "--silence-s", str(SILENCE_S))
    server.start()
    with server.client() as client:
        boot_id = client.hello().boot_id
        for number in range(deaths):
            way = list(WAYS)[number % len(WAYS)]
            job_id, other = uuid.uuid4().hex, uuid.uuid4().hex
            client.submit(job_id, "steps", {"n": 1_000_000, "id": job_id}, {})
            client.submit(other, "steps", {"n": 0, "id": other}, {})
            client.subscribe(job_id)
            client.subscribe(other)
            _wait(client, job_id, JobProgress, 1)
            pid = client.status().worker_pid
            assert pid is not None
            started = time.monotonic()
            os.kill(pid, WAYS[way])
            requeued = _wait(client, job_id, JobEvent, name="requeued")
            figures.noticed_s.setdefault(way, []).append(time.monotonic() - started)
            started = time.monotonic()
            _wait(client, job_id, JobProgress, 1)
            figures.next_s.append(time.monotonic() - started)
            started = time.monotonic()
            client.cancel(job_id)
            _wait(client, job_id, JobEvent, name="cancelled")
            figures.cancel_s.append(time.monotonic() - started)
            if _wait(client, other, JobEvent, name="done").attempt != 1 or requeued.attempt != 1:
                figures.wrong.append(way)
            figures.deaths += 1
        if client.status().boot_id != boot_id:
            figures.wrong.append("the server did not live on")
    left = [child for child in psutil.Process(server.process.pid).children() if child.status() != "zombie"]
    if len(left) > 1:
        figures.wrong.append(f"{len(left)} workers are left")
    server.stop()
    return figures


def _wait(client: Client, job_id: str, kind: type, i: int = 0, name: str = "") -> JobEvent:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for message in client.poll(0.2):
            if message.job_id != job_id or not isinstance(message, kind):
                continue
            if isinstance(message, JobEvent) and message.name == name:
                return message
            if isinstance(message, JobProgress) and message.stage == "Working" and message.i >= i:
                return message  # type: ignore[return-value]
    raise SystemExit(f"Nothing was heard of job {job_id} within {PATIENCE_S:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deaths", type=int, default=200)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EX4D_HOME"] = folder
        figures = end_workers(Path(folder) / "home", parser.parse_args().deaths)
    print(f"{machine()}: {figures.deaths} deaths, wrong: {figures.wrong or 'nothing'}")
    for way, times in figures.noticed_s.items():
        extra = f" (a hang counts after {SILENCE_S:g} s)" if way == "hang" else ""
        print(f"{way}: noticed after {percentile(times, 0.5) * 1e3:.0f} ms, longest {max(times) * 1e3:.0f} ms{extra}")
    for what, times in (("the job runs again", figures.next_s), ("cancel of a job of 10 ms steps", figures.cancel_s)):
        print(f"{what}: median {percentile(times, 0.5) * 1e3:.0f} ms, longest {max(times) * 1e3:.0f} ms")
    raise SystemExit(1 if figures.wrong else 0)


if __name__ == "__main__":
    main()
