# SPDX-License-Identifier: Apache-2.0
"""`ex4d server`: its actions, and starting and stopping. The others are in `cli_show.py` and `cli_clients.py`."""

import argparse
import contextlib
import json
import math
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ex4d.errors import Ex4dError
from ex4d.pipes import helper_environment
from shared_protocol.client import Client
from shared_protocol.connection import home_folder, read_connection
from shared_protocol.errors import LinkError, NotRunning, ServerLost, WrongServerKey
from shared_protocol.launch import COMMAND_FILE, NO_WINDOW
from shared_protocol.messages import ServerState

from . import farm
from .cli_answers import ANSWER_TIMEOUT_S, GONE, complain, say, tell
from .cli_clients import clients, forget, join, pair
from .cli_show import cancel, jobs, logs, metrics, prioritise, status
from .runtime import EXIT_ALREADY_RUNNING, AlreadyRunning, Home, check_curve, take_lock

START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 20.0


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `server` and `run` to the ex4d command line."""
    farm.add_command(subparsers)
    server = subparsers.add_parser("server", help="the job server", epilog="example: ex4d server start")
    actions = server.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(run: Callable[[argparse.Namespace], int], example: str = "") -> argparse.ArgumentParser:
        text = (run.__doc__ or "").strip().rstrip(".")
        name = run.__name__
        action: argparse.ArgumentParser = actions.add_parser(
            name,
            help=text[0].lower() + text[1:],
            description=f"{text}.",
            epilog=f"example: ex4d server {name} {example}",
        )
        action.add_argument("--json", action="store_true", help="answer with one JSON object")
        action.set_defaults(run=run)
        return action

    action = add(start)
    action.add_argument("--listen", metavar="IP[:PORT]", help="listen there too, once a client is paired")
    action.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one for each GPU)")
    action.add_argument("--gpus-per-worker", type=int, metavar="N", help="more than 1: one job at a time, done sooner")
    action.add_argument("--most-gpus", type=int, metavar="N", help="for one job while no other waits (default: all)")
    action.add_argument("--cache-gb", type=float, metavar="GB", help="for plates and results")
    action.add_argument("--executor", choices=["local", "ray"], help="where jobs run: this machine, or a Ray cluster")
    action.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster's head")
    action.add_argument("--allow-open-cluster", action="store_true", help="use a Ray cluster that asks for no token")
    action.add_argument(
        "--no-shared-folder", action="store_true", help="send files through Ray even when its nodes see this folder"
    )
    action.add_argument("--job-runner", help=argparse.SUPPRESS)
    action = add(stop)
    action.add_argument("--drain", action="store_true", help="let running jobs end first, however long they take")
    asking = [add(status), add(jobs), add(cancel, "1f0c"), add(metrics), add(prioritise, "1f0c 5")]
    asking[1].add_argument("--limit", type=int, default=20, metavar="N", help="of each state (default 20)")
    for action in (asking[2], asking[4]):
        action.add_argument("job", metavar="JOB", help="its id, or how that begins")
    asking[4].add_argument("priority", type=int, metavar="N", help="0 is usual, -100 to 100")
    action = add(logs, "-n 50")
    asking.append(action)
    action.add_argument("job", nargs="?", metavar="JOB", help="show the log of this job instead of the server's")
    action.add_argument("-n", "--lines", type=int, default=30, metavar="N", help="how many lines (default 30)")
    action.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    for action in asking:
        action.add_argument("--server", metavar="NAME", help="one on another machine (default: this user's own)")
    action = add(pair)
    action.add_argument("--minutes", type=int, choices=range(1, 61), default=10, metavar="N", help="the code's life")
    action = add(join, "ex4d/192.168.1.5:47411/KEY/CODE")
    action.add_argument("text", metavar="TEXT", help="the line that `ex4d server pair` printed")
    action.add_argument("--name", help="under which the server's user knows this client (default user@machine)")
    add(forget, "192.168.1.5_47411").add_argument("name", metavar="NAME", help="as `join` said it")
    action = add(clients, "--remove anna@ws7")
    action.add_argument("--add", metavar="KEY", help="let the client with this public key in")
    action.add_argument("--name", help="for --add")
    action.add_argument("--remove", metavar="NAME", help="refuse this client from now on")


def start(arguments: argparse.Namespace) -> int:
    """Start the server in the background; does nothing when it runs already."""
    home = Home(home_folder())
    try:
        check_curve()
        home.create()
        (home.folder / COMMAND_FILE).write_text(json.dumps([sys.executable, "-P", "-m", "ex4d"]), encoding="utf-8")
    except (Ex4dError, OSError) as error:
        return complain(arguments, error)
    found = _ask_quietly()
    if found:
        return tell(arguments, *found, "already running")
    boot_id = secrets.token_hex(16)  # process ids would not do: a Windows environment's python is a launcher
    options = ["--boot-id", boot_id]
    valued = ("job_runner", "listen", "workers", "gpus_per_worker", "most_gpus", "cache_gb", "executor", "address")
    for name in valued:
        if getattr(arguments, name) is not None:
            options += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    for name in ("allow_open_cluster", "no_shared_folder"):
        if getattr(arguments, name):
            options.append(f"--{name.replace('_', '-')}")
    process = _spawn(home, options)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        exit_code = process.poll()
        found = _ask_quietly()
        if found and found[1].boot_id == boot_id:
            return tell(arguments, *found, "started")
        if found:  # somebody else started one in the same moment; ours ends when it sees that
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER_TIMEOUT_S)
            return tell(arguments, *found, "already running")
        if exit_code == EXIT_ALREADY_RUNNING:  # by one that is still starting, or not yet gone
            time.sleep(0.2)
            process = _spawn(home, options)
        elif exit_code is not None:
            said = home.output_log.read_text(encoding="utf-8", errors="replace").strip()
            return complain(arguments, LinkError(said or f"The server ended at once, see {home.log}"))
        time.sleep(0.05)
    return complain(arguments, LinkError(f"The server did not answer within {START_TIMEOUT_S:g} s, see {home.log}"))


def stop(arguments: argparse.Namespace) -> int:
    """End the server and wait until it is gone; its queue is kept."""
    home = Home(home_folder())
    try:
        with Client(read_connection()) as client:
            client.hello(ANSWER_TIMEOUT_S)
            with contextlib.suppress(ServerLost):  # it may be gone before its answer has left
                client.stop_server(arguments.drain)
    except (NotRunning, WrongServerKey):
        home.connection_file.unlink(missing_ok=True)  # left by a server that was killed
        return say(arguments, {"running": False}, "No server is running")
    except LinkError as error:
        return complain(arguments, error)
    deadline = math.inf if arguments.drain else time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(AlreadyRunning):
            take_lock(home).close()
            return say(arguments, {"running": False}, "Stopped")
        time.sleep(0.05)
    return complain(arguments, LinkError(f"The server did not stop within {STOP_TIMEOUT_S:g} s, see {home.log}"))


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
    except GONE:
        return None


def _ask_quietly() -> tuple[str, ServerState] | None:
    with contextlib.suppress(LinkError):
        return ask_running()
    return None


def _spawn(home: Home, options: list[str]) -> "subprocess.Popen[bytes]":
    """Start the server as a process that outlives this one and its terminal."""
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
            env=helper_environment({"EX4D_HOME": str(home.folder)}),
            **detached,
        )
