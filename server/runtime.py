# SPDX-License-Identifier: Apache-2.0
"""The server's folders, keys, lock and connection file. Everything in a folder that only its user may enter."""

import contextlib
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import psutil
import zmq

from ex4d import __version__
from ex4d.errors import MachineError
from shared_protocol.connection import KEY_LENGTH, Connection, write_private

VERSION = __version__
EXIT_ALREADY_RUNNING = 4


@dataclass(frozen=True)
class Home:
    """Where what lies."""

    folder: Path

    @property
    def connection_file(self) -> Path:
        return self.folder / "server.json"

    @property
    def database(self) -> Path:
        return self.folder / "jobs.sqlite"

    @property
    def clients(self) -> Path:
        """Who may connect beside this user."""
        return self.folder / "clients.json"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "server.log"

    @property
    def output_log(self) -> Path:
        """What a detached server prints: nothing, unless it cannot even start."""
        return self.logs / "server.out"

    def create(self) -> None:
        """Make the folders, private to the user."""
        for folder in (self.folder, self.artifacts, self.work, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # on Windows the profile folder's own rights already do this


@dataclass(frozen=True)
class Keys:
    """CURVE key pairs in Z85. They stay the same over restarts, so that clients can remember the server."""

    server_key: str
    server_secret: str
    client_key: str
    client_secret: str


def check_curve() -> None:
    """Refuse to run without encryption.

    Raises:
        MachineError: this build of ZeroMQ lacks CURVE.
    """
    if not zmq.has("curve"):
        raise MachineError(
            "This build of ZeroMQ has no CURVE encryption, and the server does not run without it. "
            "Install the pyzmq wheel from PyPI: pip install --force-reinstall --only-binary :all: pyzmq"
        )


def read_or_make_keys(home: Home) -> Keys:
    """This user's keys; made at the first start, and again when the file is damaged."""
    path = home.folder / "keys.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        keys = Keys(**json.loads(path.read_text(encoding="utf-8")))
        if all(isinstance(key, str) and len(key) == KEY_LENGTH for key in vars(keys).values()):
            return keys
    pairs = [key.decode("ascii") for _ in range(2) for key in zmq.curve_keypair()]
    keys = Keys(*pairs)
    write_private(path, json.dumps(vars(keys), indent=2))
    return keys


def write_connection(home: Home, endpoint: str, keys: Keys, boot_id: str) -> Connection:
    """Tell this user's clients where we are."""
    connection = Connection(endpoint, keys.server_key, keys.client_key, keys.client_secret, boot_id, os.getpid())
    write_private(home.connection_file, connection.to_json())
    return connection


def machine_boot() -> str:
    """A name for the time since this machine was switched on: jobs that ran under another one saw it go down."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return str(round(psutil.boot_time() / 60))  # minutes: clocks are corrected by seconds


class AlreadyRunning(Exception):
    """Another server process uses this folder."""


def take_lock(home: Home) -> sqlite3.Connection:
    """Make sure that one server at most uses the folder. The lock is held until the process ends, however it ends.

    An open SQLite transaction is a file lock that works the same on all platforms.

    Raises:
        AlreadyRunning: another process has it.
    """
    lock = sqlite3.connect(home.folder / "server.lock", timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise AlreadyRunning(f"Another server already uses {home.folder}") from error
        raise
    return lock
