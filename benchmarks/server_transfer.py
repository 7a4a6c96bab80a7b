# SPDX-License-Identifier: Apache-2.0
"""How fast files and small requests travel over loopback with encryption, and how long others wait meanwhile.

python benchmarks/server_transfer.py --mb 128

On a machine that does other work too, `chrt -r 1` in front of that shows what it can do alone (Linux, root; for seconds
only: the other work stands still meanwhile).
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import zmq
from server_bench import BenchServer, machine, percentile

from shared_protocol import same_machine
from shared_protocol.client import Client
from shared_protocol.messages import CHUNK_LIMIT, WINDOW
from shared_protocol.transfer import file_reference

RUNS = 12
REQUESTS = 2000


class Stopwatch:
    """Wall time, and the processor time of both sides: that is what counts on a machine that others use too."""

    def __init__(self, server: BenchServer) -> None:
        assert server.process is not None
        self.sides = (psutil.Process(), psutil.Process(server.process.pid))
        self.runs: list[tuple[float, float, float]] = []

    def run(self, work: Callable[..., object], *arguments: object) -> object:
        before = [time.perf_counter(), *self._processor()]
        result = work(*arguments)
        after = [time.perf_counter(), *self._processor()]
        self.runs.append(tuple(b - a for a, b in zip(before, after, strict=True)))
        return result

    def rate(self, size: int) -> str:
        wall, *sides = ([size / 1e6 / max(each, 1e-9) for each in column] for column in zip(*self.runs, strict=True))
        client, server = (1e3 / statistics.median(side) for side in sides)
        processor = f"client {client:.2f}, server {server:.2f} CPU ms/MB"
        return f"{statistics.median(wall):.0f} (best {max(wall):.0f}; {processor})"

    def _processor(self) -> list[float]:
        return [sum(side.cpu_times()[:2]) for side in self.sides]


class Bound:
    """What encryption alone allows: frames of a chunk's size pushed to another process, which throws them away."""

    def __init__(self, server: BenchServer) -> None:
        keys, own = zmq.curve_keypair(), zmq.curve_keypair()
        self._here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_pull, args=(there, keys), daemon=True)
        self._process.start()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.curve_publickey, self._socket.curve_secretkey = own
        self._socket.curve_serverkey = keys[0]
        self._socket.sndhwm = WINDOW
        self._socket.connect(f"tcp://127.0.0.1:{self._here.recv()}")
        self._frame = os.urandom(CHUNK_LIMIT)
        self._watch = Stopwatch(server)

    def run(self, size: int) -> None:
        self._watch.run(self._send, -(-size // CHUNK_LIMIT))

    def rate(self, size: int) -> str:
        return self._watch.rate(size)

    def close(self) -> None:
        self._process.terminate()
        self._socket.close(0)
        self._context.term()

    def _send(self, count: int) -> None:
        self._here.send(count)
        for _ in range(count):
            self._socket.send(self._frame, copy=False)
        self._here.recv()


def _pull(there: Connection, keys: tuple[bytes, bytes]) -> None:
    socket = zmq.Context().socket(zmq.PULL)
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = keys
    there.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        for _ in range(there.recv()):
            socket.recv(copy=False)
        there.send(True)


def measure_files(server: BenchServer, folder: Path, size: int) -> None:
    """Whole transfers as an artist waits for them: hashing on both sides, fsync and rename included.

    The clip is changed in place, and what a run has stored is removed after it: a virtual machine that has to ask its
    host for memory needs 2 ms/MB for that, more than for all the rest of a side.
    """
    clip, back = folder / "clip.bin", folder / "back.bin"
    clip.write_bytes(os.urandom(size))
    hashing, storing, bound = Stopwatch(server), Stopwatch(server), Bound(server)
    for way, least in (("chunks, CURVE", 2**60), ("same machine", 0)):
        same_machine.LEAST_BYTES = least
        up, down = Stopwatch(server), Stopwatch(server)
        for _ in range(RUNS):
            with clip.open("r+b") as file:
                file.write(os.urandom(64))
            with server.client() as client:
                hashing.run(file_reference, clip)
                artifact = up.run(client.upload, clip)
                down.run(client.download, artifact, back)
            (server.home / "artifacts" / artifact.sha256).unlink()
            back.unlink()
            storing.run(_store, folder / "stored.bin", clip.read_bytes())
            bound.run(size)
        print(f"{way}: up {up.rate(size)}, down {down.rate(size)} MB/s")
    bound.close()
    print(f"plain CURVE, the same frames: {bound.rate(size)} MB/s")
    print(f"hashing alone: {hashing.rate(size)}, writing and fsync alone: {storing.rate(size)} MB/s")


def _store(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())


def measure_requests(server: BenchServer, folder: Path, size: int) -> None:
    """Small requests while nothing else happens, and while a file is sent."""
    same_machine.LEAST_BYTES = 2**60
    ended = threading.Event()

    def send_files() -> None:
        with server.client() as client:
            while not ended.is_set():
                (folder / "other.bin").write_bytes(os.urandom(size))
                client.upload(folder / "other.bin")

    with server.client() as client:
        client.hello()
        print(f"small requests: {_requests(client)}")
        sender = threading.Thread(target=send_files)
        sender.start()
        print(f"the same beside uploads: {_requests(client)}")
        ended.set()
        sender.join()


def _requests(client: Client) -> str:
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.status()
        times.append((time.perf_counter() - started) * 1e3)
    return f"median {percentile(times, 0.5):.2f} ms, p99 {percentile(times, 0.99):.2f} ms, longest {max(times):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=64)
    size = parser.parse_args().mb * 1_000_000
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = BenchServer(folder / "home")
        server.start()
        measure_files(server, folder, size)
        measure_requests(server, folder, size)
        server.stop()


if __name__ == "__main__":
    main()
