# SPDX-License-Identifier: Apache-2.0
"""Reading files of weights without trusting them: nothing in them is run, and a broken one is said in a sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ex4d.errors import MachineError

WRAPPERS = ("state_dict", "module", "model_state")  # names under which some programs save the one table of weights


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """The weights of a file by name. Large ones stay on the disk until they are used.

    Args:
        path: .safetensors, or what `torch.save` wrote.
        remedy: what to do when the file is not whole, as a sentence.

    Raises:
        MachineError: it is missing, truncated, or holds anything but weights.
    """
    if not path.is_file():
        raise MachineError(f"'{path}' is missing. {remedy}")
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    except Exception as error:  # torch and safetensors raise half a dozen types for files that are not what they say
        detail = " ".join(str(error).split())[:160]
        raise MachineError(f"'{path}' does not open as weights, it may be truncated ({detail}). {remedy}") from error
    if isinstance(content, Mapping) and len(content) == 1 and next(iter(content)) in WRAPPERS:
        content = next(iter(content.values()))
    if not isinstance(content, Mapping) or not content:
        raise MachineError(f"'{path}' holds no table of weights. {remedy}")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise MachineError(f"'{path}' holds {len(wrong)} entries that are no weights, for example {wrong[0]}. {remedy}")
    return {str(name): value for name, value in content.items()}


def some(names: list[str]) -> str:
    """A few names of many, for a message."""
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        names: list[str] = file.keys()
        return {name: file.get_tensor(name) for name in names}


def _torch_file(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"  # torch before 1.6 wrote files that cannot stay on the disk
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
