# SPDX-License-Identifier: Apache-2.0
"""Which noise levels the denoise loop visits, and how the network is told of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from ex4d.errors import InputError

SHIFT = 5.0  # towards the noisy end: EX-4D release, Wan2.1 image to video
TRAIN_STEPS = 1000  # the time that the network was taught as pure noise


class Schedule(NamedTuple):
    """Step `i` asks the network at `timesteps[i]` and goes from `sigmas[i]` to `sigmas[i + 1]`."""

    timesteps: Tensor  # float32 [steps], 1000 is pure noise
    sigmas: Tensor  # float32 [steps + 1], share of noise, 1 .. 0


def flow_schedule(steps: int, shift: float = SHIFT) -> Schedule:
    """Flow matching's noise levels, evenly spaced and then shifted.

    Args:
        steps: how often the network is asked, per branch of the guidance.
        shift: above 1, more of the steps are spent where there is more noise.

    Raises:
        InputError: no steps.
    """
    if steps < 1:
        raise InputError(f"At least 1 step is needed to paint, got {steps}. The release takes 25.")
    even = torch.linspace(1, 0, steps + 1)[:-1]
    sigmas = shift * even / (1 + (shift - 1) * even)
    return Schedule(sigmas * TRAIN_STEPS, torch.cat([sigmas, sigmas.new_zeros(1)]))


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """The timestep as waves: computed in float64, for bfloat16 would move it by up to two steps of a thousand.

    Args:
        timestep: float32 [1]
        width: of the result.

    Returns:
        Cosines, then sines. float32 [1, width]
    """
    half = width // 2
    rates = torch.pow(10000, -torch.arange(half, dtype=torch.float64, device=timestep.device).div(half))
    angles = torch.outer(timestep.double(), rates)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()
