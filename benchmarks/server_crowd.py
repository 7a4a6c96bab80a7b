# SPDX-License-Identifier: Apache-2.0
"""Fifty clients follow a job that reports without pause; one of them asks and asks and never reads the answers.

How long do the others wait for theirs?

python benchmarks/server_crowd.py --seconds 20
"""

import argparse
import contextlib
import os
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import zmq
from server_bench import BenchServer, machine, percentile

from shared_protocol.messages import AskStatus, SubscribeJob
from shared_protocol.wire import encode

CLIENTS = 50


def measure(home: Path, seconds: float) -> dict[str, float]:
    """Ask for the status with each client in turn, while all but one also receive the job's reports."""
    server = BenchServer(home)
    server.start()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    clients = [server.client() for _ in range(CLIENTS - 1)]
    connection = clients[0].connection
    context = zmq.Context()
    silent = context.socket(zmq.DEALER)
    silent.linger, silent.rcvhwm = 0, 1
    silent.setsockopt(zmq.RCVBUF, 4096)
    silent.curve_serverkey = connection.server_key.encode()
    silent.curve_publickey = connection.client_key.encode()
    silent.curve_secretkey = connection.client_secret.encode()
    silent.connect(connection.endpoint)
    job_id = uuid.uuid4().hex
    clients[0].submit(job_id, "flood", {"n": 10**9, "step_s": 0.001}, {})
    silent.send(encode(SubscribeJob(job_id), 1))
    for client in clients:
        client.subscribe(job_id)
    memory, waits, heard = process.memory_info().rss, [], 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for _ in range(100):
            with contextlib.suppress(zmq.Again):
                silent.send(encode(AskStatus(), 1), zmq.DONTWAIT)
        for client in clients:
            started = time.perf_counter()
            client.status()
            waits.append((time.perf_counter() - started) * 1e3)
            heard += len(client.poll(0))
    figures = {
        "requests": len(waits),
        "reports heard": heard,
        "median ms": percentile(waits, 0.5),
        "p99 ms": percentile(waits, 0.99),
        "longest ms": max(waits),
        "grown MB": (process.memory_info().rss - memory) / 1e6,
    }
    clients[0].cancel(job_id)
    for client in clients:
        client.close()
    silent.close()
    context.term()
    server.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EX4D_HOME"] = folder
        figures = measure(Path(folder) / "home", parser.parse_args().seconds)
    print(f"{machine()}: {CLIENTS} clients: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
