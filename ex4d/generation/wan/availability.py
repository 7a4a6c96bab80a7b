# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can paint with Wan2.1: packages, weights, GPU, the cheapest question first."""

import importlib.util
import warnings
from collections.abc import Sequence

from ex4d.errors import MachineError
from ex4d.generation.options import Lora
from ex4d.generation.wan.files import find_wan_files
from ex4d.generation.wan.modes import Mode

LEAST_CAPABILITY = (8, 0)  # below it has no bfloat16, and torch's fast attention does not run
PACKAGES = ("torch", "torchvision", "diffsynth", "safetensors", "transformers")


def need_wan(mode: Mode, loras: Sequence[Lora] = ()) -> None:
    """Refuse to go on where Wan2.1 cannot paint. torch is only imported when everything else is there.

    Args:
        mode: some need weights of their own.
        loras: of the models folder.

    Raises:
        MachineError: something is missing; the message says how to get it.
    """
    need_installed(mode, loras)
    _need_gpu()


def need_installed(mode: Mode, loras: Sequence[Lora] = ()) -> None:
    """`need_wan` without the GPU: packages and weights. Imports no torch."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"Painting with Wan2.1 needs the Python packages {', '.join(missing)}, which are not installed. "
            "Install them with: pip install 'ex4d[wan]' -c constraints.txt. Or use the preview engine."
        )
    find_wan_files(mode, loras)


def can_paint(mode: Mode) -> bool:
    """Whether `need_wan` has nothing to say."""
    try:
        need_wan(mode)
    except MachineError:
        return False
    return True


def _need_gpu() -> None:
    import torch

    with warnings.catch_warnings(record=True) as said:  # torch warns of a driver that is too old
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if torch.version.cuda is None:
        raise MachineError(
            f"Painting with Wan2.1 needs an NVIDIA GPU, and torch {torch.__version__} was built without CUDA. "
            "Install a build with CUDA (pytorch.org), or use the preview engine."
        )
    if available:
        capability = torch.cuda.get_device_capability()
        if capability < LEAST_CAPABILITY:
            raise MachineError(
                f"Painting with Wan2.1 needs an NVIDIA GPU of compute capability 8.0 or newer (Ampere, Ada, Hopper, "
                f"Blackwell); {torch.cuda.get_device_name()} has {capability[0]}.{capability[1]}. Use another GPU "
                "(CUDA_VISIBLE_DEVICES) or the preview engine."
            )
        return
    reason = f" It says: {str(said[0].message).splitlines()[0][:300]}" if said else ""
    raise MachineError(
        f"Painting with Wan2.1 needs an NVIDIA GPU; torch {torch.__version__} finds none that it can use.{reason} If "
        f"there is one, update its driver for CUDA {torch.version.cuda}. Or use the preview engine."
    )
