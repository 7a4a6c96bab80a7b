# SPDX-License-Identifier: Apache-2.0
"""Flow matching as Wan2.1 is trained: noise levels, their weights, and how far an answer is from the truth.

Checked against diffsynth 2.1.12: diffusion/flow_match.py (`set_timesteps_wan`, `set_training_weight`, `add_noise`,
`training_target`) and diffusion/loss.py (`FlowMatchSFTLoss`). One thing differs: diffsynth rounds the timestep to
bfloat16 before the network is asked, here it stays float32, as when painting.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ex4d.generation.wan.schedule import TRAIN_STEPS, flow_schedule


class NoiseLevels(NamedTuple):
    """The 1000 levels that training draws from, each as often as the others. float32 [1000] each"""

    timesteps: Tensor  # what the network is told, 1000 is pure noise
    sigmas: Tensor  # share of noise
    weights: Tensor  # of the loss: most in the middle, 1 in the mean


def noise_levels() -> NoiseLevels:
    """Evenly spaced, then shifted by 5, as painting's own."""
    timesteps, sigmas = flow_schedule(TRAIN_STEPS)
    sigmas = sigmas[:-1]
    middle = TRAIN_STEPS / 2
    bell = torch.exp(-2 * ((sigmas * TRAIN_STEPS - middle) / TRAIN_STEPS) ** 2)
    bell = bell - bell.min()
    return NoiseLevels(timesteps, sigmas, bell * (TRAIN_STEPS / bell.sum()))


def noisy(clean: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """Clean latents on their way to noise.

    Args:
        clean: float32 [B, 16, f, h, w]
        noise: of the same shape.
        sigmas: share of noise. [B]
    """
    share = sigmas.view(-1, 1, 1, 1, 1)
    return (1 - share) * clean + share * noise


def flow_losses(answer: Tensor, clean: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """How far a velocity is from the true one, noise - clean, for each clip.

    Args:
        answer: of the network. float32 [B, 16, f, h, w]
        clean: latents of the truth.
        noise: what it was mixed with.
        weights: of its noise level. [B]

    Returns:
        Mean square, weighted. float32 [B]
    """
    squares = functional.mse_loss(answer.float(), (noise - clean).float(), reduction="none")
    return squares.flatten(1).mean(dim=1) * weights
