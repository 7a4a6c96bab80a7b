# SPDX-License-Identifier: Apache-2.0
"""The server in the foreground: `python -m server`. `ex4d server start` runs the same in the background."""

import argparse
import asyncio
import logging
import secrets
import signal
import sys
from pathlib import Path

import zmq
import zmq.asyncio

from ex4d.errors import Ex4dError
from shared_protocol.connection import home_folder

from .artifacts import Artifacts
from .executor import CANCEL_GRACE_S, LocalExecutor
from .front import MAX_SOCKETS, Front
from .jobs import JobQueue
from .log import start_log
from .runtime import (
    EXIT_ALREADY_RUNNING,
    VERSION,
    AlreadyRunning,
    Home,
    check_curve,
    read_or_make_keys,
    take_lock,
    write_connection,
)
from .store import Store
from .worker import DEFAULT_RUNNER
from .zap import answer_zap, bind_zap


async def serve(home: Home, boot_id: str, job_runner: str, cancel_grace_s: float) -> None:
    """Run a server until it is told to stop."""
    log = logging.getLogger("ex4d.server")
    keys = read_or_make_keys(home)
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    zap = bind_zap(context)
    artifacts = Artifacts(home.artifacts)
    front = Front(home, keys, boot_id, artifacts, context)
    store = Store(home.database)
    executor = LocalExecutor(home.logs, job_runner, cancel_grace_s)
    front.queue = JobQueue(store, artifacts, executor, home.work, home.logs, front.publish)
    front.worker_pid = lambda: executor.worker_pid
    front.queue.recover()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(front.stopping.set))
    endpoint = front.bind()
    tasks = [
        asyncio.create_task(answer_zap(zap, {keys.client_key})),
        asyncio.create_task(front.serve()),
        asyncio.create_task(front.queue.work()),
        asyncio.create_task(front.stopping.wait()),
    ]
    write_connection(home, endpoint, keys, boot_id)
    log.info("server %s listens at %s, home %s", VERSION, endpoint, home.folder)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that broke ends the server, loudly
    finally:
        home.connection_file.unlink(missing_ok=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        executor.end()
        front.close()
        zap.close()
        context.term()
        store.close()
        log.info("server stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m server", description="The EX-4D job server, in the foreground.")
    parser.add_argument("--job-runner", default=DEFAULT_RUNNER, help="module:function that does a job (for tests)")
    parser.add_argument("--cancel-grace-s", type=float, default=CANCEL_GRACE_S, help="before a worker is killed")
    parser.add_argument("--boot-id", default=secrets.token_hex(16), help="by which its starter recognises it")
    arguments = parser.parse_args()
    home = Home(Path(home_folder()))
    try:
        check_curve()
        home.create()
        lock = take_lock(home)
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_ALREADY_RUNNING
    except (Ex4dError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    log = start_log(home.log, "ex4d.server")
    try:
        # pyzmq needs a selector loop, which is not Windows' default.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve(home, arguments.boot_id, arguments.job_runner, arguments.cancel_grace_s))
    except Exception as error:
        log.exception("the server ends because of a defect")
        sys.stderr.write(f"{type(error).__name__}: {error} (log: {home.log})\n")
        return 1
    finally:
        lock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
