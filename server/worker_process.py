# SPDX-License-Identifier: Apache-2.0
"""A helper process of the server and the thread that listens to it: how a worker is started, told things and ended."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ex4d.pipes import helper_environment
from shared_protocol.launch import NO_WINDOW

from .pipe import read_message, write_message

_OUTPUT_TAIL = 2000  # characters of a dead process' output that are worth a log


def worker_command(runner: str, log: Path) -> list[str]:
    """The arguments of a worker: see worker.py."""
    return ["server.worker", "--job-runner", runner, "--log", str(log), "--parent", str(os.getpid())]


class WorkerProcess:
    """One life of a process which speaks as a worker does (pipe.py).

    Args:
        command: the module that it runs, and the arguments.
        output_log: receives what it prints; begun anew.
        environment: variables beside our own.
        on_message: called from a thread with each of its messages, and with None when it is gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        output_log: Path,
        environment: Mapping[str, str],
        on_message: Callable[[dict[str, Any] | None], None],
    ) -> None:
        self._output_log = output_log
        self._on_message = on_message
        output_log.write_bytes(b"")
        with output_log.open("ab") as output:  # appending: the worker empties it before each job
            # From the main thread: on Linux the kernel ends the worker when the thread that started it ends.
            self.popen = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=helper_environment(environment),
                creationflags=NO_WINDOW,
            )
        assert self.popen.stdout is not None
        threading.Thread(target=self._listen, args=(self.popen.stdout,), name="worker-reports", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Say something to the worker; a dead one is noticed by the listener."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            write_message(self.popen.stdin, message)  # type: ignore[arg-type]

    def end(self) -> int:
        """Kill it if it still runs, and give back what it holds. Returns the exit code."""
        if self.alive:
            self.popen.kill()
        exit_code = self.popen.wait()
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        return exit_code

    def said(self) -> list[str]:
        """The last lines that it printed."""
        with contextlib.suppress(OSError):
            return self._output_log.read_bytes()[-_OUTPUT_TAIL:].decode("utf-8", "replace").splitlines()
        return []

    def _listen(self, reports: BinaryIO) -> None:
        message: dict[str, Any] | None = {}
        with reports:
            while message is not None:
                message = read_message(reports)
                try:
                    self._on_message(message)
                except RuntimeError:  # the server's loop is closed
                    return
