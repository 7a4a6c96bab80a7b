# SPDX-License-Identifier: Apache-2.0
"""Giving a network exactly the weights that a file holds, or saying what differs."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ex4d.errors import MachineError
from ex4d.generation.wan.tensors import some

REMEDY = "Check the files with: ex4d models verify wan"


def assign(network: nn.Module, tensors: Mapping[str, Tensor], what: str, path: Path) -> None:
    """Give a network exactly these weights, still on the disk.

    Raises:
        MachineError: names or shapes differ.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    if missing or unexpected:
        text = f"'{path.name}' does not hold {what}: {len(wanted)} tensors were expected, {len(tensors)} are there."
        text += f" Missing: {some(missing)}." if missing else ""
        text += f" Not expected: {some(unexpected)}." if unexpected else ""
        raise MachineError(f"{text} {REMEDY}")
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            found = list(tensors[name].shape)
            raise MachineError(f"'{path.name}' does not hold {what}: {name} is {found}, not {list(shape)}. {REMEDY}")
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    network.requires_grad_(False)


def shape_of(tensors: Mapping[str, Tensor], name: str, dimensions: int, what: str, path: Path) -> tuple[int, ...]:
    if name not in tensors or tensors[name].dim() != dimensions:
        raise MachineError(f"'{path.name}' does not hold {what}: it has no fitting {name}. {REMEDY}")
    return tuple(tensors[name].shape)


def count_layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many layers are numbered from 0 on."""
    numbers = {int(match[1]) for name in tensors if (match := re.match(pattern, name))}
    return max(numbers, default=-1) + 1
