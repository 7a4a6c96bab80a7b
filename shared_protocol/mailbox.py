# SPDX-License-Identifier: Apache-2.0
"""Functions for a thread to run, which wake it while it waits for a connection."""

import queue
import socket
from collections.abc import Callable, Iterator

Command = Callable[[], None]


class Mailbox:
    """What other threads want done. `wake` becomes readable when something is put in, so it can be polled too."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.wake, self._waker = socket.socketpair()
        self.wake.setblocking(False)
        self._waker.setblocking(False)

    def put(self, command: Command) -> None:
        """Have a function run soon. From any thread."""
        self._commands.put(command)
        try:
            self._waker.send(b"x")
        except OSError:  # full: it is about to wake anyway; closed: nobody is left to wake
            return

    def take(self) -> Iterator[Command]:
        """What has been put in, oldest first."""
        while True:
            try:
                yield self._commands.get_nowait()
            except queue.Empty:
                return

    def wait(self, timeout_s: float) -> None:
        """Wait until something is put in."""
        self.wake.settimeout(timeout_s)
        try:
            self.wake.recv(4096)
        except TimeoutError:
            return
        finally:
            self.wake.setblocking(False)

    def calm(self) -> None:
        """`wake` is no longer readable, until something is put in again."""
        try:
            while self.wake.recv(4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the sockets back."""
        self.wake.close()
        self._waker.close()
