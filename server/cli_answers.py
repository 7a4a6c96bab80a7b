# SPDX-License-Identifier: Apache-2.0
"""How the server's commands find the server and answer: lines for people, JSON for scripts, exit codes for both."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from shared_protocol.client import Client
from shared_protocol.connection import Connection, read_connection
from shared_protocol.errors import BadConnectionFile, LinkError, NotRunning, WrongServerKey
from shared_protocol.messages import ServerState
from shared_protocol.pairing import paired_servers

EXIT_OK, EXIT_FAILED, EXIT_NOT_RUNNING = 0, 1, 3
ANSWER_TIMEOUT_S = 5.0
GONE = (NotRunning, WrongServerKey, BadConnectionFile)  # the file outlived its server; the port may be reused


def chosen_connection(arguments: argparse.Namespace) -> Connection:
    """The server that --server names, else this user's own.

    Raises:
        LinkError: there is none.
    """
    name = getattr(arguments, "server", None)
    if name is None:
        return read_connection()
    servers = paired_servers()
    if name not in servers:
        raise not_paired_with(name)
    return read_connection(servers[name])


def not_paired_with(name: str) -> NotRunning:
    """That there is no paired server of this name."""
    known = ", ".join(paired_servers()) or "none"
    return NotRunning(f"No server called {name} is paired with this user", f"Known ones: {known}.")


def with_server(arguments: argparse.Namespace, ask: Callable[[Client], int]) -> int:
    """Ask the server something and answer; says so when there is none."""
    try:
        with Client(chosen_connection(arguments), "ex4d command line") as client:
            client.hello(ANSWER_TIMEOUT_S)
            return ask(client)
    except GONE as error:
        say(arguments, {"running": False}, f"{error}. {error.hint}")
        return EXIT_NOT_RUNNING
    except LinkError as error:
        return complain(arguments, error)


def tell(arguments: argparse.Namespace, endpoint: str, state: ServerState, word: str) -> int:
    """Say how a server is."""
    work = f"running {state.job_kind}" if state.job_id else "idle"
    lines = [f"Server {state.server_version} {word} at {endpoint} (pid {state.pid}), {state.queued} queued, {work}"]
    if len(state.workers) > 1:
        lines += [f"{worker.device}: {worker.job_kind or 'idle'}" for worker in state.workers]
    if state.draining:
        lines.append("It stops when what runs has ended.")
    lines.append(f"log: {state.log_path}")
    return say(arguments, {"running": True, "endpoint": endpoint, "word": word, **asdict(state)}, "\n".join(lines))


def say(arguments: argparse.Namespace, data: Any, text: str) -> int:
    """Answer in the form that was asked for."""
    print(json.dumps(data) if arguments.json else text)
    return EXIT_OK


def complain(arguments: argparse.Namespace, error: Exception) -> int:
    """Say what went wrong and what to do."""
    hint = error.hint if isinstance(error, LinkError) else ""
    if arguments.json:
        print(json.dumps({"running": None, "error": str(error), "hint": hint}))
    print(f"{error}\n{hint}".strip(), file=sys.stderr)
    return EXIT_FAILED
