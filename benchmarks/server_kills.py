# SPDX-License-Identifier: Apache-2.0
"""SIGKILL the server at random points with jobs in flight: nothing acknowledged may be lost.

    python benchmarks/server_kills.py --kills 200

A thread uploads and submits without pause, so that kills also hit chunks, submits and ends. Afterwards every job whose
submit was answered must be done, its files whole, its events without gaps, and no worker may be left over.
"""

import argparse
import contextlib
import hashlib
import os
import random
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from server_bench import PATIENCE_S, BenchServer, is_gone, machine, percentile

from shared_protocol.errors import LinkError
from shared_protocol.messages import JobEvent

ORPHAN_LIMIT_S = 5.0


@dataclass
class Figures:
    """What happened."""

    kills: int = 0
    acknowledged: list[str] = field(default_factory=list)
    not_done: dict[str, str] = field(default_factory=dict)
    damaged: int = 0  # results that are not whole, or files in the store that are not what their names say
    gaps: int = 0  # jobs whose events do not count from 1 without gaps
    orphans: int = 0
    attempts: int = 0
    start_s: list[float] = field(default_factory=list)


def kill_repeatedly(home: Path, kills: int, seed: int = 0, step_s: float = 0.02, most_queued: int = 30) -> Figures:
    """Run a server, kill it again and again, and count."""
    figures, generator = Figures(), random.Random(seed)
    server = BenchServer(home)
    figures.start_s.append(server.start())
    ended = threading.Event()
    customer = threading.Thread(target=_submit_until, args=(ended, server, figures, most_queued, step_s, seed))
    customer.start()
    left_behind = []
    try:
        for _ in range(kills):
            time.sleep(generator.uniform(0.0, 0.6))
            left_behind += [(time.monotonic(), child) for child in server.kill()]
            figures.kills += 1
            figures.start_s.append(server.start())
    finally:
        ended.set()
        customer.join()
    while left_behind:
        killed_at, child = left_behind.pop(0)
        while not is_gone(child) and time.monotonic() - killed_at < ORPHAN_LIMIT_S:
            time.sleep(0.05)
        figures.orphans += not is_gone(child)
    _judge(server, figures)
    server.stop()
    return figures


def _submit_until(
    ended: threading.Event, server: BenchServer, figures: Figures, most_queued: int, step_s: float, seed: int
) -> None:
    """Upload and submit for ever, over whatever connection there is."""
    generator = random.Random(seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.bin"
        while not ended.is_set():
            with contextlib.suppress(LinkError), server.client() as client:
                client.hello(1.0)
                while not ended.is_set():
                    if client.status().queued >= most_queued:
                        time.sleep(0.02)
                        continue
                    plate.write_bytes(generator.randbytes(3_000_000))
                    artifact = client.upload(plate)
                    job_id = uuid.uuid4().hex
                    params = {"n": generator.randint(0, 20), "step_s": step_s, "id": job_id}
                    client.submit(job_id, "steps", params, {"plate": (artifact, "plate.bin")})
                    figures.acknowledged.append(job_id)
            time.sleep(0.01)


def _judge(server: BenchServer, figures: Figures) -> None:
    """Let the jobs end and look at each."""
    with server.client() as client, tempfile.TemporaryDirectory() as folder:
        quiet_since, last = time.monotonic(), -1
        while (queued := client.status().queued + bool(client.status().job_id)) and (
            time.monotonic() - quiet_since < PATIENCE_S
        ):
            if queued != last:
                quiet_since, last = time.monotonic(), queued
            time.sleep(0.05)
        for job_id in figures.acknowledged:
            client.subscribe(job_id)
            events: list[JobEvent] = []
            while not events or events[-1].name not in ("done", "failed", "cancelled"):
                events += [event for event in client.poll(1.0) if isinstance(event, JobEvent)]
            figures.gaps += [event.seq for event in events] != list(range(1, len(events) + 1))
            figures.attempts += events[-1].attempt
            if events[-1].name != "done":
                error = events[-1].error
                figures.not_done[job_id] = f"{events[-1].name} {error.code if error else ''}"
            for output in events[-1].outputs:
                try:
                    client.download(output.artifact, Path(folder) / "out")
                except LinkError:
                    figures.damaged += 1
    for path in (server.home / "artifacts").iterdir():
        if len(path.name) == 64 and hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            figures.damaged += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep the server's folder here, to look at its log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EX4D_HOME"] = folder
        figures = kill_repeatedly(arguments.home or Path(folder) / "home", arguments.kills, arguments.seed)
    print(f"{machine()}: {figures.kills} kills, {len(figures.acknowledged)} jobs, {figures.attempts} attempts")
    print(f"not done {len(figures.not_done)} {sorted(set(figures.not_done.values()))}, damaged {figures.damaged},")
    print(f"event gaps {figures.gaps}, orphans after {ORPHAN_LIMIT_S:g} s {figures.orphans}")
    print(f"serving again: median {percentile(figures.start_s, 0.5):.2f} s, longest {max(figures.start_s):.2f} s")
    raise SystemExit(1 if figures.not_done or figures.damaged or figures.gaps or figures.orphans else 0)


if __name__ == "__main__":
    main()
