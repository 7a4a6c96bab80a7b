# SPDX-License-Identifier: Apache-2.0
"""Several GPUs for one take: which of them, and the network in each other one's process."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ex4d.document import Json
from ex4d.generation.wan.arrival import arrive
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.files import WanFiles
from ex4d.generation.wan.fp8 import require_fp8
from ex4d.generation.wan.loading import load_ex4d_dit
from ex4d.generation.wan.machine import GIB, Machine, read_machine
from ex4d.generation.wan.memory_plan import MemoryPlan
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Network
from ex4d.generation.wan.ranks import usable

# Main memory that another GPU's process takes while it loads: torch and CUDA, NCCL, the tensors on their way. On a CPU,
# loading was measured to hold 0.1 GB beside the network itself.
LOADING_PROCESS = 4 * GIB
CONNECTIONS = GIB  # of each GPU's memory: NCCL's buffers. An estimate
SHARED_NETWORK = f"{__name__}:shared_network"


def free_gpus(plan: MemoryPlan, mode: Mode, first: Machine) -> list[torch.device]:
    """The GPUs beside the first that can share a take: those of its kind with room for what it holds.

    Shares are equal: a slower one would hold the others up. None for quality reference, which is one GPU's arithmetic,
    for networks that are streamed, and on Windows.

    Args:
        plan: of the first one.
        mode: of the take.
        first: what is free there, without what this process holds.
    """
    if mode.precision == "reference" or plan.streams or plan.crosses == "visits":
        return []
    if not torch.cuda.is_available() or not dist.is_available() or not dist.is_nccl_available():
        return []
    if first.free < plan.peak + CONNECTIONS:
        return []
    others = {number: read_machine(number) for number in range(1, torch.cuda.device_count())}
    fitting = [
        number
        for number, machine in others.items()
        if machine.name == first.name and machine.free >= plan.peak + CONNECTIONS
    ]
    return [torch.device("cuda", number) for number in fitting[: usable(len(fitting) + 1) - 1]]


def loading_at_once(machine: Machine, plan: MemoryPlan) -> int:
    """How many other processes may load at the same time, by the main memory that the plan leaves free; 1 at least.

    The weights themselves are mapped from the disk and go to the GPU one by one: no process has a copy of its own.
    """
    return max(1, int((machine.ram_free - plan.ram) // LOADING_PROCESS))


def sharing_arguments(files: WanFiles, mode: Mode, dtype: torch.dtype) -> dict[str, Any]:
    """What the other processes are told, as JSON: see `shared_network`."""
    paths: dict[str, Json] = {
        name: str(getattr(files, name))
        for name in ("config", "text_encoder", "tokenizer", "image_encoder", "vae", "adapter")
    }
    paths["dit"] = [str(path) for path in files.dit]
    paths["loras"] = [[str(path), strength] for path, strength in files.loras]
    return {"files": paths, "fp8": mode.fp8, "dtype": str(dtype).removeprefix("torch.")}


def shared_network(device: torch.device, files: dict[str, Any], fp8: bool, dtype: str) -> Network:
    """Load the DiT in another GPU's process; see `parallel.Team`."""
    if fp8:
        require_fp8(device)
    places: dict[str, Any] = {name: Path(path) for name, path in files.items() if isinstance(path, str)}
    places["dit"] = tuple(Path(path) for path in files["dit"])
    places["loras"] = tuple((Path(path), float(strength)) for path, strength in files["loras"])
    dit = load_ex4d_dit(WanFiles(**places), device, getattr(torch, dtype), partial(arrive, fp8=fp8))

    def bind(conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
        return FastForward(dit, conditions, mode, sharding=sharding)

    return bind
