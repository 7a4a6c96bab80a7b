# SPDX-License-Identifier: Apache-2.0
"""The GPUs of this machine, shared out among the worker processes."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ex4d.errors import InputError

QUERY_TIMEOUT_S = 20.0  # a driver that has to wake up takes seconds


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi tells of it."""

    index: str
    uuid: str
    name: str
    memory_used_mb: int
    memory_total_mb: int


@dataclass(frozen=True)
class Device:
    """What one worker may use."""

    name: str  # for people
    environment: Mapping[str, str]
    gpus: tuple[Gpu, ...] = ()


CPU = Device("CPU", {})


def find_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES lets us see; none where there is no driver. Blocks for up to seconds."""
    gpus = [gpu for line in ask_driver("gpu=index,uuid,name,memory.used,memory.total") if (gpu := _gpu(line))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    wanted = [word.strip() for word in visible.split(",")]
    return [gpu for word in wanted if word for gpu in gpus if word == gpu.index or gpu.uuid.startswith(word)]


def ask_driver(query: str) -> list[str]:
    """The lines that nvidia-smi answers to a `--query-...`; none where there is no driver, or when it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-{query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.splitlines()


def worker_devices(gpus: list[Gpu], workers: int | None = None, gpus_per_worker: int = 1) -> list[Device]:
    """What each worker gets: GPUs of its own, in turn when there are more workers; the CPU where there is no GPU.

    Args:
        gpus: those that may be used.
        workers: how many workers; None: as many as there are GPUs for, at least one.
        gpus_per_worker: one for many jobs at a time, more for one job that is done sooner.

    Raises:
        InputError: there are not so many GPUs.
    """
    if not gpus:
        return [CPU] * (workers or 1)
    if gpus_per_worker > len(gpus):
        raise InputError(f"--gpus-per-worker asks for {gpus_per_worker} GPUs, this machine has {len(gpus)} to use.")
    shares = [gpus[start : start + gpus_per_worker] for start in range(0, len(gpus), gpus_per_worker)]
    shares = [share for share in shares if len(share) == gpus_per_worker]
    return [device_of(shares[number % len(shares)]) for number in range(workers or len(shares))]


def device_of(gpus: Sequence[Gpu]) -> Device:
    """These GPUs together, at least one."""
    name = f"GPU {'+'.join(gpu.index for gpu in gpus)}: {gpus[0].name}"
    return Device(name, {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus)}, tuple(gpus))


def _gpu(line: str) -> Gpu | None:
    words = [word.strip() for word in line.split(",")]
    if len(words) != 5 or not words[1].startswith("GPU-"):
        return None
    used, total = (int(word) if word.isdigit() else 0 for word in words[3:])
    return Gpu(words[0], words[1], words[2], used, total)
