# SPDX-License-Identifier: Apache-2.0
"""The tiny network of `test_fast_forward` in the processes of a team."""

import torch
import torchvision_shim  # noqa: F401
from test_fast_forward import tiny_dit

from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Network


def network(device: torch.device, heads: int) -> Network:
    """The same weights in every process."""
    torch.set_num_threads(1)
    dit = tiny_dit(heads, 12).to(device)

    def bind(conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
        return FastForward(dit, conditions, mode, sharding=sharding)

    return bind
