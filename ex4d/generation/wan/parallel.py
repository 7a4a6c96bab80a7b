# SPDX-License-Identifier: Apache-2.0
"""Several GPUs on one job: the painting process has one, a process of its own each other one.

    team = Team(devices, "ex4d.generation.wan.sharing:shared_network", arguments)
    ...  # load this process's own network meanwhile
    team.meet()
    pipeline = WanPipeline(models, bind=team.bind, guide=team.guide)
    ...
    team.close()

The other processes start with the team, hold the network as long as it lives, and end with it or with this process,
however that ends. A job needs nothing of its own: a cancel between steps leaves all of them waiting for the next job.

When one process is lost, the team is over (`alive` is False): the others are killed at once, so that no exchange waits
for what cannot come, and what this process is in ends with a MachineError. Only a take that needs them no longer, in
its decoder, is completed. The next job needs a new team.
"""

import contextlib
import functools
import math
import queue
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ex4d.errors import MachineError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Branch, Guided, Velocity, guided
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.helper import Helper
from ex4d.generation.wan.models import WanModels
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.ranks import TIMEOUT, Ranks
from ex4d.progress import Progress, ProgressCallback

_WHY_S = 3.0  # for the news of a lost process to come after a connection broke
_HEAR_S = 0.2  # between looks whether another process was lost
_ABORT_S = 5.0  # for this process to notice a loss by itself, before its connections are cut

Network = Callable[[Conditions, Mode, Sharding | None], Velocity]
"""Binds a network to a job, in each process."""


class Team:
    """The painting process and its helpers."""

    def __init__(
        self,
        devices: Sequence[torch.device],
        network: str,
        arguments: dict[str, Any],
        local: Callable[[WanModels, Conditions, Mode, Sharding | None], Velocity] | None = None,
        at_once: int | None = None,
    ) -> None:
        """Start a process for every device but the first. They load their networks while this one does what it likes.

        Args:
            devices: the painting process's own first; as many as `ranks.usable` says.
            network: module:function that makes the network of another process: (device, **arguments) -> `Network`.
            arguments: its arguments, as JSON can carry them.
            local: binds this process's own network; FastForward without it.
            at_once: how many of the others load at the same time; the rest follow when those are done. None: all.
        """
        self._local = local or _fast_forward
        self._lost: str | None = None
        self._busy = False
        self._job = 0
        self._folder = tempfile.TemporaryDirectory(prefix="ex4d-team-")
        self._helpers: list[Helper] = []
        store = Path(self._folder.name) / "store"
        self._ranks = Ranks(0, len(devices), devices[0], store)
        self._finish = weakref.finalize(self, _end, self._helpers, self._ranks, self._folder)
        told = {"world": len(devices), "store": str(store), "network": network, "arguments": arguments}
        self._starts = [
            {**told, "rank": rank, "device": str(device)} for rank, device in enumerate(devices[1:], start=1)
        ]
        self._at_once = len(self._starts) if at_once is None else max(1, at_once)
        self._start_more(0)

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._lost is None and self._finish.alive

    def check(self) -> None:
        """Look whether the others still load: between the steps of this process's own loading.

        Raises:
            MachineError: a process failed; says why.
        """
        if not self.alive:
            raise MachineError(self._lost or "The other GPUs' processes have ended. Start the take again.")

    def meet(self, progress: ProgressCallback | None = None) -> None:
        """Wait until all have their network and know each other.

        Args:
            progress: told while others load; it may cancel, which ends them.

        Raises:
            MachineError: a process failed; says why.
        """
        with self._in_step():
            for done in range(len(self._starts)):
                self._expect(self._helpers[done], "ready", math.inf, functools.partial(self._say, progress, done))
                self._start_more(done + 1)
            self._ranks.meet()
        self._say(progress, len(self._starts))

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
                self._expect(helper, "bound", TIMEOUT.total_seconds())
            velocity = TeamVelocity(self, local, mode)
            weakref.finalize(velocity, self._drop, self._job).atexit = False
            return velocity

    def guide(self, velocity: Velocity, mode: Mode, steps: int) -> Guided:
        """Guidance whose two prompts are asked at the same time: `guide` of a WanPipeline."""
        if not isinstance(velocity, TeamVelocity) or self._ranks.branches(mode) == 1:
            return guided(velocity, mode, steps)

        def answer(latents: Tensor, timestep: Tensor, step: int) -> Tensor:
            positive, negative = velocity.both(latents, timestep)
            return negative + mode.guidance_scale * (positive - negative)

        return answer

    def close(self) -> None:
        """End the other processes."""
        self._finish()

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
        self.check()
        self._busy = True
        try:
            yield self._ranks
        except BaseException as error:
            broken = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
            self._news_of_loss(_WHY_S if broken else 0)
            self.close()
            if broken and self._lost is not None:
                raise MachineError(self._lost) from None  # the connection broke because a process was lost
            if isinstance(error, dist.DistError):
                raise MachineError(f"The GPUs lost their connection ({error}). Start the take again.") from error
            raise
        finally:
            self._busy = False

    def _news_of_loss(self, patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while self._lost is None and time.monotonic() < end:
            time.sleep(0.01)

    def _start_more(self, done: int) -> None:
        """Start the processes that may load now that so many are done."""
        team = weakref.ref(self)
        for start in self._starts[len(self._helpers) : done + self._at_once]:
            self._helpers.append(Helper(start, functools.partial(_lose, team)))

    def _say(self, progress: ProgressCallback | None, done: int) -> None:
        if progress is not None:
            progress(Progress("Loading Wan2.1 on the other GPUs", done, len(self._starts)))

    def _tell(self, helpers: Sequence[Helper], message: dict[str, Any]) -> None:
        for helper in helpers:
            helper.tell(message)

    def _expect(
        self, helper: Helper, kind: str, patience_s: float, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Wait for a process's message, as long as all processes live."""
        message, end = None, time.monotonic() + patience_s
        while message is None and self._lost is None and time.monotonic() < end:
            if meanwhile is not None:
                meanwhile()
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
        self._lost = self._ranks.lost = self._lost or why
        for helper in self._helpers:
            helper.kill()
        end = time.monotonic() + _ABORT_S
        while self._busy and time.monotonic() < end:
            time.sleep(_HEAR_S)
        if self._busy:  # it waits where it cannot look
            self._ranks.leave()


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


def _lose(team: "weakref.ref[Team]", why: str) -> None:
    alive = team()
    if alive is not None:
        alive.lose(why)


def _end(helpers: list[Helper], ranks: Ranks, folder: "tempfile.TemporaryDirectory[str]") -> None:
    for helper in helpers:
        helper.end()
    ranks.leave()
    folder.cleanup()


def _fast_forward(models: WanModels, conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
    return FastForward(models.dit, conditions, mode, sharding=sharding)
