# SPDX-License-Identifier: Apache-2.0
"""Several GPUs on one job: the painting process has one, a process of its own each other one.

    team = Team(devices, "ex4d.generation.wan.loading:network", arguments)
    pipeline = WanPipeline(models, bind=team.bind, guide=team.guide)
    ...
    team.close()

The other processes start with the team, hold the network as long as it lives, and end with it or with this process,
however that ends. A job needs nothing of its own: a cancel between steps leaves all of them waiting for the next job.
When a process is lost in the middle of a step, the team is over (`alive` is False), the job ends with a MachineError
and the next job needs a new team.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ex4d.errors import MachineError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Branch, Guided, Velocity, guided
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.models import WanModels
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.ranks import HEADS, Ranks

PACKAGES = Path(__file__).resolve().parents[3]  # the folder that holds `ex4d`
_END_S = 5.0  # for a process to end by itself
_WHY_S = 3.0  # for the news of a lost process to come after a connection broke
_HEAR_S = 0.2  # between looks whether another process was lost

Network = Callable[[Conditions, Mode, Sharding | None], Velocity]
"""Binds a network to a job, in each process."""


class Team:
    """The painting process and its helpers."""

    def __init__(
        self,
        devices: Sequence[torch.device],
        network: str,
        arguments: dict[str, Any],
        heads: int = HEADS,
        local: Callable[[WanModels, Conditions, Mode, Sharding | None], Velocity] | None = None,
    ) -> None:
        """Start a process for every device but the first, and wait until all have their network.

        Args:
            devices: the painting process's own first; as many as `ranks.usable` says.
            network: module:function that makes the network of another process: (device, **arguments) -> `Network`.
            arguments: its arguments, as JSON can carry them.
            heads: of the network's self-attention.
            local: binds this process's own network; FastForward without it.

        Raises:
            MachineError: a process failed; says why.
        """
        self._local = local or _fast_forward
        self._lost: str | None = None
        self._ranks: Ranks | None = None
        self._job = 0
        self._folder = tempfile.TemporaryDirectory(prefix="ex4d-team-")
        store = Path(self._folder.name) / "store"
        self._helpers: list[_Helper] = []
        self._finish = weakref.finalize(self, _end, self._helpers, self._folder)
        world = len(devices)
        try:
            for rank, device in enumerate(devices[1:], start=1):
                start = {"rank": rank, "world": world, "device": str(device), "store": str(store), "heads": heads}
                self._helpers.append(_Helper({**start, "network": network, "arguments": arguments}, weakref.ref(self)))
            for helper in self._helpers:
                self._expect(helper, "ready")
            self._ranks = Ranks(0, world, devices[0], store, heads)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._lost is None and self._finish.alive

    def bind(self, models: WanModels, conditions: Conditions, mode: Mode) -> Velocity:
        """Bind the networks of all processes to a job: `bind` of a WanPipeline.

        Raises:
            MachineError: a process failed, or its GPU has too little memory.
        """
        with self._in_step() as ranks:
            self._job += 1
            told = {"ray": conditions.ray, "y": conditions.y, "clip": conditions.clip}
            told.update({str(branch): words for branch, words in conditions.context.items()})
            tensors = {name: tensor.to(ranks.device).contiguous() for name, tensor in told.items()}
            listed = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()]
            self._tell(self._helpers, {"t": "bind", "job": self._job, "mode": asdict(mode), "tensors": listed})
            for tensor in tensors.values():
                ranks.broadcast(tensor)
            ranks.settle()
            local = self._local(models, conditions, mode, ranks.sharding(mode))
            for helper in self._helpers:
                self._expect(helper, "bound")
            velocity = TeamVelocity(self, local, mode)
            weakref.finalize(velocity, self._drop, self._job).atexit = False
            return velocity

    def guide(self, velocity: Velocity, mode: Mode, steps: int) -> Guided:
        """Guidance whose two prompts are asked at the same time: `guide` of a WanPipeline."""
        if not isinstance(velocity, TeamVelocity) or self._ranks is None or self._ranks.branches(mode) == 1:
            return guided(velocity, mode, steps)

        def answer(latents: Tensor, timestep: Tensor, step: int) -> Tensor:
            positive, negative = velocity.both(latents, timestep)
            return negative + mode.guidance_scale * (positive - negative)

        return answer

    def close(self) -> None:
        """End the other processes."""
        self._finish()
        if self._ranks is not None:
            self._ranks.leave()

    def ask(
        self, local: Velocity, mode: Mode, latents: Tensor, timestep: Tensor, branch: Branch | None
    ) -> list[Tensor]:
        """One forward of all processes.

        Args:
            local: this process's own part.
            mode: of the job.
            latents: float32 [1, 16, f, h, w]
            timestep: float32 [1]
            branch: asked by all processes; None: both, each by one half of them.

        Returns:
            One velocity, or two.
        """
        with self._in_step() as ranks:
            sent = torch.cat([latents.reshape(-1), timestep.reshape(-1)])
            self._tell(self._helpers, {"t": "velocity", "branch": branch, "shape": list(latents.shape)})
            ranks.broadcast(sent)
            ranks.settle()  # nothing is queued behind what may never come
            answers = [local(latents, timestep, branch or "positive")]
            if branch is None:
                answers.append(ranks.broadcast(torch.empty_like(latents), source=ranks.other_half(mode)))
            ranks.settle()
            return answers

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[Ranks]:
        """What breaks off in here leaves the processes out of step: the team is over."""
        if self._ranks is None or not self.alive:
            raise MachineError(self._lost or "The other GPUs' processes have ended. Start the take again.")
        try:
            yield self._ranks
        except BaseException as error:
            broken = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
            self._news_of_loss(_WHY_S if broken else 0)
            self.close()
            if broken and self._lost is not None:
                raise MachineError(self._lost) from None  # the connection broke because a process was lost
            raise

    def _news_of_loss(self, patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while self._lost is None and time.monotonic() < end:
            time.sleep(0.01)

    def _tell(self, helpers: Sequence["_Helper"], message: dict[str, Any]) -> None:
        for helper in helpers:
            helper.tell(message)

    def _expect(self, helper: "_Helper", kind: str) -> None:
        """Wait for a process's message, as long as all processes live."""
        message = None
        while message is None and self._lost is None:
            with contextlib.suppress(queue.Empty):
                message = helper.inbox.get(timeout=_HEAR_S)
        if message is None or message["t"] != kind:
            raise MachineError(self._lost or f"The process of {helper.device} said {message}, expected '{kind}'.")

    def _drop(self, job: int) -> None:
        """A job is over: the other processes release what they hold for it."""
        if self.alive:
            self._tell(self._helpers, {"t": "drop", "job": job})

    def lose(self, why: str) -> None:
        """Called by the thread that listens to a process: it failed or ended."""
        if not self._finish.alive:
            return  # we ended it
        self._lost = self._lost or why
        if self._ranks is not None:
            self._ranks.lost = self._lost


class TeamVelocity:
    """The network of all processes, bound to a job: a `Velocity`."""

    def __init__(self, team: Team, local: Velocity, mode: Mode) -> None:
        self._team, self._local, self._mode = team, local, mode

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Branch) -> Tensor:
        """See `Velocity`."""
        return self._team.ask(self._local, self._mode, latents, timestep, branch)[0]

    def both(self, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The answers to the positive and to the negative prompt."""
        positive, negative = self._team.ask(self._local, self._mode, latents, timestep, None)
        return positive, negative


class _Helper:
    """Another process, and the thread that listens to it."""

    def __init__(self, start: dict[str, Any], team: "weakref.ref[Team]") -> None:
        self.device: str = start["device"]
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        search_path = os.pathsep.join([str(PACKAGES), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ex4d.generation.wan.parallel_worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search_path},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        threading.Thread(target=self._listen, args=(team,), name=f"team {self.device}", daemon=True).start()
        self.tell(start)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; a dead process is noticed by the listener."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Close its pipe, at which it ends; kill it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, team: "weakref.ref[Team]") -> None:
        why = f"The process of {self.device} ended unexpectedly. Start the take again."
        assert self._process.stdout is not None
        with self._process.stdout as reports:
            for line in reports:
                message = json.loads(line)
                if message["t"] == "failed":
                    why = f"On {self.device}: {message['title']}"
                    break
                self.inbox.put(message)
        mine = team()
        if mine is not None:
            mine.lose(why)


def _end(helpers: list[_Helper], folder: "tempfile.TemporaryDirectory[str]") -> None:
    for helper in helpers:
        helper.end()
    folder.cleanup()


def _fast_forward(models: WanModels, conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
    return FastForward(models.dit, conditions, mode, sharding=sharding)
