# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's denoising on several GPUs, beside one: random weights at full size, 49 x 512 x 512, guidance 5.

    pip install 'ex4d[wan]' && python benchmarks/generation_multi_gpu.py [--tiny] [--one-gpu]

Each time is the median of warm runs. The distance to one GPU is the relative L2 norm of one step's answer, beside that
of two attention backends on one GPU. At the end a helper process is killed in the middle of a step.

`--one-gpu`, where there is but one, computes the shares of two GPUs in turn on it: the numbers are those of two, the
time is what each of them computes, and what they send each other costs nothing. `--tiny` runs a tiny network on the
CPU, in two processes, to try the script.
"""

import argparse
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import torch
from diffsynth.models.wan_video_dit import WanModel
from random_dit import FULL, TINY, random_conditions, random_dit

from ex4d.errors import MachineError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import denoise, guided, initial_noise
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.machine import GIB
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.parallel import Team
from ex4d.generation.wan.ranks import usable
from ex4d.generation.wan.schedule import flow_schedule
from ex4d.generation.wan.ulysses import Ulysses

LOSSLESS = MODES["lossless"]
SHARED = replace(LOSSLESS, guidance_share=0.99)  # not every step asks both prompts: the tokens are shared
START = time.perf_counter()


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:6.1f}]", *words, flush=True)


def timed(run: Callable[[], object], device: torch.device, runs: int = 4) -> float:
    """Median seconds, warm."""
    seconds = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


class InTurn(Ulysses):
    """One of several shares that one process computes, each in a thread of its own."""

    def __init__(self, rank: int, shares: "list[list[torch.Tensor]]", meet: threading.Barrier) -> None:
        self._rank, self._size, self._counts = rank, len(shares), [0] * len(shares)
        self._shares, self._meet = shares, meet

    def _exchanged(self, rows: torch.Tensor, sent: list[int], received: list[int]) -> torch.Tensor:
        self._shares[self._rank] = list(rows.split(sent))
        self._meet.wait()
        arrived = torch.cat([share[self._rank] for share in self._shares])
        self._meet.wait()
        return arrived


def in_turn(dit: WanModel, conditions: Conditions, count: int) -> Callable[..., torch.Tensor]:
    """A forward whose tokens are shared by so many GPUs, on one."""
    shares, meet = [[torch.empty(0)] for _ in range(count)], threading.Barrier(count)
    forwards = [FastForward(dit, conditions, LOSSLESS, sharding=InTurn(rank, shares, meet)) for rank in range(count)]

    def forward(*asked: object) -> torch.Tensor:
        with ThreadPoolExecutor(count) as pool:
            return next(iter(list(pool.map(lambda one: one(*asked), forwards))))

    return forward


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one-gpu", action="store_true")
    arguments = parser.parse_args()
    tiny: bool = arguments.tiny
    size = TINY if tiny else FULL
    count = 2 if tiny else usable(torch.cuda.device_count())
    devices = [torch.device("cpu") if tiny else torch.device("cuda", index) for index in range(count)]
    device = devices[0]
    say(f"{count} devices, {'CPU' if tiny else torch.cuda.get_device_name(device)}, torch {torch.__version__}")

    dit, conditions = random_dit(size), random_conditions(size)
    noise = initial_noise((1, 16, *size.latents), 0, device)
    timestep = torch.tensor([982.9059], device=device)
    alone = FastForward(dit, conditions, LOSSLESS)
    one_step = guided(alone, LOSSLESS, LOSSLESS.steps)
    say(f"one GPU: {timed(lambda: alone(noise, timestep, 'positive'), device):.4f} s per forward")
    say(f"one GPU: {timed(lambda: one_step(noise, timestep, 0), device, 2):.4f} s per step")
    answer, forward = one_step(noise, timestep, 0), alone(noise, timestep, "positive")
    if not tiny:
        other = FastForward(dit, conditions, LOSSLESS, backend="flash")(noise, timestep, "positive")
        say(f"one GPU, flash instead of cuDNN attention: distance {distance(other, forward):.1e}")
        del other

    if arguments.one_gpu:
        for shares in (2, 4):
            shared = in_turn(dit, conditions, shares)
            seconds = timed(lambda run=shared: run(noise, timestep, "positive"), device)
            say(f"tokens in {shares} shares on one GPU: {seconds / shares:.4f} s for each")
            say(f"  distance of a forward {distance(shared(noise, timestep, 'positive'), forward):.1e}")
            del shared
        return

    begin = time.perf_counter()
    team = Team(devices, "random_dit:network", {"tiny": tiny})
    free = 0 if tiny else torch.cuda.mem_get_info(device)[0]
    team.meet()
    taken = 0 if tiny else free - torch.cuda.mem_get_info(device)[0]
    say(f"team of {count} ready after {time.perf_counter() - begin:.1f} s; its connections take {taken / GIB:.2f} GiB")
    models = SimpleNamespace(dit=dit)
    for name, mode in (("a prompt each", LOSSLESS), ("tokens shared", SHARED)):
        begin = time.perf_counter()
        velocity = team.bind(models, conditions, mode)
        say(f"{name}: bound in {time.perf_counter() - begin:.2f} s")
        step = team.guide(velocity, mode, mode.steps)
        say(f"{name}: {timed(lambda run=step: run(noise, timestep, 0), device):.4f} s per step")
        say(f"{name}: distance {distance(step(noise, timestep, 0), answer):.1e}")
        if mode is SHARED:
            say(f"{name}: {timed(lambda v=velocity: v(noise, timestep, 'positive'), device):.4f} s per forward")
            say(f"{name}: distance of a forward {distance(velocity(noise, timestep, 'positive'), forward):.1e}")
        else:
            begin = time.perf_counter()
            denoise(step, noise, flow_schedule(mode.steps))
            say(f"{name}: {mode.steps} steps in {time.perf_counter() - begin:.2f} s")

    doomed = team._helpers[0]
    threading.Timer(0.2 if tiny else 1.0, os.kill, (doomed.pid, signal.SIGKILL)).start()
    begin = time.perf_counter()
    try:
        while True:
            step(noise, timestep, 0)
    except MachineError as error:
        say(f"a helper was killed: after {time.perf_counter() - begin:.1f} s '{error}'")
    team.close()
    left = alone(noise, timestep, "positive")
    say(f"this GPU still works: distance {distance(left, forward):.1e}")


if __name__ == "__main__":
    main()
