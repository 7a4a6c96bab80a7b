# SPDX-License-Identifier: Apache-2.0
"""The processes that compute one job together, one per GPU, and which part of it each of them has.

Two prompts go to two halves of the processes (CFG-parallel), or to all of them one after the other; each half shares
the tokens of its prompt (`ulysses`). Rank 0 is the process that paints.
"""

import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ex4d.errors import MachineError
from ex4d.generation.wan.denoise import Branch
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.ulysses import Ulysses

TIMEOUT = timedelta(minutes=5)  # of one exchange; a process that dies is noticed at once, by its pipe
ABORT_S = 20.0
HEADS = 40  # of Wan2.1-I2V-14B
_LOOK_S = 0.0001  # between looks whether the GPU is done


class Ranks:
    """This process among those that compute together."""

    def __init__(self, rank: int, world: int, device: torch.device, store: Path, heads: int = HEADS) -> None:
        """Meet the others. Returns when all have come.

        Args:
            rank: of this process; 0 paints.
            world: how many there are, from `usable`.
            device: where this one computes. CUDA devices talk through NCCL, CPUs through gloo.
            store: a file in a private folder, where they find each other.
            heads: of the network's self-attention.
        """
        _talk_on_this_machine_only()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.rank, self.world, self.device = rank, world, device
        self.lost: str | None = None  # set by another thread when a process of the team has ended: what to say
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.FileStore(str(store), world),
            rank=rank,
            world_size=world,
            timeout=TIMEOUT,
        )
        self._shardings: dict[int, Ulysses | None] = {}  # by number of branches
        for branches in (1, 2) if world % 2 == 0 else (1,):
            shards = world // branches
            first = rank // shards * shards
            members = range(first, first + shards)
            self._shardings[branches] = Ulysses(members, heads, self.wait) if shards > 1 else None

    def branches(self, mode: Mode) -> int:
        """How many prompts are asked at the same time: both when every step asks both."""
        both = mode.guidance_scale != 1 and mode.guidance_share == 1
        return 2 if both and 2 in self._shardings else 1

    def branch(self, mode: Mode) -> Branch:
        """Which of two prompts is this process's."""
        return "positive" if self.rank < self.other_half(mode) else "negative"

    def other_half(self, mode: Mode) -> int:
        """The first rank that has the negative prompt, when both are asked at the same time."""
        return self.world // self.branches(mode)

    def sharding(self, mode: Mode) -> Ulysses | None:
        """How this process shares its prompt's tokens; None when it has all of them."""
        return self._shardings[self.branches(mode)]

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        """The source's tensor, of any dtype, in every process. Overwritten in the others."""
        assert tensor.is_contiguous()
        dist.broadcast(tensor.view(-1).view(torch.uint8), source)
        return tensor

    def settle(self) -> None:
        """Wait until the GPU has done all that was queued, or a process is lost.

        Raises:
            MachineError: a process is lost.
        """
        if self.device.type == "cuda":
            self.wait(torch.cuda.current_stream(self.device).record_event())
        if self.lost is not None:
            raise MachineError(self.lost)

    def wait(self, event: Any) -> None:
        """Wait for a CUDA event, as long as no process is lost.

        Raises:
            MachineError: one is.
        """
        while not event.query():
            if self.lost is not None:
                raise MachineError(self.lost)
            time.sleep(_LOOK_S)

    def leave(self) -> None:
        """End the connections, whatever state they are in."""
        if not dist.is_initialized():
            return
        if self.device.type == "cuda":  # the others may be gone: an orderly end would wait for them
            abort = threading.Thread(target=dist.distributed_c10d._abort_process_group, name="abort", daemon=True)
            abort.start()
            abort.join(ABORT_S)
        else:
            dist.destroy_process_group()


def usable(gpus: int, heads: int = HEADS) -> int:
    """How many of so many GPUs can share a network: pairs for the two prompts, and heads in equal shares."""
    fitting = [count for count in range(1, gpus + 1) if heads % count == 0 and (count % 2 == 0 or count == 1)]
    return max(fitting, default=0)


def _talk_on_this_machine_only() -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    # A lost connection must end the job, not the process that paints: our own threads watch, and we abort.
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"
    os.environ["TORCH_NCCL_ENABLE_MONITORING"] = "0"
