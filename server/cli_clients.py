# SPDX-License-Identifier: Apache-2.0
"""`ex4d server pair|join|forget|clients`: who may use a server over the network."""

import argparse
import getpass
import re
import socket
import time
from dataclasses import asdict

from shared_protocol.client import Client
from shared_protocol.errors import LinkError
from shared_protocol.messages import AddClient, AskClients, BeginPairing, ClientList, KnownClient, PairingCode
from shared_protocol.messages import RemoveClient as Remove
from shared_protocol.pairing import forget as forget_server
from shared_protocol.pairing import join as join_server
from shared_protocol.pairing import pairing_text

from .cli_answers import complain, not_paired_with, say, with_server

NOT_LISTENING = (
    "The server listens on its own machine only, so only users of this machine can use the line above.\n"
    "For others start it with an address of this machine: ex4d server start --listen 192.168.1.5"
)
ANY_ADDRESS = "Put an address of this machine in the place of 0.0.0.0 first."


def pair(arguments: argparse.Namespace) -> int:
    """Print the line with which one other client can let itself in."""

    def begin(client: Client) -> int:
        code = client.request(BeginPairing(arguments.minutes * 60.0), PairingCode)
        line = pairing_text(code.endpoint, code.server_key, code.code)
        lifetime = "a minute" if arguments.minutes == 1 else f"{arguments.minutes} minutes"
        text = f"On the other machine, within {lifetime}:\n\n  ex4d server join {line}\n"
        if "127.0.0.1" in code.endpoint:
            text += f"\n{NOT_LISTENING}"
        elif "0.0.0.0" in code.endpoint:  # noqa: S104  (compared, not bound)
            text += f"\n{ANY_ADDRESS}"
        return say(arguments, {"text": line, "minutes": arguments.minutes}, text)

    return with_server(arguments, begin)


def join(arguments: argparse.Namespace) -> int:
    """Pair with a server on another machine, by the line that its user handed over."""
    try:
        path = join_server(arguments.text, arguments.name or own_name())
    except LinkError as error:
        return complain(arguments, error)
    text = f"Paired. Ask it with: ex4d server status --server {path.stem}\nconnection file: {path}"
    return say(arguments, {"server": path.stem, "connection_file": str(path)}, text)


def forget(arguments: argparse.Namespace) -> int:
    """Undo `join`: drop what is needed to reach a server on another machine."""
    if not forget_server(arguments.name):
        return complain(arguments, not_paired_with(arguments.name))
    text = f"Forgotten. Its user may refuse this machine there too: ex4d server clients --remove {own_name()}"
    return say(arguments, {"server": arguments.name}, text)


def clients(arguments: argparse.Namespace) -> int:
    """List who may connect; add one by its key, or remove one."""

    def change(client: Client) -> int:
        if arguments.add:
            client.request(AddClient(arguments.add, arguments.name or "client"), KnownClient)
        if arguments.remove:
            client.request(Remove(arguments.remove), ClientList)
        found = client.request(AskClients(), ClientList)
        lines = [f"open at {', '.join(found.listens)}"]
        for each in found.clients:
            lines.append(
                f"{each.name:20} {each.key}  since {time.strftime('%Y-%m-%d', time.localtime(each.added_at_s))}"
            )
        return say(arguments, asdict(found), "\n".join(lines if found.clients else [*lines, "No other clients"]))

    return with_server(arguments, change)


def own_name() -> str:
    """user@machine, as far as a name may hold it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        user = "user"
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", f"{user}@{socket.gethostname()}").lstrip("_.@-")[:64] or "client"
