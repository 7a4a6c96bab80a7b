# SPDX-License-Identifier: Apache-2.0
"""Where the server's state lives and how a client of the same user finds it: the connection file."""

import json
import os
import sys
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from .errors import BadConnectionFile, NotRunning

KEY_LENGTH = 40  # a CURVE key in Z85


def home_folder() -> Path:
    """The folder of the server's state: EX4D_HOME, else the platform's place for a user's state."""
    chosen = os.environ.get("EX4D_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "ex4d"


def connection_path() -> Path:
    """The connection file: there while a server runs, and after a server was killed."""
    return home_folder() / "server.json"


@dataclass(frozen=True)
class Connection:
    """All that a client needs to reach a server. Holds a secret: never log it, never save it in a scene."""

    endpoint: str  # tcp://127.0.0.1:PORT
    server_key: str
    client_key: str
    client_secret: str = field(repr=False)
    boot_id: str = ""
    pid: int = 0

    def to_json(self) -> str:
        return json.dumps({"schema": 1, **asdict(self)}, indent=2)


def read_connection(path: Path | None = None) -> Connection:
    """Read a connection file; without a path, this user's.

    Raises:
        NotRunning: there is none.
        BadConnectionFile: it is damaged; the text names the field.
    """
    path = path or connection_path()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotRunning("No EX-4D server is running", detail=f"no connection file at {path}") from error
    except (OSError, ValueError) as error:
        raise BadConnectionFile(f"The connection file {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != 1:
        raise BadConnectionFile(f"The connection file {path} is not of a kind that this version reads")
    for item in fields(Connection):
        value = data.get(item.name)
        if not isinstance(value, int if item.name == "pid" else str):
            raise BadConnectionFile(f"{item.name} in the connection file {path} is missing or of the wrong type")
        if item.name in ("server_key", "client_key", "client_secret") and len(str(value)) != KEY_LENGTH:
            raise BadConnectionFile(f"{item.name} in the connection file {path} must have {KEY_LENGTH} characters")
    return Connection(**{item.name: data[item.name] for item in fields(Connection)})


def write_private(path: Path, text: str) -> None:
    """Write a file that only its user may read, at once or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
