# SPDX-License-Identifier: Apache-2.0
"""A process that the server takes for a worker, and that has a worker on a Ray cluster do the work (ray_host.py).

One for each place on the cluster. It is the actor's owner: when it ends, however it ends, Ray ends the actor, and the
worker with it. It owns no job: attempts, order, results and cancelling stay with the server.
"""

import argparse
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from ex4d.errors import Cancelled, Ex4dError, MachineError
from ex4d.pipes import take_pipes
from ex4d.ray_cluster import Cluster, join_cluster

from .failures import classify
from .log import JOB_LOG_BYTES
from .pipe import DEFAULT_RUNNER, read_message, write_message
from .ray_files import fetch, same_folder, send_inputs
from .ray_host import RayHost, code_id
from .worker import ALIVE_INTERVAL_S, die_with_parent

HEAR_S = 5.0  # the actor answers at least so often
PATIENCE_S = 5.0  # for a place on the cluster; then people are told that we wait
ANOTHER_S = 0.1
CALLS = 6  # of the actor that may run at a time: one waits in `hear`


class Bridge:
    """Passes jobs on to an actor, and what it says back to the server."""

    def __init__(self, cluster: Cluster, gpus: int, runner: str, commands: BinaryIO, reports: BinaryIO) -> None:
        self._cluster = cluster
        self._gpus = gpus
        self._runner = runner
        self._host: Any = None  # the actor
        self._commands = commands
        self._reports = reports
        self._saying = threading.Lock()
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._job: dict[str, Any] = {}
        self._node_folder = ""  # of the job on the node; empty when it works in ours
        self._moving = threading.Lock()  # a job to the actor, or the place to another actor
        self._turn = threading.Lock()
        self._cancelled = False
        self._begun = False  # the worker has the job
        self._said_s = time.monotonic()
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def work(self) -> None:
        """Get a place on the cluster and do jobs there until the server or the cluster is gone."""
        try:
            join_cluster(self._cluster)
            self._take_place()
        except Ex4dError as error:
            self._say({"t": "refused", "why": str(error)})
            return
        threading.Thread(target=self._follow, name="reports", daemon=True).start()
        while True:
            job = self._jobs.get()
            with self._moving:
                begun = self._begin(job)
            if not begun:  # the worker died before: another one comes
                time.sleep(ANOTHER_S)
                self._jobs.put(job)

    def _take_place(self) -> None:
        """Start an actor, waiting until the cluster has room, and tell the server where it is; or MachineError."""
        import ray
        from ray.exceptions import RayError

        gpus = self._gpus
        # No restart and no retry by Ray: the server counts the attempts.
        actor = ray.remote(RayHost).options(
            num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=CALLS
        )
        self._host = actor.remote(self._runner)
        hello = self._host.hello.remote()
        if not ray.wait([hello], timeout=PATIENCE_S)[0]:
            self._say({"t": "waiting", "why": f"waits until the cluster has {gpus or 'a'} {'GPU' if gpus else 'CPU'}"})
        try:
            who = ray.get(hello)
        except RayError as error:
            raise MachineError(
                f"No worker could be started on a node ({_last_line(error)}). Every node needs this EX-4D release in "
                "the Python environment of its `ray start`."
            ) from error
        if who["code"] != code_id(self._runner):
            raise MachineError(
                f"The node {who['node']} has another EX-4D ({who['code'].split()[0]}) than this server. Install the "
                "same release on both."
            )
        self._say({"t": "ready", "where": f"Ray {who['node']}, {'GPU ' + who['gpus'] if gpus else 'CPU'}"})

    # A job's way there

    def _begin(self, job: dict[str, Any]) -> bool:
        """Hand a job to the worker, its files too unless the node sees them. Returns: whether that worker lives."""
        import ray

        try:
            sent = job
            if not self._cluster.share_folder or not same_folder(self._host, Path(job["workdir"])):
                sent = send_inputs(self._host, job, self._tick)
                self._node_folder = sent["workdir"]
            with self._turn:
                if self._cancelled:
                    raise Cancelled("The user stopped the job")
                self._begun = ray.get(self._host.tell.remote(sent))
                return self._begun
        except Cancelled:
            self._say({"t": "cancelled", "last": False})
        except Exception as error:
            self._fail(error)
        return True

    # And back

    def _follow(self) -> None:
        """Pass on what the worker says, until the cluster is gone."""
        import ray

        try:
            while True:
                messages, log = ray.get(self._host.hear.remote(HEAR_S))
                self._keep_log(log)
                for message in messages:
                    self._take(message)
        except Exception as error:
            self._fail(error)
            os._exit(1)

    def _take(self, message: dict[str, Any]) -> None:
        with self._turn:
            begun, self._begun = self._begun, self._begun and message["t"] in ("alive", "progress")
        if message["t"] == "lost":
            sys.stderr.write("".join(f"{line}\n" for line in message.pop("said")))
            if begun:
                self._say(message)
            self._replace()
        elif message["t"] == "done" and self._node_folder:
            try:
                self._say({**message, "outputs": self._fetched(message["outputs"])})
            except Exception as error:
                self._fail(error)
        else:
            self._say(message)

    def _replace(self) -> None:
        """Have another actor for a worker that died."""
        import ray

        with self._moving:
            ray.kill(self._host)
            try:
                self._take_place()
            except MachineError as error:
                self._say({"t": "refused", "why": str(error)})
                os._exit(1)

    def _fetched(self, outputs: dict[str, str]) -> dict[str, str]:
        """Bring what the job made. Returns: role -> where it lies now"""
        workdir = Path(self._job["workdir"])
        return {role: fetch(self._host, self._node_folder, path, workdir, self._live) for role, path in outputs.items()}

    def _keep_log(self, added: bytes) -> None:
        """Add to the job's log what its worker wrote, as much as a job may write."""
        path = Path(self._job["log"]) if added and self._job else None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if file.tell() < JOB_LOG_BYTES:
                file.write(added)

    # The server

    def _listen(self) -> None:
        while (command := read_message(self._commands)) is not None:
            with self._turn:
                if command["t"] == "run":
                    self._job, self._node_folder, self._cancelled, self._begun = command, "", False, False
                    self._jobs.put(command)
                elif command["t"] == "cancel":
                    self._cancelled = True
                    if self._begun:
                        self._host.tell.remote({"t": "cancel"})
        os._exit(0)  # the server is gone; Ray ends the actor

    def _fail(self, error: Exception) -> None:
        """Say that it is the job's fault, or that the cluster is gone."""
        from ray.exceptions import RayError, RayTaskError

        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            why = f"The cluster lost the worker: {_last_line(error)}"
            self._say({"t": "lost", "exit_code": 1, "why": why, "last": True})
            os._exit(1)
        failure = classify(getattr(error, "cause", error))  # what was raised on the node
        self._say({"t": "failed", "code": failure.code, "title": failure.title, "last": failure.spoilt})

    def _tick(self) -> None:
        """A chunk of an input has gone."""
        if self._cancelled:
            raise Cancelled("The user stopped the job")
        self._live()

    def _live(self) -> None:
        """Tell that files move."""
        if time.monotonic() - self._said_s > ALIVE_INTERVAL_S:
            self._say({"t": "alive"})

    def _say(self, message: dict[str, Any]) -> None:
        self._said_s = time.monotonic()
        try:
            with self._saying:
                write_message(self._reports, message)
        except OSError:
            os._exit(0)  # the server is gone


def _last_line(error: Exception) -> str:
    """What Ray's long texts say at their end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def main() -> int:
    parser = argparse.ArgumentParser(description="Stands in for a worker on a Ray cluster; started by the server.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--allow-open-cluster", action="store_true")
    parser.add_argument("--no-shared-folder", action="store_true")
    parser.add_argument("--job-runner", default=DEFAULT_RUNNER)
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    commands, reports = take_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster = Cluster(arguments.address, arguments.allow_open_cluster, not arguments.no_shared_folder)
    Bridge(cluster, arguments.gpus, arguments.job_runner, commands, reports).work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
