# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's DiT with random weights, full size or tiny, for the measurements that do not need a picture."""

from dataclasses import dataclass

import torch
from diffsynth.models.wan_video_dit import WanModel, precompute_freqs_cis_3d

from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.fp8 import quantise
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Network


@dataclass(frozen=True)
class Size:
    """Of a network and of what it paints."""

    dim: int = 5120
    heads: int = 40
    ffn_dim: int = 13824
    layers: int = 40
    text_dim: int = 4096
    latents: tuple[int, int, int] = (13, 64, 64)  # 49 x 512 x 512


FULL = Size()
TINY = Size(dim=48, heads=4, ffn_dim=64, layers=8, text_dim=32, latents=(2, 8, 6))


def random_dit(device: torch.device, size: Size = FULL, fp8: bool = False) -> WanModel:
    """The same numbers on every GPU of one kind, scaled so that activations keep their size. bfloat16"""
    with torch.device("meta"):
        dit = WanModel(
            dim=size.dim,
            in_dim=36,
            ffn_dim=size.ffn_dim,
            out_dim=16,
            text_dim=size.text_dim,
            freq_dim=256,
            eps=1e-6,
            patch_size=(1, 2, 2),
            num_heads=size.heads,
            num_layers=size.layers,
            has_image_input=True,
        )
    dit = dit.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    dit.freqs = precompute_freqs_cis_3d(size.dim // size.heads)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in dit.named_parameters():
        if name.endswith("modulation"):
            parameter.normal_(0, size.dim**-0.5, generator=generator)
        elif parameter.dim() > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        elif "norm" in name and name.endswith("weight"):
            parameter.fill_(1)
        else:
            parameter.normal_(0, 0.02, generator=generator)
    if fp8:
        quantise(dit)
    return dit


def random_conditions(device: torch.device, size: Size = FULL) -> Conditions:
    """One job's, and no picture's."""
    generator = torch.Generator(device).manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).bfloat16()

    frames, height, width = size.latents
    return Conditions(
        ray=normal(1, size.dim, frames, height // 2, width // 2),
        y=normal(1, 20, frames, height, width),
        clip=normal(1, 257, 1280),
        context={"positive": normal(1, 512, size.text_dim), "negative": normal(1, 512, size.text_dim)},
    )


def network(device: torch.device, tiny: bool) -> Network:
    """For the other processes of a `Team`."""
    dit = random_dit(device, TINY if tiny else FULL)

    def bind(conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
        return FastForward(dit, conditions, mode, sharding=sharding)

    return bind
