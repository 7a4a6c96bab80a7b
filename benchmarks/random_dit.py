# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's DiT with random weights, and conditions of no picture, for what measures the network alone."""

from dataclasses import replace
from typing import Any

import torch
from diffsynth.models.wan_video_dit import WanModel, precompute_freqs_cis_3d
from random_generation import DIT, Size, dit_shape, on_device
from random_generation import TINY as TINY_NETWORKS

from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Network

FULL = Size()
TINY = replace(TINY_NETWORKS, layers=8, frames=5, height=64, width=48, dtype=torch.bfloat16)


def random_dit(size: Size) -> Any:
    """A `WanModel` with the same numbers on every GPU of one kind."""
    dit = on_device(lambda: WanModel(has_image_input=True, **dit_shape(size), **DIT), size, "dit")
    dit.freqs = precompute_freqs_cis_3d(size.dim // size.heads)
    return dit


def random_conditions(size: Size) -> Conditions:
    """One job's, and no picture's."""
    generator = torch.Generator(size.device).manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=size.device).bfloat16()

    frames, height, width = size.latents
    return Conditions(
        ray=normal(1, size.dim, frames, height // 2, width // 2),
        y=normal(1, 20, frames, height, width),
        clip=normal(1, 257, 1280),
        context={"positive": normal(1, 512, size.text_dim), "negative": normal(1, 512, size.text_dim)},
    )


def network(device: torch.device, tiny: bool) -> Network:
    """For the other processes of a `Team`."""
    dit = random_dit(replace(TINY if tiny else FULL, device=device))

    def bind(conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
        return FastForward(dit, conditions, mode, sharding=sharding)

    return bind
