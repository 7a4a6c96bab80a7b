# SPDX-License-Identifier: Apache-2.0
"""The processes that compute one job together, one per GPU, and which part of it each of them has.

Two prompts go to two halves of the processes (CFG-parallel), or to all of them one after the other; each half shares
the tokens of its prompt (`ulysses`). Rank 0 is the process that paints.
"""

import contextlib
import os
import sys
import threading
import time
from collections import deque
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
# Exchanges, two blocks: as far as a process runs ahead of its GPU. When another process is lost, the GPU waits for it
# for ever; a process that went on queueing work behind that could not even be told.
AHEAD = 4
HEADS = 40  # of Wan2.1-I2V-14B
_LOOK_S = 0.0001  # between looks whether the GPU is done
_HEAR_S = 0.2  # between looks whether a process was lost while they meet


class Ranks:
    """This process among those that compute together."""

    def __init__(self, rank: int, world: int, device: torch.device, store: Path) -> None:
        """
        Args:
            rank: of this process; 0 paints.
            world: how many there are, from `usable`.
            device: where this one computes. CUDA devices talk through NCCL, CPUs through gloo.
            store: a file in a private folder, where they find each other.
        """
        _talk_on_this_machine_only()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.rank, self.world, self.device = rank, world, device
        self.lost: str | None = None  # set by another thread when a process of the team has ended: what to say
        self._store = store
        # torch.distributed's, of this team alone: the global one could not be given up half made.
        self._group: Any = None
        self._pending: deque[Any] = deque()
        self._shardings: dict[int, Ulysses | None] = {}  # by number of branches
        for branches in (1, 2) if world % 2 == 0 else (1,):
            shards = world // branches
            first = rank // shards * shards
            members = range(first, first + shards)
            self._shardings[branches] = Ulysses(rank, members, self.exchange) if shards > 1 else None

    def meet(self) -> None:
        """Meet the others. Returns when all have come, or one is lost.

        Raises:
            MachineError: one is lost, or has not come in time.
        """
        groups: list[Any] = []
        failed: list[Exception] = []

        def come() -> None:
            try:
                groups.append(self._connected())
            except Exception as error:  # torch raises a dozen types here
                failed.append(error)

        coming = threading.Thread(target=come, name="meet", daemon=True)  # its waiting cannot be broken off
        coming.start()
        while coming.is_alive() and self.lost is None:
            coming.join(_HEAR_S)
        if self.lost is not None:
            raise MachineError(self.lost)
        if failed:
            raise MachineError(f"The GPUs' processes cannot reach each other ({failed[0]}).") from failed[0]
        self._group = groups[0]

    def _connected(self) -> Any:
        store = dist.FileStore(str(self._store), self.world)
        store.set_timeout(TIMEOUT)
        if self.device.type != "cuda":
            return dist.ProcessGroupGloo(store, self.rank, self.world, TIMEOUT)
        torch.cuda.set_device(self.device)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = TIMEOUT
        group = dist.ProcessGroupNCCL(store, self.rank, self.world, options)
        group.eager_connect_single_device(self.device)  # here, not in the first step
        return group

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
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor, options.asyncOp = source, 0, False
        _await(self._group.broadcast([tensor.view(-1).view(torch.uint8)], options))
        return tensor

    def exchange(self, arrived: Tensor, rows: Tensor, received: list[int], sent: list[int], members: range) -> None:
        """Rows of dim 0, so many from and to each of the members; every process of the team does the same at this time.

        One communicator for all of them: a second one could keep the first from being aborted.
        """
        from_each, to_each = [0] * self.world, [0] * self.world
        from_each[members.start : members.stop], to_each[members.start : members.stop] = received, sent
        options = dist.AllToAllOptions()
        options.asyncOp = False
        _await(self._group.alltoall_base(arrived, rows, from_each, to_each, options))
        if arrived.is_cuda:
            self._pending.append(torch.cuda.current_stream(self.device).record_event())
            if len(self._pending) > AHEAD:
                self.wait(self._pending.popleft())

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
            MachineError: one is, or none has answered for minutes.
        """
        end = time.monotonic() + TIMEOUT.total_seconds()
        while not event.query():
            if self.lost is not None:
                raise MachineError(self.lost)
            if time.monotonic() > end:
                raise MachineError(f"The GPUs have waited for each other for {TIMEOUT}. Start the take again.")
            time.sleep(_LOOK_S)

    def leave(self) -> None:
        """End the connections, whatever state they are in. Any thread may call it, also while another one waits."""
        group, self._group = self._group, None
        if group is not None and self.device.type == "cuda":  # gloo's end with the processes behind them
            abort = threading.Thread(target=group.abort, name="abort", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread starts when Python itself ends
                abort.start()
                abort.join(ABORT_S)


def _await(work: Any) -> None:
    if work is not None:  # NCCL's is queued on the current stream already
        work.wait()


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
