# SPDX-License-Identifier: Apache-2.0
"""The process of another GPU as the painting process sees it: messages to it, messages from it, and its end."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parents[3]  # the folder that holds `ex4d`
_END_S = 5.0  # for a process to end by itself


class Helper:
    """Runs `parallel_worker`; a thread listens to it."""

    def __init__(self, start: dict[str, Any], lost: Callable[[str], None]) -> None:
        """Start it.

        Args:
            start: what it is told first, its device among it.
            lost: called by the thread, with the reason, when the process failed or ended.
        """
        self.device: str = start["device"]
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        search_path = os.pathsep.join([str(PACKAGES), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ex4d.generation.wan.parallel_worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search_path},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        threading.Thread(target=self._listen, args=(lost,), name=f"helper {self.device}", daemon=True).start()
        self.tell(start)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; a dead process is noticed by the listener."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def end(self) -> None:
        """Close its pipe, at which it ends; kill it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, lost: Callable[[str], None]) -> None:
        why = f"The process of {self.device} ended unexpectedly. Start the take again."
        assert self._process.stdout is not None
        with self._process.stdout as reports, contextlib.suppress(ValueError):  # its last words may be cut off
            for line in reports:
                message = json.loads(line)
                if message["t"] == "failed":
                    why = f"On {self.device}: {message['title']}"
                    break
                self.inbox.put(message)
        lost(why)
