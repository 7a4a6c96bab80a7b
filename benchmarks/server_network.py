# SPDX-License-Identifier: Apache-2.0
"""Lose the network between a client and its server for a while, with jobs in flight.

    python benchmarks/server_network.py --loss-s 60

A relay stands between them that lets nothing through meanwhile and breaks nothing, as a cable that is pulled. No job
may run twice, each must end once on the client, and the client must be back within 5 s.
"""

import argparse
import os
import selectors
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from server_bench import PATIENCE_S, BenchServer, machine

from shared_protocol.background import BackgroundClient
from shared_protocol.events import Connected, Event, JobCancelled, JobDone, JobFailed

JOBS = 6


class Relay:
    """Carries bytes between clients and a port of this machine, except when told not to."""

    def __init__(self, port: int) -> None:
        self.blocked = threading.Event()
        self._target = port
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for stream in [*self._other, self._listener]:
            stream.close()
        self._selector.close()

    def _carry(self) -> None:
        while not self._ended.is_set():
            if self.blocked.is_set():
                time.sleep(0.05)
                continue
            for key, _ in self._selector.select(0.05):
                stream = key.fileobj
                assert isinstance(stream, socket.socket)
                if stream is self._listener:
                    self._accept()
                elif stream in self._other:
                    self._pass_on(stream)

    def _accept(self) -> None:
        near = self._listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", self._target))
        for stream, other in ((near, far), (far, near)):
            self._other[stream] = other
            self._selector.register(stream, selectors.EVENT_READ)

    def _pass_on(self, stream: socket.socket) -> None:
        try:
            data = stream.recv(1 << 20)
            if data:
                self._other[stream].sendall(data)
                return
        except OSError:
            pass
        for each in (stream, self._other[stream]):
            self._selector.unregister(each)
            del self._other[each]
            each.close()


@dataclass
class Figures:
    """What happened."""

    ends: Counter[str]
    done: int
    jobs_on_server: int
    attempts: int
    back_s: float  # from the network's return to the client's


def lose_network(home: Path, loss_s: float, folder: Path) -> Figures:
    """Run jobs that end before, during and after a loss."""
    server = BenchServer(home)
    server.start()
    with server.client() as direct:
        connection = direct.connection
        relay = Relay(int(connection.endpoint.rsplit(":", 1)[1]))
        client = BackgroundClient(replace(connection, endpoint=f"tcp://127.0.0.1:{relay.port}"))
        heard: list[tuple[float, Event]] = []
        jobs = []
        for number in range(JOBS):
            plate = folder / f"plate{number}.bin"
            plate.write_bytes(os.urandom(3_000_000))
            params = {"n": 20, "step_s": loss_s / 40, "id": number}
            jobs.append(client.run_job("steps", params, {"plate": plate}, folder / f"out{number}"))
        _listen(client, heard, 2.0)
        relay.blocked.set()
        _listen(client, heard, loss_s)
        relay.blocked.clear()
        healed = time.monotonic()
        while len(_ends(heard)) < JOBS and time.monotonic() - healed < PATIENCE_S + 6 * loss_s:
            _listen(client, heard, 0.2)
        _listen(client, heard, 1.0)
        back = [at for at, event in heard if isinstance(event, Connected) and at > healed]
        on_server = direct.jobs()
        client.close()
        relay.close()
    server.stop()
    return Figures(
        ends=Counter(event.job_id for event in _ends(heard)),
        done=sum(isinstance(event, JobDone) for event in _ends(heard)),
        jobs_on_server=len(on_server),
        attempts=sum(job.attempt for job in on_server),
        back_s=back[0] - healed if back else float("inf"),
    )


def _listen(client: BackgroundClient, heard: list[tuple[float, Event]], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        heard += [(time.monotonic(), event) for event in client.poll()]
        time.sleep(0.02)


def _ends(heard: list[tuple[float, Event]]) -> list[JobDone | JobFailed | JobCancelled]:
    return [event for _, event in heard if isinstance(event, JobDone | JobFailed | JobCancelled)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss-s", type=float, default=60.0)
    loss_s = parser.parse_args().loss_s
    with tempfile.TemporaryDirectory() as name:
        os.environ["EX4D_HOME"] = name
        figures = lose_network(Path(name) / "home", loss_s, Path(name))
    print(f"{machine()}: {loss_s:g} s without network: {figures.done} of {JOBS} jobs done on the client,", end=" ")
    print(f"ends heard for each {sorted(figures.ends.values())}; on the server {figures.jobs_on_server} jobs,", end=" ")
    print(f"{figures.attempts} attempts; back after {figures.back_s:.1f} s")
    fine = figures.done == JOBS == figures.jobs_on_server == figures.attempts and set(figures.ends.values()) == {1}
    raise SystemExit(0 if fine and figures.back_s < 5 else 1)


if __name__ == "__main__":
    main()
