# SPDX-License-Identifier: Apache-2.0
"""Making samples on the machines of a Ray cluster, which read the videos and write the dataset in shared folders.

Plain tasks, one for each sample: what a sample needs and gives are files, and which samples there are is known before.
"""

import platform
import secrets
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from ex4d.code_hash import code_hash
from ex4d.errors import MachineError
from ex4d.progress import Progress, ProgressCallback
from ex4d.ray_cluster import Cluster, join_cluster
from ex4d.training.making import PARTS, STAGE, TICK_S, Job, Outcome, make

DEATHS = 2  # of the process that makes a sample, after which the run stops
QUEUED_SHARE = 2  # samples under way for each core of the cluster, so that no node waits for us


@dataclass(frozen=True)
class Farm:
    """How samples are made on a cluster."""

    cluster: Cluster
    most: int | None = None  # samples at a time; None: two for each core of the cluster, of which half wait
    gpus: float = 0.0  # for each sample, for a depth model: 0.5 lets two share one


def on_cluster(farm: Farm, jobs: Sequence[Job], tell: ProgressCallback) -> Generator[tuple[Job, Outcome], None, None]:
    """Make the samples, in whatever order they get ready.

    Raises:
        MachineError: the cluster cannot be used, a node does not see the folders, or a sample's process died twice.
    """
    if not jobs:
        return
    join_cluster(farm.cluster)
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    # No retry by Ray, whose number has no end when a node runs out of memory.
    remote = ray.remote(_make_on_node).options(num_cpus=1, num_gpus=farm.gpus, max_retries=0)
    mark = jobs[0].folder / PARTS / f".ray-{secrets.token_hex(8)}"  # only who sees our folder sees it
    code = code_hash("ex4d")
    waiting, running = list(reversed(jobs)), dict[Any, Job]()
    deaths: dict[str, int] = {}
    try:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        most = farm.most or QUEUED_SHARE * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < most:
                job = waiting.pop()
                running[remote.remote(job, str(mark), code)] = job
            ready, _ = ray.wait(list(running), timeout=TICK_S)
            tell(Progress(STAGE, 0, 0))
            for future in ready:
                job = running.pop(future)
                try:
                    yield job, ray.get(future)
                except (NodeDiedError, OutOfMemoryError, WorkerCrashedError) as error:
                    key = job.task.key
                    deaths[key] = deaths.get(key, 0) + 1
                    if deaths[key] == DEATHS:
                        raise MachineError(
                            f"The process that made {job.label} died {DEATHS} times, most likely for want of memory. "
                            "Use fewer --workers; what is done is kept, and the same command goes on from there."
                        ) from error
                    waiting.append(job)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error  # as if it had been raised here
    finally:
        ray.shutdown()  # ends what still runs
        mark.unlink(missing_ok=True)


def _make_on_node(job: Job, mark: str, code: str) -> Outcome:
    """Runs on a node."""
    node = platform.node()
    if code_hash("ex4d") != code:
        raise MachineError(f"The node {node} has another EX-4D. Install the same release on all nodes.")
    for path in (Path(mark), job.task.video):
        if not path.is_file():
            raise MachineError(
                f"The node {node} does not see '{path.parent}'. Videos and dataset must lie in folders which all nodes "
                "have under the same path."
            )
    cv2.setNumThreads(1)
    return make(job)
