# SPDX-License-Identifier: Apache-2.0
"""The process of another GPU: holds a network, computes its part of each forward. Started by `parallel.Team`.

Reads messages from its standard input, one JSON object per line, and answers on its standard output; tensors come
through torch.distributed. Ends with the pipe.
"""

import importlib
import json
import os
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO, get_args

import torch
from torch import Tensor

from ex4d.errors import Ex4dError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Branch, Velocity
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.out_of_memory import ran_out
from ex4d.generation.wan.parallel import Network
from ex4d.generation.wan.ranks import Ranks
from ex4d.pipes import take_pipes

_LATER_S = 2.0
_LOOK_S = 1.0  # between looks whether the painting process is still there


class Worker:
    """Computes what the painting process asks for."""

    def __init__(self, start: dict[str, Any], reports: TextIO) -> None:
        self._reports = reports
        self._device = torch.device(start["device"])
        self._ranks = Ranks(start["rank"], start["world"], self._device, Path(start["store"]))
        module, _, function = start["network"].partition(":")
        self._network: Network = getattr(importlib.import_module(module), function)(self._device, **start["arguments"])
        self.tell({"t": "ready"})
        self._ranks.meet()
        self._job: tuple[int, Mode, Velocity] | None = None

    def do(self, message: dict[str, Any]) -> None:
        """Do what a message says."""
        if message["t"] == "bind":
            self._bind(message)
        elif message["t"] == "velocity":
            self._velocity(message)
        elif message["t"] == "drop" and self._job is not None and self._job[0] == message["job"]:
            self._drop()

    def tell(self, message: dict[str, Any]) -> None:
        """Answer the painting process."""
        self._reports.write(json.dumps(message) + "\n")
        self._reports.flush()

    def _bind(self, message: dict[str, Any]) -> None:
        self._drop()
        tensors: dict[str, Tensor] = {}
        for name, dtype, shape in message["tensors"]:
            empty = torch.empty(shape, dtype=getattr(torch, dtype), device=self._device)
            tensors[name] = self._ranks.broadcast(empty)
        self._ranks.settle()
        mode = Mode(**message["mode"])
        context: dict[Branch, Tensor] = {name: tensors[name] for name in get_args(Branch) if name in tensors}
        conditions = Conditions(tensors["ray"], tensors["y"], tensors["clip"], context)
        self._job = message["job"], mode, self._network(conditions, mode, self._ranks.sharding(mode))
        self.tell({"t": "bound"})

    def _velocity(self, message: dict[str, Any]) -> None:
        assert self._job is not None
        _, mode, velocity = self._job
        shape = message["shape"]
        sent = torch.empty(torch.Size(shape).numel() + 1, device=self._device)
        self._ranks.broadcast(sent)
        self._ranks.settle()
        branch = message["branch"] or self._ranks.branch(mode)
        answer = velocity(sent[:-1].view(shape), sent[-1:], branch).contiguous()
        if message["branch"] is None:
            self._ranks.broadcast(answer, source=self._ranks.other_half(mode))

    def _drop(self) -> None:
        self._job = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> int:
    parent = int(sys.argv[1])
    commands, reports = map(TextIOWrapper, take_pipes())
    inbox: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(commands, inbox), name="commands", daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()
    try:
        with torch.no_grad():
            worker = Worker(inbox.get(), reports)
            while True:
                worker.do(inbox.get())
    except Exception as error:  # whatever it was, the painting process is told before this one ends
        title = str(error) if isinstance(error, Ex4dError) else f"{type(error).__name__}: {error}"
        if ran_out(error):
            title = "the memory ran out. Close other programs that use it, or leave it out with CUDA_VISIBLE_DEVICES."
        elif isinstance(error, RuntimeError):  # a connection broke because a third process was lost: its news first
            time.sleep(_LATER_S)
        reports.write(json.dumps({"t": "failed", "title": title[:2000]}) + "\n")
        reports.flush()
        os._exit(1)  # in the middle of an exchange: nothing can be ended in order


def _listen(commands: TextIO, inbox: "SimpleQueue[dict[str, Any]]") -> None:
    for line in commands:
        inbox.put(json.loads(line))
    os._exit(0)  # nobody wants what the main thread may still be doing


def _watch(parent: int) -> None:
    """End when the painting process has ended and something else still holds the pipe."""
    while os.name != "posix" or os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
