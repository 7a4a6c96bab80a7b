# SPDX-License-Identifier: Apache-2.0
"""Starting the server from a process that must not wait for it."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from .connection import home_folder
from .errors import ServerStartFailed, Stopped

START_TIMEOUT_S = 60.0  # a first start on a cold disk; `server start` itself gives up after 30 s
COMMAND_FILE = "command.json"  # in the state folder: so that Blender can start a server that nobody told it about
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0


def recorded_command() -> list[str] | None:
    """The words that run ex4d, as the last `server start` of this user left them; None when there was none."""
    try:
        words = json.loads((home_folder() / COMMAND_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return words if isinstance(words, list) and words and all(isinstance(word, str) for word in words) else None


def start_server(server_command: Sequence[str], stop: threading.Event) -> None:
    """Run `[*server_command, "server", "start"]`, which returns once the server answers.

    Raises:
        ServerStartFailed: with the command's own words.
        Stopped: `stop` was set meanwhile.
    """
    command = [*server_command, "server", "start"]
    shown = " ".join(command)
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, creationflags=NO_WINDOW
            )
        except OSError as error:
            raise ServerStartFailed(f"The server command cannot be run: {error.strerror}", detail=shown) from error
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None:
            if stop.wait(0.05) or time.monotonic() > deadline:
                process.kill()
                process.wait()
                if stop.is_set():
                    raise Stopped("The start of the server was stopped")
                raise ServerStartFailed(f"The server did not start within {START_TIMEOUT_S:g} s", detail=shown)
        if process.returncode != 0:
            output.seek(0)
            said = output.read()[-2000:].decode("utf-8", "replace").strip()
            last = said.splitlines()[-1] if said else f"exit code {process.returncode}"
            raise ServerStartFailed(f"The server did not start: {last}", detail=f"{shown}\n{said}")
