# SPDX-License-Identifier: Apache-2.0
"""Which clip comes when, with which noise: a function of the seed and of how many clips were seen before.

Nothing random has a state, so a run that goes on has nothing to restore, and several processes together see exactly
what one would.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ex4d.training.loss import NoiseLevels


class Draw(NamedTuple):
    """What chance decided for one clip of a batch."""

    noise: Tensor  # float32 [16, f, h, w], on the CPU
    timestep: Tensor  # float32 []
    sigma: Tensor  # float32 []
    weight: Tensor  # float32 []


def sample_at(position: int, count: int, seed: int) -> int:
    """The sample at a position of the endless sequence in which every `count` positions show every sample once."""
    epoch, place = divmod(position, count)
    return int(torch.randperm(count, generator=_generator(seed, epoch, 0))[place])


def draw_at(position: int, shape: torch.Size, levels: NoiseLevels, seed: int) -> Draw:
    """Noise and noise level at a position. Drawn on the CPU, so that every machine draws the same."""
    generator = _generator(seed, position, 1)
    level = int(torch.randint(len(levels.timesteps), (1,), generator=generator))
    noise = torch.randn(shape, generator=generator)
    return Draw(noise, levels.timesteps[level], levels.sigmas[level], levels.weights[level])


def fixed_draws(number: int, shape: torch.Size, levels: NoiseLevels, count: int, seed: int) -> list[Draw]:
    """The draws by which a clip of the validation is judged: levels evenly spread, the same at every time."""
    generator = _generator(seed, number, 2)
    places = [(2 * i + 1) * len(levels.timesteps) // (2 * count) for i in range(count)]
    return [
        Draw(torch.randn(shape, generator=generator), levels.timesteps[i], levels.sigmas[i], levels.weights[i])
        for i in places
    ]


def _generator(seed: int, number: int, purpose: int) -> torch.Generator:
    """One per purpose and number. torch's generator for the CPU looks at the lower 32 bits of its seed."""
    mixed = (seed * 3 + purpose) * 0x9E3779B97F4A7C15 + number  # 2^64 / golden ratio: far apart for all purposes
    return torch.Generator("cpu").manual_seed(mixed % 2**63)
