# SPDX-License-Identifier: Apache-2.0
"""Where the jobs run: worker processes on this machine, one for each GPU, or workers on a Ray cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ex4d.errors import InputError
from ex4d.ray_cluster import Cluster, count_gpus

from .devices import find_gpus, worker_devices
from .executor import LocalExecutor, Patience
from .fingerprint import Circumstances
from .lending import Lending
from .pipe import DEFAULT_RUNNER
from .ray_executor import RayExecutor


class Placed(NamedTuple):
    """Who does the jobs."""

    executors: Sequence[LocalExecutor]
    circumstances: Circumstances  # what their results depend on
    lending: Lending | None  # of GPUs among them


@dataclass(frozen=True)
class Wanted:
    """How many workers, and for what."""

    runner: str = DEFAULT_RUNNER  # module:function that does a job
    workers: int | None = None  # None: one for each GPU
    gpus_per_worker: int = 1
    most_gpus: int | None = None  # for one job while no other waits; None: all of this machine
    patience: Patience = field(default_factory=Patience)


def local_workers(logs: Path, wanted: Wanted) -> Placed:
    """Workers on this machine; see `worker_devices`. Blocks for seconds."""
    gpus = find_gpus()
    executors = [
        LocalExecutor(logs, wanted.runner, wanted.patience, number, device)
        for number, device in enumerate(worker_devices(gpus, wanted.workers, wanted.gpus_per_worker))
    ]
    circumstances = Circumstances(wanted.runner, tuple(gpu.name for gpu in gpus))
    return Placed(executors, circumstances, Lending(executors, wanted.most_gpus or len(gpus)))


def ray_workers(logs: Path, wanted: Wanted, cluster: Cluster, boot_id: str) -> Placed:
    """Places on a cluster: by default as many as it has GPUs for now, one on the CPU where it has none.

    Args:
        boot_id: of this server. The nodes' packages and weights are not known here, so a result is used again only as
            long as the server runs.

    Raises:
        MachineError: there is no such cluster, or it is not safe to use. Blocks for seconds.
        InputError: it has not so many GPUs.
    """
    gpus = count_gpus(cluster)
    each = wanted.gpus_per_worker if gpus else 0
    if each > gpus:
        raise InputError(f"--gpus-per-worker asks for {each} GPUs, the cluster has {gpus}.")
    executors = [
        RayExecutor(logs, cluster, each, wanted.runner, wanted.patience, number)
        for number in range(wanted.workers or (gpus // each if each else 1))
    ]
    return Placed(executors, Circumstances(wanted.runner, ("ray", cluster.address, boot_id)), None)
