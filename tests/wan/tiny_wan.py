# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's and EX-4D's real classes, tiny, with known random weights.

The weights come from numpy's generator in the order of `named_parameters`, so that they are the same with every torch.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import VisionTransformer, WanImageEncoder
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
from torchvision.transforms import Normalize

from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.generation.wan.models import TextEncoder, WanModels

CPU = torch.device("cpu")
VOCABULARY = 64


@dataclass(frozen=True)
class Size:
    """How large the DiT is; (dim / heads) mod 6 must be 0 or 2."""

    dim: int = 24
    heads: int = 2
    ffn_dim: int = 32
    layers: int = 2
    text_dim: int = 16
    freq_dim: int = 32


SMALL = Size()
WIDE = Size(dim=256, heads=2, ffn_dim=512, freq_dim=256)  # heads of 128 channels, as the real one's


def tiny_models(size: Size = SMALL, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> WanModels:
    """All networks, made anew: a test may change them."""
    return WanModels(
        dit=tiny_dit(size, dtype).to(device),
        vae=tiny_vae(dtype).to(device),
        image_encoder=tiny_image_encoder(dtype).to(device),
        camera_encoder=known_weights(camera_encoder(hidden=32, tokens=size.dim), 4).to(device, dtype),
        load_text_encoder=lambda: tiny_text_encoder(size, dtype),
        text_encoder_id=f"tiny {size.text_dim} {dtype}",
        device=device,
        dtype=dtype,
    )


def tiny_dit(size: Size = SMALL, dtype: torch.dtype = torch.float32) -> WanModel:
    """Without LoRA."""
    dit = WanModel(
        dim=size.dim,
        in_dim=36,
        ffn_dim=size.ffn_dim,
        out_dim=16,
        text_dim=size.text_dim,
        freq_dim=size.freq_dim,
        eps=1e-6,
        patch_size=(1, 2, 2),
        num_heads=size.heads,
        num_layers=size.layers,
        has_image_input=True,
    )
    return known_weights(dit, 1).to(dtype)


def tiny_vae(dtype: torch.dtype = torch.float32) -> WanVideoVAE:
    """Without the stock constructor, which would build it at full width."""
    vae = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(vae)
    vae.mean = torch.linspace(-1, 1, 16)
    vae.std = torch.linspace(1, 3, 16)
    vae.scale = [vae.mean, 1.0 / vae.std]
    vae.upsampling_factor, vae.z_dim = 8, 16
    vae.model = known_weights(VideoVAE_(dim=4, z_dim=16), 2)
    return vae.eval().to(dtype)


class TinyClip(torch.nn.Module):
    """The half of CLIP that looks at pictures."""

    image_size = 224

    def __init__(self) -> None:
        super().__init__()
        self.visual = VisionTransformer(
            image_size=224,
            patch_size=14,
            dim=1280,
            mlp_ratio=0.1,
            out_dim=16,
            num_heads=16,
            num_layers=2,
            activation="gelu",
        )


def tiny_image_encoder(dtype: torch.dtype = torch.float32) -> WanImageEncoder:
    """Two layers at full width: the DiT's image tokens have 1280 channels."""
    encoder = WanImageEncoder.__new__(WanImageEncoder)
    torch.nn.Module.__init__(encoder)
    encoder.model = known_weights(TinyClip(), 3)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    encoder.transforms = SimpleNamespace(transforms=[Normalize(mean=mean, std=std)])
    return encoder.eval().to(dtype)


def tiny_text_encoder(size: Size = SMALL, dtype: torch.dtype = torch.float32) -> TextEncoder:
    """One layer, and a tokenizer that gives each word a number."""
    network = WanTextEncoder(
        vocab=VOCABULARY, dim=size.text_dim, dim_attn=16, dim_ffn=32, num_heads=2, num_layers=1, num_buckets=8
    )
    return TextEncoder(known_weights(network, 5).to(dtype), tokenize)


def tokenize(text: str, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of a text, padded to 512 and ended by 1, as the real tokenizer does. [1, 512] each"""
    words = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in text.split()]
    words = [*words[:511], 1]
    ids, mask = torch.zeros(1, 512, dtype=torch.long), torch.zeros(1, 512, dtype=torch.long)
    ids[0, : len(words)] = torch.tensor(words)
    mask[0, : len(words)] = 1
    return ids, mask


def known_weights(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights scaled as fresh ones are, biases and gains included; all of them representable in bfloat16."""
    random = np.random.default_rng(seed)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel() if parameter.dim() > 1 else 1)
        gain = 1.0 if parameter.dim() == 1 and bool((parameter == 1).all()) else 0.0
        values = random.standard_normal(parameter.shape, np.float32)
        values *= 0.1 if parameter.dim() == 1 else fan_in**-0.5
        parameter.data = (torch.from_numpy(values) + gain).bfloat16().float()
    return network.eval().requires_grad_(False)


def random_lora(dit: WanModel, rank: int = 4, scale: float = 0.5, seed: int = 6) -> dict[str, torch.Tensor]:
    """A LoRA with the names and the targets of `ex4d.ckpt`."""
    random = np.random.default_rng(seed)
    targets = [f"{part}.{name}" for part in ("self_attn", "cross_attn") for name in "qkvo"] + ["ffn.0", "ffn.2"]
    lora = {}
    for i, block in enumerate(dit.blocks):
        for target in targets:
            out_width, in_width = block.get_submodule(target).weight.shape
            for side, shape in (("A", (rank, in_width)), ("B", (out_width, rank))):
                values = random.standard_normal(shape, np.float32) * scale * shape[1] ** -0.5
                lora[f"blocks.{i}.{target}.lora_{side}.default.weight"] = torch.from_numpy(values).bfloat16().float()
    return lora


def write_ex4d(folder: Path, models: WanModels) -> Path:
    """The LoRA and the camera encoder as they are published. Returns the file."""
    path = folder / "ex4d.ckpt"
    torch.save({**random_lora(models.dit, rank=16), **models.camera_encoder.state_dict()}, path)
    return path


def moving_plate(frames: int = 5, height: int = 32, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Coloured squares from which a camera turns away: a wedge of holes grows from the right, and one inside.

    Returns:
        uint8 [F, H, W, 3] and bool [F, H, W]
    """
    squares = np.random.default_rng(8).integers(0, 256, (frames, height // 4, width // 4, 3), dtype=np.uint8)
    color = squares.repeat(4, axis=1).repeat(4, axis=2)
    mask = np.ones((frames, height, width), bool)
    for i in range(1, frames):
        mask[i, :, width - 2 * i :] = False
        mask[i, 4 : 6 + i, 6 : 8 + i] = False
    return color, mask
