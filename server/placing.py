# SPDX-License-Identifier: Apache-2.0
"""Where the jobs run: worker processes on this machine, one for each GPU, or workers on a Ray cluster."""

from collections.abc import Sequence
from pathlib import Path

from ex4d.errors import InputError

from .devices import find_gpus, worker_devices
from .executor import LocalExecutor, Patience
from .fingerprint import Circumstances
from .ray_cluster import Cluster, count_gpus
from .ray_executor import RayExecutor

Placed = tuple[Sequence[LocalExecutor], Circumstances]
"""Who does the jobs, and what their results depend on."""


def local_workers(logs: Path, runner: str, patience: Patience, workers: int | None, gpus_per_worker: int) -> Placed:
    """Workers on this machine; see `worker_devices`. Blocks for seconds."""
    gpus = find_gpus()
    executors = [
        LocalExecutor(logs, runner, patience, number, device.name, device.environment)
        for number, device in enumerate(worker_devices(gpus, workers, gpus_per_worker))
    ]
    return executors, Circumstances(runner, tuple(gpu.name for gpu in gpus))


def ray_workers(
    logs: Path,
    runner: str,
    patience: Patience,
    workers: int | None,
    gpus_per_worker: int,
    cluster: Cluster,
    boot_id: str,
) -> Placed:
    """Places on a cluster: by default as many as it has GPUs for now, one on the CPU where it has none.

    Args:
        boot_id: of this server. The nodes' packages and weights are not known here, so a result is used again only as
            long as the server runs.

    Raises:
        MachineError: there is no such cluster, or it is not safe to use. Blocks for seconds.
        InputError: it has not so many GPUs.
    """
    gpus = count_gpus(cluster)
    each = gpus_per_worker if gpus else 0
    if each > gpus:
        raise InputError(f"--gpus-per-worker asks for {each} GPUs, the cluster has {gpus}.")
    executors = [
        RayExecutor(logs, cluster, each, runner, patience, number)
        for number in range(workers or (gpus // each if each else 1))
    ]
    return executors, Circumstances(runner, ("ray", cluster.address, boot_id))
