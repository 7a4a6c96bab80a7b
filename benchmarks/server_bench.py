# SPDX-License-Identifier: Apache-2.0
"""What the server's benchmarks share: a server process in a folder of its own, and the jobs that it is given."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared_protocol.client import Client  # noqa: E402
from shared_protocol.connection import read_connection  # noqa: E402
from shared_protocol.errors import LinkError  # noqa: E402

PATIENCE_S = 60.0


class BenchServer:
    """A server that is started, killed and started again."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it has answered."""
        started = time.monotonic()
        path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "--job-runner", "server_bench:run_job", *self.options],
            env={**os.environ, "EX4D_HOME": str(self.home), "PYTHONPATH": path},
        )
        while time.monotonic() - started < PATIENCE_S:
            with contextlib.suppress(LinkError):
                if read_connection(self.home / "server.json").pid == self.process.pid:
                    with self.client() as client:
                        client.status()
                    return time.monotonic() - started
            time.sleep(0.005)
        raise SystemExit(f"The server did not start within {PATIENCE_S:g} s")

    def client(self) -> Client:
        return Client(read_connection(self.home / "server.json"), "benchmark")

    def kill(self) -> list[psutil.Process]:
        """SIGKILL; returns the workers that it leaves behind."""
        assert self.process is not None
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        return children

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)


def is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run_job(kind, params, inputs, workdir, progress):
    """Jobs of the benchmarks: they take their time and leave a file; `flood` reports at every step."""
    from ex4d.progress import Progress

    for i in range(params["n"] + 1):
        # Each report of another stage is sent at once, the others ten times a second.
        progress(Progress(f"Stage {i}" if kind == "flood" else "Working", i, params["n"]))
        time.sleep(params.get("step_s", 0.01))
    output = workdir / "result.bin"
    output.write_bytes(str(params).encode() * params.get("repeat", 1000))
    return {"result.bin": output}
