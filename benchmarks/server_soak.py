# SPDX-License-Identifier: Apache-2.0
"""Small jobs without pause: the server's memory and descriptors must stay where they are.

    python benchmarks/server_soak.py --minutes 60

An hour needs 45 GB of disk: nothing leaves the cache within an hour of its use.
"""

import argparse
import os
import random
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from server_bench import BenchServer, machine

from shared_protocol.client import Client
from shared_protocol.messages import JobEvent

WARM_UP_SHARE = 0.25  # of the time: caches fill, the allocator finds its size
SAMPLES = 40


def run(home: Path, minutes: float) -> None:
    """Submit, follow, download; look at the server every so often."""
    server = BenchServer(home, "--cache-gb", "0.2")
    server.start()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    generator = random.Random(0)
    started, samples, jobs = time.monotonic(), [], 0
    plate, back = home.parent / "plate.bin", home.parent / "back.bin"
    while (elapsed_s := time.monotonic() - started) < minutes * 60:
        with server.client() as client:  # a new connection for each ten jobs, as artists come and go
            for _ in range(10):
                plate.write_bytes(generator.randbytes(200_000))
                _do(client, plate, back)
                jobs += 1
        if elapsed_s > len(samples) * minutes * 60 / SAMPLES:
            samples.append((elapsed_s, process.memory_info().rss / 1e6, process.num_fds()))
    warm = [sample for sample in samples if sample[0] > minutes * 60 * WARM_UP_SHARE]
    mean_s = sum(s for s, _, _ in warm) / len(warm)
    mean_mb = sum(mb for _, mb, _ in warm) / len(warm)
    slope = sum((s - mean_s) * (mb - mean_mb) for s, mb, _ in warm) / sum((s - mean_s) ** 2 for s, _, _ in warm)
    print(f"{machine()}: {jobs} jobs in {minutes:g} minutes; memory {warm[0][1]:.1f} to {warm[-1][1]:.1f} MB,", end=" ")
    print(f"slope {slope * 3600:+.2f} MB/h; descriptors {min(f for *_, f in warm)} to {max(f for *_, f in warm)}")
    server.stop()


def _do(client: Client, plate: Path, back: Path) -> None:
    artifact = client.upload(plate)
    job_id = uuid.uuid4().hex
    client.submit(job_id, "steps", {"n": 3, "step_s": 0.001, "id": job_id}, {"plate": (artifact, "plate.bin")})
    client.subscribe(job_id)
    while True:
        for event in client.poll(1.0):
            if isinstance(event, JobEvent) and event.name == "done":
                client.download(event.outputs[0].artifact, back)
                return
            assert not isinstance(event, JobEvent) or event.name != "failed", event


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EX4D_HOME"] = folder
        run(Path(folder) / "home", parser.parse_args().minutes)


if __name__ == "__main__":
    main()
