# SPDX-License-Identifier: Apache-2.0
"""Runs tasks on a Ray cluster. The process that it owns is a bridge to a worker there (ray_bridge.py)."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ex4d.ray_cluster import Cluster

from .devices import Device
from .executor import LocalExecutor, Outcome, Patience, Report, Task, WorkerLost
from .pipe import DEFAULT_RUNNER

RETRY_S, LONGEST_RETRY_S = 1.0, 30.0  # waits before a cluster that refused us is asked again


class RayExecutor(LocalExecutor):
    """Runs one task at a time in a worker on a cluster, which has a place for it as long as there is work.

    Args:
        logs: where what the bridge prints goes.
        cluster: on which.
        gpus: that a worker gets; 0 for none.
        runner, patience, number: see `LocalExecutor`.
    """

    def __init__(
        self,
        logs: Path,
        cluster: Cluster,
        gpus: int,
        runner: str = DEFAULT_RUNNER,
        patience: Patience | None = None,
        number: int = 0,
    ) -> None:
        super().__init__(logs, runner, patience, number, Device(f"Ray {cluster.address}", cluster.environment))
        self._cluster = cluster
        self._gpus = gpus
        self._placed = False

    @property
    def ready(self) -> bool:
        """Whether there is a worker on the cluster."""
        return self._placed and self._process is not None and self._process.alive

    async def make_ready(self) -> None:
        """Get a worker on the cluster, waiting as long as it has no room or is not there."""
        retry_s = RETRY_S
        try:
            while not await self._connect():
                self.end()
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        except BaseException:
            self.end()
            raise
        self._placed = True

    async def run(self, task: Task, on_report: Callable[[Report], None], cancel: asyncio.Event) -> Outcome:
        """Do a task; see `Executor`."""
        if not self.ready:
            return WorkerLost(1, "The cluster ended the worker before it had begun with the job")
        outcome = await super().run(task, on_report, cancel)
        if isinstance(outcome, WorkerLost):
            self._placed = False  # the bridge gets another place, unless it is gone itself
        return outcome

    def end(self) -> int:
        """Give the place back."""
        self._placed = False
        return super().end()

    async def _connect(self) -> bool:
        """Start a bridge and wait for its place. Returns: whether it got one."""
        process = self._warm_process()
        while (message := await process.inbox.get()) is not None:
            if message["t"] == "ready":
                self._tell(message["where"])
                return True
            if message["t"] in ("waiting", "refused"):
                self._tell(f"Ray {self._cluster.address}: {message['why']}")
        return False

    def _tell(self, device: str) -> None:
        if device != self.device:
            self._log.info("worker place %d: %s", self._number, device)
        self.using = replace(self.using, name=device)

    def _command(self) -> list[str]:
        command = ["server.ray_bridge", "--address", self._cluster.address, "--gpus", str(self._gpus)]
        command += ["--allow-open-cluster"] if self._cluster.allow_open else []
        command += [] if self._cluster.share_folder else ["--no-shared-folder"]
        return [*command, "--job-runner", self._runner, "--parent", str(os.getpid())]
