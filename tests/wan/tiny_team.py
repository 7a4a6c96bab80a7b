# SPDX-License-Identifier: Apache-2.0
"""The tiny network of `test_fast_forward` in the processes of a team."""

import os
from typing import Any

import torch
import torchvision_shim  # noqa: F401
from test_fast_forward import tiny_dit

from ex4d.errors import MachineError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.fast_forward import FastForward, Sharding
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Network


def network(device: torch.device, heads: int, dies: str = "", at: int = 0) -> Network:
    """The same weights in every process; `dies`: how this one ends in its forward number `at`."""
    torch.set_num_threads(1)
    dit = tiny_dit(heads, 12).to(device)

    def bind(conditions: Conditions, mode: Mode, sharding: Sharding | None) -> Velocity:
        forward = FastForward(dit, conditions, mode, sharding=sharding)
        return Dying(forward, dies, at) if dies else forward

    return bind


class Dying:
    """A network that ends its process in one of its forwards."""

    def __init__(self, forward: Velocity, how: str, at: int) -> None:
        self._forward, self._how, self._left = forward, how, at

    def __call__(self, *arguments: Any) -> torch.Tensor:
        self._left -= 1
        if self._left < 0:
            if self._how == "killed":
                os.kill(os.getpid(), 9)
            raise MachineError("Too little memory for this.")
        return self._forward(*arguments)


def broken(device: torch.device) -> Network:
    """Its weights are missing."""
    raise MachineError("Wan2.1's weights are missing. Run 'ex4d models download'.")
