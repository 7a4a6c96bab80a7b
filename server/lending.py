# SPDX-License-Identifier: Apache-2.0
"""One job on several workers' GPUs while the queue is short, and each worker on its own again when others wait.

A worker sees the GPUs that it was started with. To lend its own, an idle worker ends, and the one that has the job
starts anew with all of them; it keeps them between jobs until another worker needs its own. A job that runs keeps what
it has.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .devices import Device, device_of
from .executor import LocalExecutor

QUIET_S = 60.0  # no lending so soon after a job had to wait: models would be loaded again and again


def shares_gpus(kind: str, params: Mapping[str, Any]) -> bool:
    """Whether a job's work is spread over all GPUs that its worker sees: painting with the network is."""
    return kind in ("take", "generate") and params.get("engine") != "preview" and params.get("quality") != "reference"


class Lending:
    """Who has which GPUs.

    Args:
        executors: on this machine.
        most: GPUs for one job; 1 to lend none.
        quiet_s: see `QUIET_S`.
    """

    def __init__(self, executors: Sequence[LocalExecutor], most: int, quiet_s: float = QUIET_S) -> None:
        self._executors = executors
        self._most = most
        self._quiet_s = quiet_s
        self._crowded_s = -quiet_s  # when a job last had to wait

    def holds_back(self, executor: LocalExecutor, others_wait: bool, busy: Collection[object]) -> bool:
        """Whether an executor must not take a job: another one has its GPUs, for a job that runs or for this one.

        Args:
            executor: could take it otherwise.
            others_wait: more jobs than this one wait.
            busy: the executors that have jobs.
        """
        holders = [
            other
            for other in self._executors
            if other is not executor and _is_wide(other) and _overlap(other.using, executor.own)
        ]
        return any(other in busy or (other.warm and not others_wait) for other in holders)

    def share_out(self, executor: LocalExecutor, wide: bool, others_wait: bool, busy: Collection[object]) -> None:
        """Give an executor what the job that it takes should have.

        Args:
            executor: takes a job.
            wide: the job's work can be spread.
            others_wait: other jobs do.
            busy: the executors that have jobs.
        """
        now = time.monotonic()
        if others_wait:
            self._crowded_s = now
        idle = [other for other in self._executors if other is not executor and other not in busy]
        if others_wait or not executor.own.gpus:
            device = executor.own
        elif wide and (now - self._crowded_s >= self._quiet_s or not executor.warm):
            device = self._joined(executor, idle)
        else:
            device = executor.using if executor.using.gpus else executor.own
        for other in idle:
            if device is not executor.own and _overlap(other.own, device):
                other.use(Device(f"{other.own.name}, lent", {}))
            elif _is_wide(other) and _overlap(other.using, device):
                other.use(other.own)
        executor.use(device)

    def _joined(self, executor: LocalExecutor, idle: Sequence[LocalExecutor]) -> Device:
        """An executor's own GPUs and those of idle ones."""
        gpus = list(executor.own.gpus)
        for other in idle:
            more = [gpu for gpu in other.own.gpus if gpu not in gpus]
            if len(gpus) + len(more) <= self._most:
                gpus += more
        return executor.own if len(gpus) == len(executor.own.gpus) else device_of(gpus)


def _is_wide(executor: LocalExecutor) -> bool:
    return len(executor.using.gpus) > len(executor.own.gpus)


def _overlap(one: Device, other: Device) -> bool:
    return not {gpu.uuid for gpu in one.gpus}.isdisjoint(gpu.uuid for gpu in other.gpus)
