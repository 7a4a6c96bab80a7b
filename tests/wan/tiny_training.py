# SPDX-License-Identifier: Apache-2.0
"""A tiny network that learns clips of noise; alone, and as one of several processes when this file is run.

RANK=0 WORLD_SIZE=2 ... python tiny_training.py FOLDER SHARDING [SHARDING ...]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision_shim  # noqa: F401
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tiny_wan import SMALL, tiny_dit

from ex4d.generation.wan.conditions import Seen
from ex4d.training.adapter import fresh_camera_encoder, with_fresh_lora
from ex4d.training.config import TrainConfig
from ex4d.training.journal import Journal
from ex4d.training.latents import Lesson
from ex4d.training.loop import Trainer
from ex4d.training.network import TrainedNetwork
from ex4d.training.run import accelerator_for
from ex4d.training.run_command import add_run_and_export
from ex4d.training.selection import Selection

SHAPE = (16, 2, 4, 4)
CLIPS = 4


def tiny_network(
    dtype: torch.dtype = torch.float32, checkpointing: bool = True, live: bool = False, compiled: bool = False
) -> TrainedNetwork:
    """As training begins; `live`: as if it had gone on for long, with no zeros left."""
    dit = tiny_dit(SMALL, dtype)
    with_fresh_lora(dit)
    network = TrainedNetwork(dit, fresh_camera_encoder(SMALL.dim, 32), dtype, checkpointing, compiled)
    if live:
        generator = torch.Generator().manual_seed(5)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(0, 0.1, generator=generator)
    return network


def tiny_lesson(numbers: Any, shape: tuple[int, ...] = SHAPE) -> Lesson:
    """Clips made of their numbers."""
    parts = []
    for number in numbers:
        generator = torch.Generator().manual_seed(1000 + number)
        still, color, mask, clean = (torch.randn(shape, generator=generator) for _ in range(4))
        clip = torch.randn(257, 1280, generator=generator)
        parts.append((clean, color, mask, still, clip, torch.randn(512, SMALL.text_dim, generator=generator)))
    clean, color, mask, still, clip, words = (torch.stack(part) for part in zip(*parts, strict=True))
    return Lesson(clean, Seen(color, mask, still, clip), words)


def tiny_config(folder: Path, **settings: Any) -> TrainConfig:
    given = {"steps": 6, "batch_size": 2, "learning_rate": 3e-3, "warmup_steps": 3, "save_every": 3, "cpu": True}
    return TrainConfig(dataset=folder, out=folder / "run", **{**given, **settings})


def tiny_trainer(
    config: TrainConfig, network: TrainedNetwork | None = None, clips: int = CLIPS, held_out: int = 0, **more: Any
) -> Trainer:
    chosen = Selection(tuple(range(clips)), tuple(range(100, 100 + held_out)), f"{clips} clips", True)
    accelerator = more.get("accelerator") or Accelerator(cpu=True)
    return Trainer(config, accelerator, network or tiny_network(), more.get("read", tiny_lesson), chosen)


def command(*words: object) -> int:
    """Run `ex4d train WORDS`; errors are raised."""
    parser = argparse.ArgumentParser()
    add_run_and_export(parser.add_subparsers())
    options = parser.parse_args([str(word) for word in words])
    return options.run(options)


def run(trainer: Trainer, **more: Any) -> None:
    with Journal(trainer.config.out, trainer.accelerator.is_main_process, trainer.config.tensorboard) as journal:
        trainer.run(journal, **more)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for sharding in sys.argv[2:]:
        config = tiny_config(folder / sharding, sharding=sharding, batch_size=1, steps=3)
        trainer = tiny_trainer(config, tiny_network(live=True), held_out=3, accelerator=accelerator_for(config))
        trainer.resume()
        run(trainer)
        AcceleratorState._reset_state()
