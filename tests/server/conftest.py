# SPDX-License-Identifier: Apache-2.0
"""A real server in a folder of its own, with jobs of the tests' own; nothing outlives a test."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from shared_protocol.client import Client
from shared_protocol.connection import Connection, read_connection
from shared_protocol.errors import LinkError
from shared_protocol.messages import JobEvent, JobProgress

HERE = Path(__file__).parent
PATIENCE_S = 30.0  # far above what anything here takes, for machines under load
ENDS = ("done", "failed", "cancelled")


def new_id() -> str:
    return uuid.uuid4().hex


def until(condition, what="the condition"):
    """Wait for something to become true and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.02)
    return value


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be collected has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Follower:
    """One client and all that it hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[JobEvent | JobProgress] = []

    def submit(self, kind, params=None, inputs=None, job_id=None) -> str:
        job_id = job_id or new_id()
        self.client.submit(job_id, kind, params or {}, inputs or {})
        self.client.subscribe(job_id)
        return job_id

    def wait(self, job_id, test=lambda message: isinstance(message, JobEvent) and message.name in ENDS):
        """Listen until a message about the job passes the test (by default: its end), and return that."""
        deadline = time.monotonic() + PATIENCE_S
        seen = 0
        while True:
            for message in self.heard[seen:]:
                if message.job_id == job_id and test(message):
                    return message
            seen = len(self.heard)
            assert time.monotonic() < deadline, self.heard
            self.heard += self.client.poll(0.2)

    def wait_progress(self, job_id, i=0):
        return self.wait(job_id, lambda message: isinstance(message, JobProgress) and message.i >= i)

    def events(self, job_id) -> list[JobEvent]:
        return [message for message in self.heard if isinstance(message, JobEvent) and message.job_id == job_id]

    def names(self, job_id) -> list[str]:
        return [event.name for event in self.events(job_id)]


class Server:
    """A server process of a test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def start(self, *options, preexec_fn=None) -> Connection:
        boot_id = self.connection().boot_id if (self.home / "server.json").exists() else ""
        command = [sys.executable, "-m", "server", "--job-runner", "runners:run_job", *options]
        self.process = subprocess.Popen(command, preexec_fn=preexec_fn)
        until(
            lambda: (self.home / "server.json").exists() and self.connection().boot_id != boot_id, "the server's start"
        )
        return self.connection()

    def connection(self) -> Connection:
        return read_connection(self.home / "server.json")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self, connection: Connection | None = None) -> Client:
        client = Client(connection or self.connection(), "test")
        self._clients.append(client)
        return client

    def follower(self) -> Follower:
        return Follower(self.client())

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            finally:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A state folder of its own; whatever server is left in it is killed."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EX4D_HOME", str(folder))
    monkeypatch.setenv("EX4D_CACHE", str(tmp_path / "cache"))
    root = HERE.parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(HERE)]))
    yield folder
    with contextlib.suppress(LinkError, psutil.NoSuchProcess):
        process = psutil.Process(read_connection().pid)
        if str(folder) in process.environ().get("EX4D_HOME", ""):
            for child in process.children():
                child.kill()
            process.kill()
            until(lambda: is_gone(process.pid))


@pytest.fixture
def server(home):
    """A server that is not yet started."""
    server = Server(home)
    yield server
    server.close()


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster that asks for a token, which everything started meanwhile has."""
    from ray_node import RayCluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        cluster = RayCluster(RAY_AUTH_MODE="token")
        yield cluster
        cluster.close()


SMI = """#!/bin/sh
echo '0, GPU-aaaa, NVIDIA H200, 10, 143771'
echo '1, GPU-bbbb, NVIDIA H200, [N/A], 143771'
echo 'No devices were found'
"""


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A driver's program that tells of two GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(SMI)
    (folder / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
