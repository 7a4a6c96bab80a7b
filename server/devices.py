# SPDX-License-Identifier: Apache-2.0
"""The GPUs of this machine: one worker process each."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_QUERY_TIMEOUT_S = 20.0  # a driver that has to wake up takes seconds


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


def find_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES lets us see; none where there is no driver. Blocks for up to seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,name,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = [gpu for line in answer.splitlines() if (gpu := _gpu(line))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    wanted = [word.strip() for word in visible.split(",")]
    return [gpu for word in wanted if word for gpu in gpus if word == gpu.index or gpu.uuid.startswith(word)]


def worker_devices(gpus: list[Gpu], workers: int | None = None) -> list[Device]:
    """What each worker gets: a GPU of its own, in turn when there are more workers; the CPU where there is no GPU.

    Args:
        gpus: those that may be used.
        workers: how many workers; None: one for each GPU, or one.
    """
    count = workers or max(1, len(gpus))
    if not gpus:
        return [Device("CPU", {}) for _ in range(count)]
    chosen = [gpus[number % len(gpus)] for number in range(count)]
    return [Device(f"GPU {gpu.index}: {gpu.name}", {"CUDA_VISIBLE_DEVICES": gpu.uuid}) for gpu in chosen]


def _gpu(line: str) -> Gpu | None:
    words = [word.strip() for word in line.split(",")]
    if len(words) != 5 or not words[1].startswith("GPU-"):
        return None
    used, total = (int(word) if word.isdigit() else 0 for word in words[3:])
    return Gpu(words[0], words[1], words[2], used, total)
