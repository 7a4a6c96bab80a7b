# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's denoising on smaller GPUs, tried on a large one whose memory is capped: random weights, 49 x 512 x 512.

    pip install 'ex4d[wan]'
    PYTORCH_ALLOC_CONF=expandable_segments:True python benchmarks/generation_memory_gpu.py [--tiny] [CAP:QUALITY ...]

The setting is what `ex4d` itself asks torch for.

For each case torch may take no more than a card of CAP GiB has left beside CUDA and a desktop (0.7 GiB). `plan_memory`
decides with that; where the encoders stay on the GPU, empty memory of their size stands for them. Reported are the
plan, the seconds of a warm forward (median of 4), the peak that torch reserved, and whether the answer equals that of
the uncapped network, bit for bit. At last a job which was planned for more memory than there is runs out of it, and the
next one works. `--tiny` tries the script on a CPU.
"""

import argparse
import gc
import statistics
import time
from dataclasses import replace

import torch
from random_dit import FULL, TINY, random_conditions, random_dit
from random_generation import Size

from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import initial_noise
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.fp8 import quantise
from ex4d.generation.wan.machine import GIB, Machine, read_machine
from ex4d.generation.wan.memory_plan import (
    BLOCKS,
    ENCODERS,
    MemoryPlan,
    Window,
    plan_memory,
)
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.streaming import StreamedBlocks

WINDOW = Window(512, 512, 49)
TAKEN_GIB = 0.7
CASES = ("24:fp8", "24:lossless", "16:lossless", "16:fp8", "48:lossless")
START = time.perf_counter()


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:6.1f}]", *words, flush=True)


class Bench:
    """One network after the other on one device."""

    def __init__(self, size: Size) -> None:
        self.size, self.device = size, size.device
        self.conditions: Conditions = random_conditions(size)
        self.noise = initial_noise((1, 16, *size.latents), 0, size.device)
        self.timestep = torch.tensor([982.9059], device=size.device)
        self.truth: dict[str, torch.Tensor] = {}

    def cap(self, gib: float | None) -> None:
        """Let torch take no more."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(gib * GIB / total, 1) if gib else 1.0)
            torch.cuda.reset_peak_memory_stats()

    def planned(self, cap: float, quality: str) -> MemoryPlan:
        if self.device.type == "cuda":
            machine = replace(read_machine(), total=int(cap * GIB), free=int((cap - TAKEN_GIB) * GIB))
        else:
            machine = Machine("tiny", int(cap * GIB), int((cap - TAKEN_GIB) * GIB), 64 * GIB)
        return plan_memory(machine, WINDOW, MODES[quality], prompts_known=True)

    def case(self, cap: float, quality: str) -> None:
        mode = MODES[quality]
        self.cap(None)
        dit = random_dit(self.size)
        if mode.fp8:
            quantise(dit)
        if quality not in self.truth:
            whole = FastForward(dit, self.conditions, mode)
            self.truth[quality] = whole(self.noise, self.timestep, "positive")
            del whole
        plan = self.planned(cap, quality)
        say(f"{cap:g} GB {quality}: {plan.label}; crosses {plan.crosses}, encoders {plan.encoders},", end_of(plan))
        begin = time.perf_counter()
        blocks = None
        if plan.streams or plan.crosses == "visits":
            resident = plan.resident_blocks * self.size.layers // BLOCKS
            blocks = StreamedBlocks(dit, self.device, resident, crosses_stay=plan.crosses == "gpu")
        packed = time.perf_counter() - begin
        self.cap(cap - TAKEN_GIB)
        held = torch.empty(ENCODERS if plan.encoders == "gpu" and self.size is FULL else 0, dtype=torch.uint8)
        held = held.to(self.device)
        begin = time.perf_counter()
        forward = FastForward(dit, self.conditions, mode, blocks=blocks)
        self.wait()
        bound = time.perf_counter() - begin
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            answer = forward(self.noise, self.timestep, "positive")
            self.wait()
            seconds.append(time.perf_counter() - begin)
        same = torch.equal(answer, self.truth[quality])
        say(
            f"  packed in {packed:.1f} s, bound in {bound:.2f} s, {statistics.median(seconds[1:]):.4f} s per forward, "
            f"{self.peak()}, expected {(plan.peak / GIB):.1f} GiB, {'same' if same else 'OTHER'} numbers"
        )
        del forward, dit, held
        if blocks is not None:
            blocks.close()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> str:
        if self.device.type != "cuda":
            return "no GPU"
        taken, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return f"peak {taken / GIB:.1f} GiB, reserved {reserved / GIB:.1f} GiB"

    def runs_out(self) -> None:
        """A job that was planned for a larger GPU, and the one after it."""
        self.cap(None)
        dit = random_dit(self.size)
        quantise(dit)
        small = StreamedBlocks(dit, self.device, resident=8, crosses_stay=False)
        self.cap(None)
        before = torch.cuda.memory_allocated()
        self.cap(before / GIB + 1.0)  # too little for the conditions' keys and the tokens
        try:
            FastForward(dit, self.conditions, MODES["fp8"], blocks=small)(self.noise, self.timestep, "positive")
            say("nothing ran out")
        except torch.OutOfMemoryError as error:
            say("ran out:", str(error).split(".")[0])
        small.release()
        gc.collect()
        torch.cuda.empty_cache()
        say(f"  held afterwards: {(torch.cuda.memory_allocated() - before) / GIB:.2f} GiB more than before")
        self.cap(24)
        answer = FastForward(dit, self.conditions, MODES["fp8"], blocks=small)(self.noise, self.timestep, "positive")
        say("  the next job works:", "same" if torch.equal(answer, self.truth["fp8"]) else "OTHER", "numbers")
        small.close()


def end_of(plan: MemoryPlan) -> str:
    return f"{plan.resident_blocks} blocks resident, {plan.ram / GIB:.1f} GiB of main memory"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("cases", nargs="*", default=CASES)
    arguments = parser.parse_args()
    bench = Bench(TINY if arguments.tiny else FULL)
    for case in arguments.cases:
        cap, _, quality = case.partition(":")
        bench.case(float(cap), quality)
    if not arguments.tiny:
        bench.runs_out()
    say("done")


if __name__ == "__main__":
    main()
