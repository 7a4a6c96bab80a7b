# SPDX-License-Identifier: Apache-2.0
"""What a Ray cluster costs beside the server's own workers: starting, a job, a crash, a cancel, files in pieces.

python benchmarks/server_ray.py 127.0.0.1:6379 --jobs 100

Needs a cluster of this machine alone, whose `ray start` had the repository and its `benchmarks` in PYTHONPATH.
"""

import argparse
import os
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from server_bench import PATIENCE_S, BenchServer, machine, percentile

from shared_protocol.client import Client
from shared_protocol.messages import ArtifactRef, JobEvent

FILE_MB = 256
CRASHES = 5


def measure(folder: Path, jobs: int, *options: str) -> None:
    """Print one server's figures."""
    server = BenchServer(folder / "home", *options)
    print(f"  server serves after {server.start():.2f} s")
    with server.client() as client:
        print(f"  first job done after {_job(client, 'steps', {'n': 0}):.2f} s")
        times = [_job(client, "steps", {"n": 0, "number": number}) for number in range(jobs)]
        print(f"  a job that does nothing: median {_ms(times, 0.5)}, p99 {_ms(times, 0.99)}")
        noticed, again, cancelled = [], [], []
        for _ in range(CRASHES):
            job_id = uuid.uuid4().hex
            client.submit(job_id, "steps", {"n": 1_000_000, "id": job_id}, {})
            client.subscribe(job_id)
            _wait(client, job_id, "Working")
            worker = _worker(server)
            started = time.monotonic()
            worker.kill()
            _wait(client, job_id, "requeued")
            noticed.append(time.monotonic() - started)
            _wait(client, job_id, "Working")
            again.append(time.monotonic() - started)
            started = time.monotonic()
            client.cancel(job_id)
            _wait(client, job_id, "cancelled")
            cancelled.append(time.monotonic() - started)
        print(f"  SIGKILL noticed: median {_ms(noticed, 0.5)}; the job runs again after {_ms(again, 0.5)}")
        print(f"  cancel of 10 ms steps: median {_ms(cancelled, 0.5)}")
        path = folder / "file"
        path.write_bytes(os.urandom(FILE_MB * 10**6))
        params = {"n": 0, "repeat": FILE_MB * 10**6 // 30}
        files_s = _job(client, "steps", params, {"file": (client.upload(path), "file")})
        print(f"  a job with a file of {FILE_MB} MB that makes as much: {files_s:.2f} s")
    helpers = [child for child in psutil.Process(server.process.pid).children() if child.is_running()]
    print(f"  helper processes: {[round(child.memory_info().rss / 1e6) for child in helpers]} MB")
    server.stop()


def _job(
    client: Client, kind: str, params: dict[str, int], inputs: dict[str, tuple[ArtifactRef, str]] | None = None
) -> float:
    job_id, started = uuid.uuid4().hex, time.monotonic()
    client.submit(job_id, kind, params, inputs or {})
    client.subscribe(job_id)
    _wait(client, job_id, "done")
    return time.monotonic() - started


def _wait(client: Client, job_id: str, what: str) -> None:
    """Until an event of that name, or progress at that stage, is heard."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for message in client.poll(0.2):
            heard = message.name if isinstance(message, JobEvent) else message.stage
            if (message.job_id, heard) == (job_id, what):
                return
    raise SystemExit(f"'{what}' was not heard of job {job_id} within {PATIENCE_S:g} s")


def _worker(server: BenchServer) -> psutil.Process:
    """The process that has the job, whoever started it."""
    for one in psutil.process_iter(["cmdline"]):
        if {"server.worker", "server_bench:run_job"} <= set(one.info["cmdline"] or []):
            parent = one.parent()
            if parent is not None and (
                parent == psutil.Process(server.process.pid) or parent.name().startswith("ray::")
            ):
                return one
    raise SystemExit("No worker runs")


def _ms(times: list[float], share: float) -> str:
    return f"{percentile(times, share) * 1e3:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--jobs", type=int, default=100)
    arguments = parser.parse_args()
    cluster = ["--executor", "ray", "--address", arguments.address]
    for name, options in (
        ("this machine's worker", []),
        ("Ray, shared folder", cluster),
        ("Ray, files in pieces", [*cluster, "--no-shared-folder"]),
    ):
        print(f"{name}, {machine()}")
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), arguments.jobs, *options)


if __name__ == "__main__":
    main()
