# SPDX-License-Identifier: Apache-2.0
"""The server in the foreground: `python -m server`. `ex4d server start` runs the same in the background."""

import argparse
import asyncio
import logging
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.asyncio

from ex4d.errors import Ex4dError
from ex4d.ray_cluster import Cluster
from shared_protocol.connection import home_folder

from .artifacts import Artifacts
from .clients import Clients
from .estimates import Estimator
from .executor import Patience
from .front import MAX_SOCKETS, Front
from .housekeeping import CACHE_GB, Housekeeper
from .jobs import IDLE_S, JobQueue
from .log import start_log
from .memory import share_one_heap
from .metrics import Metrics
from .pipe import DEFAULT_RUNNER
from .placing import Wanted, local_workers, ray_workers
from .runtime import (
    EXIT_ALREADY_RUNNING,
    VERSION,
    AlreadyRunning,
    Home,
    check_curve,
    machine_boot,
    read_or_make_keys,
    take_lock,
    write_connection,
)
from .store import Store
from .zap import answer_zap, bind_zap


@dataclass(frozen=True)
class Options:
    """How a server shall work."""

    boot_id: str
    wanted: Wanted = field(default_factory=Wanted)
    cache_gb: float = CACHE_GB
    listen: str | None = None  # IP[:PORT] beside this machine
    cluster: Cluster | None = None  # where the workers run instead of here
    idle_s: float = IDLE_S


async def serve(home: Home, options: Options) -> None:
    """Run a server until it is told to stop."""
    log = logging.getLogger("ex4d.server")
    keys = read_or_make_keys(home)
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    zap = bind_zap(context)
    artifacts = Artifacts(home.artifacts)
    clients = Clients(home.clients, keys.client_key)
    front = Front(home, keys, clients, options.boot_id, artifacts, context, options.listen)
    store = Store(home.database)
    cluster, wanted = options.cluster, options.wanted
    placed = ray_workers(home.logs, wanted, cluster, options.boot_id) if cluster else local_workers(home.logs, wanted)
    front.queue = JobQueue(
        store,
        artifacts,
        placed.executors,
        home.work,
        home.logs,
        front.publish,
        placed.circumstances,
        machine_boot(),
        options.idle_s,
        placed.lending,
    )
    front.queue.recover()
    housekeeper = Housekeeper(store, artifacts, home.logs, options.cache_gb * 1e9)
    front.metrics = Metrics(store, placed.executors, housekeeper)
    front.estimator = Estimator(store, elsewhere=cluster is not None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(front.stopping.set))
    front.listening.start()
    endpoint = front.listening.local
    tasks = [
        asyncio.create_task(answer_zap(zap, clients.may_knock)),
        asyncio.create_task(front.serve()),
        asyncio.create_task(front.queue.work()),
        asyncio.create_task(housekeeper.work()),
        asyncio.create_task(front.stopping.wait()),
    ]
    write_connection(home, endpoint, keys, options.boot_id)
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
        for executor in placed.executors:
            executor.end()
        front.close()
        zap.close()
        context.term()
        store.close()
        log.info("server stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m server", description="The EX-4D job server, in the foreground.")
    parser.add_argument("--job-runner", default=DEFAULT_RUNNER, help="module:function that does a job (for tests)")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one for each GPU)")
    parser.add_argument(
        "--gpus-per-worker",
        type=int,
        default=1,
        metavar="N",
        help="1 (default): many jobs at a time; more: one job sooner",
    )
    parser.add_argument(
        "--most-gpus", type=int, metavar="N", help="for one job while no other waits (default: all; 1: lend none)"
    )
    parser.add_argument(
        "--cache-gb", type=float, default=CACHE_GB, metavar="GB", help="for plates and results (default %(default)g)"
    )
    parser.add_argument(
        "--listen", metavar="IP[:PORT]", help="listen there too, once a client is paired (0.0.0.0: on all addresses)"
    )
    parser.add_argument("--executor", choices=["local", "ray"], default="local", help="where jobs run")
    parser.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster's head")
    parser.add_argument("--allow-open-cluster", action="store_true", help="use a Ray cluster that asks for no token")
    parser.add_argument("--no-shared-folder", action="store_true", help="send files through Ray in any case")
    parser.add_argument(
        "--idle-s", type=float, default=IDLE_S, metavar="S", help="end idle workers after this (default %(default)g)"
    )
    for name, text in (
        ("cancel", "a cancelled job goes on"),
        ("silence", "it gives no sign of life"),
        ("stall", "its job makes no progress"),
    ):
        seconds = getattr(Patience(), f"{name}_s")
        help_text = f"kill a worker when {text} for so long (default {seconds:g})"
        parser.add_argument(f"--{name}-s", type=float, default=seconds, metavar="S", help=help_text)
    parser.add_argument("--boot-id", default=secrets.token_hex(16), help="by which its starter recognises it")
    arguments = parser.parse_args()
    if (arguments.executor == "ray") != (arguments.address is not None):
        parser.error("--executor ray and --address HOST:PORT belong together")
    home = Home(Path(home_folder()))
    try:
        cluster = (
            Cluster(arguments.address, arguments.allow_open_cluster, not arguments.no_shared_folder)
            if arguments.address
            else None
        )
        options = Options(
            boot_id=arguments.boot_id,
            wanted=Wanted(
                arguments.job_runner,
                arguments.workers,
                max(1, arguments.gpus_per_worker),
                arguments.most_gpus,
                Patience(arguments.cancel_s, arguments.silence_s, arguments.stall_s),
            ),
            cache_gb=arguments.cache_gb,
            listen=arguments.listen,
            cluster=cluster,
            idle_s=arguments.idle_s,
        )
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
    share_one_heap()
    try:
        # pyzmq needs a selector loop, which is not Windows' default.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve(home, options))
    except Ex4dError as error:  # an address that cannot be listened on
        log.error("%s", error)
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception as error:
        log.exception("the server ends because of a defect")
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        sys.stderr.write(f"{type(error).__name__}: {error} (log: {home.log})\n")
        return 1
    finally:
        lock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
