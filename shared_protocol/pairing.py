# SPDX-License-Identifier: Apache-2.0
"""Making friends with a server on another machine, by one line of text that its user hands over.

The line holds the server's address and key, and a code that works once within minutes. Our own secret key is made here
and never leaves this machine; the code travels encrypted to the server that has the key, and to nobody else.
"""

import re
from base64 import b32decode, b32encode
from pathlib import Path

import zmq
from zmq.utils import z85

from .client import Client
from .connection import Connection, home_folder, write_private
from .errors import BadPairingText
from .messages import JoinServer, KnownClient

PREFIX = "ex4d"


def pairing_text(endpoint: str, server_key: str, code: str) -> str:
    """What the user of the other machine needs."""
    key = b32encode(z85.decode(server_key)).decode("ascii").rstrip("=")
    return "/".join((PREFIX, endpoint.removeprefix("tcp://"), key, code))


def join(text: str, name: str, timeout_s: float = 10.0) -> Path:
    """Pair with a server and keep what is needed to reach it.

    Args:
        text: the line that `ex4d server pair` printed there.
        name: of this client, for the server's user.
        timeout_s: for the server to answer.

    Returns:
        The connection file; `read_connection` reads it.

    Raises:
        BadPairingText: the text is not whole.
        LinkError: the server does not answer, or refuses; its type says why.
    """
    endpoint, server_key, code = _parts(text)
    public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
    connection = Connection(endpoint, server_key, public, secret)
    with Client(connection, name) as client:
        client.hello(timeout_s)
        client.request(JoinServer(code, name), KnownClient, timeout_s)
    path = server_file(re.sub(r"[^A-Za-z0-9.-]+", "_", endpoint.removeprefix("tcp://")))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, connection.to_json())
    return path


def server_file(name: str) -> Path:
    """Where the connection to a paired server lies."""
    return home_folder() / "servers" / f"{name}.json"


def paired_servers() -> dict[str, Path]:
    """The servers with which this user has been paired, by name."""
    return {path.stem: path for path in sorted((home_folder() / "servers").glob("*.json"))}


def forget(name: str) -> bool:
    """Drop what is needed to reach a paired server; its user may still remove us there.

    Returns:
        Whether this user was paired with it.
    """
    path = paired_servers().get(name)  # not `server_file`: a name may come from a .blend of somebody else
    if path is not None:
        path.unlink(missing_ok=True)
    return path is not None


def _parts(text: str) -> tuple[str, str, str]:
    words = text.strip().split("/")
    try:
        prefix, address, key, code = words
        server_key = z85.encode(b32decode(key + "=" * (-len(key) % 8))).decode("ascii")
    except ValueError as error:
        raise BadPairingText("The pairing text is not whole") from error
    if prefix != PREFIX or not re.fullmatch(r"[0-9A-Fa-f.:\[\]]+:\d{1,5}", address):
        raise BadPairingText("The pairing text is not one of an EX-4D server")
    return f"tcp://{address}", server_key, code
