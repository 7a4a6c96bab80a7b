# SPDX-License-Identifier: Apache-2.0
"""Tuning the adapter on one GPU with random weights at full size: seconds per step and peak memory.

    pip install 'ex4d[train]' && python benchmarks/training_gpu.py [--batches 1 2 4] [--write FILE.json]

Clips are 49x512x512, encoded already, as they are while training runs. A step is everything between two lines of the
log: reading the clips, noise, forward, backward with every block computed twice, clipping, AdamW, the mean of the
weights. The first step of a run is not counted. Without --batches it measures 1 and 2 clips per step, reckons from both
peaks how many should fit, and goes on from there to the largest number that does. It ends within --minutes: a run that
would take longer has fewer steps, or is left out and said.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from random_dit import random_dit
from random_generation import TINY, Size

from ex4d.generation.wan.conditions import Seen
from ex4d.training.adapter import count, fresh_camera_encoder, with_fresh_lora
from ex4d.training.config import TrainConfig
from ex4d.training.journal import LOG, Journal
from ex4d.training.latents import Lesson
from ex4d.training.loop import Trainer
from ex4d.training.network import TrainedNetwork
from ex4d.training.selection import Selection

FEWEST_STEPS = 2  # all but the first count
SET_UP_S = 15  # at most, for the networks of one run


@dataclass
class Run:
    """One batch size's measurements."""

    learning: int  # numbers
    batch: int
    checkpointing: bool
    compiled: bool
    first_s: float  # the step that is not counted
    step_s: float  # median
    steps_s: list[float]
    peak_gib: float
    save_s: float  # a checkpoint


def network(size: Size, checkpointing: bool, compiled: bool) -> TrainedNetwork:
    dit = random_dit(size)
    with_fresh_lora(dit)
    return TrainedNetwork(dit, fresh_camera_encoder(size.dim, size.camera_dim), size.dtype, checkpointing, compiled)


def clips(numbers: Any, size: Size) -> Lesson:
    shape = (len(numbers), 16, *size.latents)
    clean, color, mask, still = (torch.randn(shape, dtype=size.dtype) for _ in range(4))
    clip = torch.randn(len(numbers), 257, 1280, dtype=size.dtype)
    return Lesson(
        clean, Seen(color, mask, still, clip), torch.randn(len(numbers), 512, size.text_dim, dtype=size.dtype)
    )


def measured(size: Size, batch: int, steps: int, checkpointing: bool, compiled: bool) -> Run:
    cuda = size.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            Path(folder), Path(folder) / "run", batch_size=batch, steps=steps, save_every=10**9, cpu=not cuda
        )
        trainer = Trainer(
            config,
            Accelerator(cpu=not cuda, mixed_precision="no"),
            network(size, checkpointing, compiled),
            lambda numbers: clips(numbers, size),
            Selection(tuple(range(8)), (), "random", None),
        )
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        with Journal(config.out, main=True, tensorboard=False) as journal:
            trainer.run(journal)
        peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
        began = time.perf_counter()
        trainer.save()
        saved = time.perf_counter() - began
        lines = [json.loads(line) for line in (config.out / LOG).read_text().splitlines()]
    first, *seconds = [line["seconds"] for line in lines]
    learning = count(trainer.parameters.values())
    return Run(learning, batch, checkpointing, compiled, first, statistics.median(seconds), seconds, peak, saved)


def fitting(size: Size, batch: int, steps: int, checkpointing: bool, compiled: bool) -> Run | None:
    """None when memory does not suffice; all of it is free again."""
    try:
        return measured(size, batch, steps, checkpointing, compiled)
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def show(text: str) -> None:
    print(text, flush=True)


class Table:
    """Runs, one line each as soon as it is measured."""

    def __init__(self, size: Size, steps: int, minutes: float) -> None:
        self._size, self._steps, self._end = size, steps, time.monotonic() + 60 * minutes
        self.runs: list[Run] = []
        show("| learning | clips per step | blocks | s per step | s per clip | peak | first step | checkpoint |")
        show("|---|---|---|---|---|---|---|---|")

    def measure(self, batch: int, checkpointing: bool = True, compiled: bool = False) -> Run | None:
        """A line more; None when memory or time does not suffice."""
        blocks = ("twice" if checkpointing else "once") + (", compiled" if compiled else "")
        steps = self._steps
        if self.runs:
            left_s = self._end - time.monotonic() - SET_UP_S
            steps = min(steps, int(left_s / (self.runs[-1].step_s / self.runs[-1].batch * batch)))
        if steps < FEWEST_STEPS:
            show(f"| | {batch} | {blocks} | no time left: --minutes | | | | |")
            return None
        run = fitting(self._size, batch, steps, checkpointing, compiled)
        if run is None:
            show(f"| | {batch} | {blocks} | does not fit | | | | |")
            return None
        self.runs.append(run)
        row = (f"{run.learning / 1e6:.1f} M", batch, blocks, f"{run.step_s:.2f}", f"{run.step_s / batch:.2f}")
        show(
            "| "
            + " | ".join(map(str, (*row, f"{run.peak_gib:.1f} GiB", f"{run.first_s:.1f} s", f"{run.save_s:.1f} s")))
            + " |"
        )
        return run

    def largest(self, total_gib: float, most: int) -> None:
        """One clip per step, two, and from there the largest number that fits."""
        one, two = self.measure(1), self.measure(2)
        if one is None or two is None:
            return
        each = two.peak_gib - one.peak_gib
        batch = max(3, min(most, 1 + int((total_gib - one.peak_gib) / each) if each > 0 else 3))
        if self.measure(batch) is not None:
            while batch < most and self.measure(batch := batch + 1) is not None:
                pass
        else:
            while batch > 3 and self.measure(batch := batch - 1) is None:
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", help="clips per step (default 1, 2, and the most that fit)")
    parser.add_argument("--most", type=int, default=16, help="clips per step, where more would fit")
    parser.add_argument("--steps", type=int, default=5, help="per batch size")
    parser.add_argument("--minutes", type=float, default=5.5, help="for all of it")
    parser.add_argument("--all-remembered", action="store_true", help="also one clip without computing blocks twice")
    parser.add_argument("--compiled", action="store_true", help="also one clip with `compiled = true`")
    parser.add_argument("--write", type=Path, help="all figures as JSON")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU: tries the script itself")
    arguments = parser.parse_args()
    size = TINY if arguments.tiny else Size()
    machine = "CPU" if arguments.tiny else torch.cuda.get_device_name()
    total_gib = 1.0 if arguments.tiny else torch.cuda.mem_get_info()[0] / 2**30
    show(f"{machine}, {total_gib:.1f} GiB free, torch {torch.__version__}, {size.frames}x{size.height}x{size.width}")
    table = Table(size, arguments.steps, arguments.minutes)
    if arguments.all_remembered:
        table.measure(1, checkpointing=False)
    if arguments.compiled:
        table.measure(1, compiled=True)
    if arguments.batches is None:
        table.largest(total_gib, arguments.most)
    else:
        for batch in arguments.batches:
            table.measure(batch)
    if arguments.write:
        told = {
            "machine": machine,
            "torch": torch.__version__,
            "runs": [vars(run) for run in table.runs],
        }
        arguments.write.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
