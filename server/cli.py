# SPDX-License-Identifier: Apache-2.0
"""`ex4d server start|stop|status`."""

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from ex4d.errors import Ex4dError
from shared_protocol.client import Client
from shared_protocol.connection import home_folder, read_connection
from shared_protocol.errors import BadConnectionFile, LinkError, NotRunning, ServerLost, WrongServerKey
from shared_protocol.launch import COMMAND_FILE, NO_WINDOW
from shared_protocol.messages import ServerState

from .executor import PACKAGES
from .runtime import EXIT_ALREADY_RUNNING, AlreadyRunning, Home, check_curve, take_lock

EXIT_OK, EXIT_FAILED, EXIT_NOT_RUNNING = 0, 1, 3
START_TIMEOUT_S, STOP_TIMEOUT_S, ANSWER_TIMEOUT_S = 30.0, 20.0, 5.0


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `server` to the ex4d command line."""
    server = subparsers.add_parser(
        "server", help="start, stop and look at the job server", epilog="example: ex4d server start"
    )
    actions = server.add_subparsers(dest="action", required=True, metavar="start|stop|status")
    for name, function, text in (
        ("start", start, "start the server in the background; does nothing when it runs already"),
        ("stop", stop, "end the server; its queue is kept"),
        ("status", status, "tell how the server is; exit code 0 when it runs, 3 when not"),
    ):
        action = actions.add_parser(name, help=text, description=text, epilog=f"example: ex4d server {name}")
        action.add_argument("--json", action="store_true", help="answer with one JSON object")
        if name == "start":
            action.add_argument("--job-runner", help=argparse.SUPPRESS)
        action.set_defaults(run=function)


def start(arguments: argparse.Namespace) -> int:
    """Start a server unless one runs, and return once it answers."""
    home = Home(home_folder())
    try:
        check_curve()
        home.create()
        (home.folder / COMMAND_FILE).write_text(json.dumps([sys.executable, "-P", "-m", "ex4d"]), encoding="utf-8")
    except (Ex4dError, OSError) as error:
        return _complain(arguments, error)
    found = _ask_quietly()
    if found:
        return _tell(arguments, *found, "already running")
    boot_id = secrets.token_hex(16)  # process ids would not do: a Windows environment's python is a launcher
    options = ["--boot-id", boot_id] + (["--job-runner", arguments.job_runner] if arguments.job_runner else [])
    process = _spawn(home, options)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        exit_code = process.poll()
        found = _ask_quietly()
        if found and found[1].boot_id == boot_id:
            return _tell(arguments, *found, "started")
        if found:  # somebody else started one in the same moment; ours ends when it sees that
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER_TIMEOUT_S)
            return _tell(arguments, *found, "already running")
        if exit_code == EXIT_ALREADY_RUNNING:  # by one that is still starting, or not yet gone
            time.sleep(0.2)
            process = _spawn(home, options)
        elif exit_code is not None:
            said = home.output_log.read_text(encoding="utf-8", errors="replace").strip()
            return _complain(arguments, LinkError(said or f"The server ended at once, see {home.log}"))
        time.sleep(0.05)
    return _complain(arguments, LinkError(f"The server did not answer within {START_TIMEOUT_S:g} s, see {home.log}"))


def stop(arguments: argparse.Namespace) -> int:
    """End the server and return once it is gone."""
    home = Home(home_folder())
    try:
        with Client(read_connection()) as client:
            client.hello(ANSWER_TIMEOUT_S)
            with contextlib.suppress(ServerLost):  # it may be gone before its answer has left
                client.stop_server()
    except (NotRunning, WrongServerKey):
        home.connection_file.unlink(missing_ok=True)  # left by a server that was killed
        return _say(arguments, {"running": False}, "No server is running")
    except LinkError as error:
        return _complain(arguments, error)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(AlreadyRunning):
            take_lock(home).close()
            return _say(arguments, {"running": False}, "Stopped")
        time.sleep(0.05)
    return _complain(arguments, LinkError(f"The server did not stop within {STOP_TIMEOUT_S:g} s, see {home.log}"))


def status(arguments: argparse.Namespace) -> int:
    """Tell how the server is."""
    try:
        found = ask_running()
    except LinkError as error:
        return _complain(arguments, error)
    if found is None:
        _say(arguments, {"running": False}, "No server is running. Start one: ex4d server start")
        return EXIT_NOT_RUNNING
    return _tell(arguments, *found, "running")


def ask_running() -> tuple[str, ServerState] | None:
    """The endpoint and state of this user's server; None when there is none.

    Raises:
        LinkError: there is one but it does not answer as it should.
    """
    try:
        connection = read_connection()
        with Client(connection) as client:
            client.hello(ANSWER_TIMEOUT_S)
            return connection.endpoint, client.status()
    except (NotRunning, WrongServerKey, BadConnectionFile):  # the file outlived its server; the port may be reused
        return None


def _ask_quietly() -> tuple[str, ServerState] | None:
    with contextlib.suppress(LinkError):
        return ask_running()
    return None


def _spawn(home: Home, options: list[str]) -> "subprocess.Popen[bytes]":
    """Start the server as a process that outlives this one and its terminal."""
    search_path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
    detached: dict[str, Any] = (
        {"creationflags": NO_WINDOW | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    with home.output_log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "server", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home.folder,
            env={**os.environ, "PYTHONPATH": search_path, "EX4D_HOME": str(home.folder)},
            **detached,
        )


def _tell(arguments: argparse.Namespace, endpoint: str, state: ServerState, word: str) -> int:
    work = f"running {state.job_kind}" if state.job_id else "idle"
    text = f"Server {state.server_version} {word} at {endpoint} (pid {state.pid}), {state.queued} queued, {work}"
    text += f"\nlog: {state.log_path}"
    return _say(arguments, {"running": True, "endpoint": endpoint, "word": word, **asdict(state)}, text)


def _say(arguments: argparse.Namespace, data: dict[str, Any], text: str) -> int:
    print(json.dumps(data) if arguments.json else text)
    return EXIT_OK


def _complain(arguments: argparse.Namespace, error: Exception) -> int:
    hint = error.hint if isinstance(error, LinkError) else ""
    if arguments.json:
        print(json.dumps({"running": None, "error": str(error), "hint": hint}))
    print(f"{error}\n{hint}".strip(), file=sys.stderr)
    return EXIT_FAILED
