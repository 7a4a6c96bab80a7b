# SPDX-License-Identifier: Apache-2.0
"""What runs on a node of a Ray cluster: an actor that keeps one worker process, as the server does on its own machine.

The worker's death is seen here at once and with its exit code, and it cannot outlive the actor. The actor ends by
itself when the server has not called for a while, whatever has become of the cluster in between.
"""

import contextlib
import os
import platform
import queue
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from ex4d import __version__
from ex4d.code_hash import code_hash

from .log import JOB_LOG_BYTES
from .worker_process import WorkerProcess, worker_command

LEASE_S = 30.0  # an actor that hears nothing for so long ends; the bridge calls every few seconds
FOLDER = "ex4d-ray-"
QUESTION, ANSWER = ".ray-question", ".ray-answer"


def code_id(runner: str) -> str:
    """By which a node's code and the server's are compared."""
    return f"{__version__} {code_hash('server')} {code_hash(runner)}"


class RayHost:
    """An actor. Its methods are called from several threads, but never two of one kind at a time, except `put`, `get`.

    Args:
        runner: module:function that does a job.
        lease_s: after so long without a call it ends.
    """

    def __init__(self, runner: str, lease_s: float = LEASE_S) -> None:
        _sweep()
        if (
            os.environ.get("OMP_NUM_THREADS") == "1"
        ):  # Ray's, for actors with one CPU; a job computes as it would at home
            del os.environ["OMP_NUM_THREADS"]
        self._runner = runner
        self._lease_s = lease_s
        self._called_s = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self._log = self._folder / "job.log"
        self._log_read = 0
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        command = worker_command(runner, self._folder / "worker.log")
        # Without the token: a worker opens files that others have made.
        hidden = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": ""}
        self._process = WorkerProcess(command, self._folder / "worker.out", hidden, self._messages.put)
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def hello(self) -> dict[str, str]:
        """Who we are."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return {
            "node": socket.gethostname(),
            "gpus": visible,
            "code": code_id(self._runner),
            "python": platform.python_version(),
        }

    def shares(self, folder: str, answer: str) -> str:
        """Read a question from a folder and leave an answer there: whether we and the asker see the same one.

        Returns:
            The question; empty when there is none to be seen.
        """
        self._called_s = time.monotonic()
        with contextlib.suppress(OSError):
            question = (Path(folder) / QUESTION).read_text(encoding="ascii")
            (Path(folder) / ANSWER).write_text(answer, encoding="ascii")
            return question
        return ""

    def begin(self, files: list[str]) -> str:
        """Empty the folder for a job that comes with its files, and make room for these. Returns: that folder."""
        self._called_s = time.monotonic()
        folder = self._folder / "job"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in files:
            path = self._inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return str(folder)

    def put(self, name: str, offset: int, chunk: bytes) -> None:
        """Write a part of one of the job's files."""
        self._called_s = time.monotonic()
        with self._inside(name).open("r+b") as file:
            file.seek(offset)
            file.write(chunk)

    def size(self, name: str) -> int | None:
        """Of a file that the job made; None for what is no file in its folder."""
        self._called_s = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            path = self._inside(name)
            return path.stat().st_size if path.is_file() else None
        return None

    def get(self, name: str, offset: int, count: int) -> bytes:
        """Read a part of a file that the job made."""
        self._called_s = time.monotonic()
        with self._inside(name).open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def tell(self, message: dict[str, Any]) -> bool:
        """Say something to the worker. Returns: whether it lives."""
        self._called_s = time.monotonic()
        if message["t"] == "run":
            self._log.unlink(missing_ok=True)
            self._log_read = 0
            message = {**message, "log": str(self._log)}
        self._process.send(message)
        return self._process.alive

    def hear(self, wait_s: float) -> tuple[list[dict[str, Any]], bytes]:
        """Wait until the worker says something. Returns: its messages, and what has been added to the job's log."""
        self._called_s = time.monotonic()
        heard: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            message = self._messages.get(timeout=wait_s)
            while True:
                heard.append(message if message is not None else self._lost())
                message = self._messages.get_nowait()
        self._called_s = time.monotonic()
        return heard, self._new_log()

    def _lost(self) -> dict[str, Any]:
        exit_code = self._process.end()
        return {"t": "lost", "exit_code": exit_code, "why": "", "last": False, "said": self._process.said()}

    def _new_log(self) -> bytes:
        with contextlib.suppress(OSError):
            if self._log.stat().st_size < self._log_read:  # a new one was begun
                self._log_read = 0
            with self._log.open("rb") as file:
                file.seek(self._log_read)
                added = file.read(JOB_LOG_BYTES)
            self._log_read += len(added)
            return added
        return b""

    def _inside(self, name: str) -> Path:
        """A file of the job, or ValueError."""
        folder = (self._folder / "job").resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise ValueError(f"'{name}' does not lie in the job's folder")
        return path

    def _watch(self) -> None:
        while time.monotonic() - self._called_s < self._lease_s:
            time.sleep(self._lease_s / 10)
        self._process.end()
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)


def _sweep() -> None:
    """Drop what actors that were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        pid = folder.name.removeprefix(FOLDER).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
