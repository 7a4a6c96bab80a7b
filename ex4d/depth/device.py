# SPDX-License-Identifier: Apache-2.0
"""What a depth model computes on. torch is only imported here when a source runs."""

import importlib.util
from typing import Any

from ex4d.errors import DepthError, MachineError

DEVICES = ("auto", "cuda", "mps", "cpu")


def need_packages(who: str, *names: str) -> None:
    """Refuse to go on without the packages of the extra `depth`.

    Raises:
        MachineError: some are not installed; the message says how to install them.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"{who} needs the Python packages {', '.join(missing)}, which are not installed. "
            "Install them with: pip install 'ex4d[depth]'"
        )


def torch_device(name: str = "auto") -> Any:
    """The torch device of that name; `auto` takes the fastest one that this machine has.

    Raises:
        DepthError: there is no device of that name.
        MachineError: this machine does not have it.
    """
    import torch

    if name not in DEVICES:
        raise DepthError(f"The depth option device is one of {', '.join(DEVICES)}, got '{name}'.")
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if has[device])
    if not has[name]:
        raise MachineError(f"torch {torch.__version__} finds no {name} device here. Choose device=auto or device=cpu.")
    return torch.device(name)
