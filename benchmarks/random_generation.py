# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's networks at full size with random weights, a plate and words: the same for everybody who asks."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

PROMPTS = ("a plate seen from a new camera", "blurred details, still picture, messy background")
LORA_RANK = 16


@dataclass(frozen=True)
class Size:
    """Of the networks and of the clip."""

    dim: int = 5120
    heads: int = 40
    ffn_dim: int = 13824
    layers: int = 40
    text_dim: int = 4096
    vae_dim: int = 96
    clip_layers: int = 32
    camera_dim: int = 1024
    frames: int = 49
    height: int = 512
    width: int = 512
    dtype: torch.dtype = torch.bfloat16
    device: torch.device = torch.device("cuda")

    @property
    def latents(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8


TINY = Size(48, 4, 64, 3, 32, 4, 2, 16, 9, 32, 48, torch.float32, torch.device("cpu"))  # to try the script itself
DIT = {"in_dim": 36, "out_dim": 16, "freq_dim": 256, "eps": 1e-6, "patch_size": (1, 2, 2)}


def weights(name: str, like: torch.Tensor) -> torch.Tensor:
    """Named random numbers: norms are 1, biases small, a linear keeps the size of what goes through it."""
    generator = torch.Generator(like.device).manual_seed(zlib.crc32(name.encode()))
    if "gamma" in name or ("norm" in name and name.endswith("weight")):
        return torch.ones_like(like)
    std = 0.02 if like.dim() < 2 or "lora_B" in name else like.shape[-1] ** -0.5 if like.dim() == 3 else None
    std = std or like[0].numel() ** -0.5
    return torch.empty_like(like).normal_(0, std, generator=generator)


@torch.no_grad()
def filled(module: torch.nn.Module, prefix: str) -> Any:
    for name, parameter in module.named_parameters():
        parameter.data = weights(f"{prefix}.{name}", parameter.data)
    return module.eval().requires_grad_(False)


def on_device(make: Callable[[], torch.nn.Module], size: Size, prefix: str) -> Any:
    """Made without memory, then filled where it computes."""
    with torch.device("meta"):
        module = make()
    return filled(module.to(size.dtype).to_empty(device=size.device), prefix)


def plate(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Soft coloured noise that moves, seen through a hole that moves. uint8 [F, H, W, 3], bool [F, H, W]"""
    shape = (size.height, size.width)
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 9), None, 0, 255, cv2.NORM_MINMAX)
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    color = np.stack([np.roll(soft, 3 * i, axis=1) for i in range(size.frames)])
    mask = np.stack([(rows - 0.5) ** 2 + (columns - 0.5 - 0.004 * i) ** 2 < 0.2 for i in range(size.frames)])
    return color * mask[..., None], mask


def words(prompt: str, size: Size) -> torch.Tensor:
    """[tokens, text_dim]"""
    like = torch.empty(len(prompt.split()), size.text_dim, dtype=size.dtype, device=size.device)
    return weights(prompt, like) * 4


def dit_shape(size: Size) -> dict[str, int]:
    return {
        "dim": size.dim,
        "ffn_dim": size.ffn_dim,
        "text_dim": size.text_dim,
        "num_heads": size.heads,
        "num_layers": size.layers,
    }


def image_encoder(cls: type, size: Size) -> Any:
    """CLIP ViT-H/14 with as many layers as asked for."""
    with size.device:
        encoder = cls()
    layers = encoder.model.visual.transformer
    encoder.model.visual.transformer = torch.nn.Sequential(*list(layers)[: size.clip_layers])
    encoder.model.textual = None
    return filled(encoder.to(size.device, size.dtype), "clip")
