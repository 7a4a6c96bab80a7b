# SPDX-License-Identifier: Apache-2.0
"""EX-4D's camera encoder: what the new camera sees of the plate, as a tensor added to the DiT's tokens."""

import torch
from torch import Tensor, nn

LATENT_CHANNELS, HIDDEN_CHANNELS, TOKEN_CHANNELS = 16, 1024, 5120  # EX-4D release, generate.py


def camera_encoder(hidden: int = HIDDEN_CHANNELS, tokens: int = TOKEN_CHANNELS) -> nn.ModuleDict:
    """An encoder with fresh weights; their names are those of `ex4d.ckpt`.

    Args:
        hidden: channels between its layers.
        tokens: channels of the DiT.
    """
    layers = nn.Sequential(
        nn.Conv3d(2 * LATENT_CHANNELS, hidden, 1),
        nn.SiLU(),
        nn.Conv3d(hidden, hidden, 1),
        nn.SiLU(),
        nn.Conv3d(hidden, hidden, 1),
    )
    patches = nn.Conv3d(hidden, tokens, (1, 2, 2), (1, 2, 2))
    return nn.ModuleDict({"latent_encoder": layers, "latent_patch_embedding": patches})


def ray_latent(encoder: nn.ModuleDict, color: Tensor, mask: Tensor) -> Tensor:
    """What is added to the tokens right after the DiT's patch embedding.

    Args:
        encoder: made by `camera_encoder`.
        color: VAE latents of the masked colour. [1, 16, f, h, w]
        mask: VAE latents of the mask. [1, 16, f, h, w]

    Returns:
        [1, 5120, f, h / 2, w / 2]
    """
    features = encoder["latent_encoder"](torch.cat([color, mask], dim=1))
    latent: Tensor = encoder["latent_patch_embedding"](features)
    return latent
