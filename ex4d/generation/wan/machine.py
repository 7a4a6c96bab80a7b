# SPDX-License-Identifier: Apache-2.0
"""What memory this machine has to give at this moment. torch is imported only to ask."""

import re
from dataclasses import dataclass
from pathlib import Path

from ex4d.errors import MachineError

GIB = 2**30
CONTAINER = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What there is to work with at this moment. Bytes."""

    name: str  # the GPU's, as its driver says it
    total: int
    free: int
    ram_free: int
    fp8: bool = True  # it multiplies 8-bit floats: Ada and newer


def read_machine(device: int = 0) -> Machine:
    """Read what is free on a CUDA device and in main memory. Honours torch's cap on this process.

    Raises:
        MachineError: there is no such device.
    """
    import psutil
    import torch

    if not torch.cuda.is_available() or device >= torch.cuda.device_count():
        raise MachineError("Wan2.1 needs an NVIDIA GPU with CUDA; this machine's torch sees none.")
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    cap = int(total * torch.cuda.get_per_process_memory_fraction(device))
    free = min(free, cap - held) + held - torch.cuda.memory_allocated(device)
    name: str = torch.cuda.get_device_name(device)
    fp8 = torch.cuda.get_device_capability(device) >= (8, 9)
    ram_free = min(int(psutil.virtual_memory().available), container_room())
    return Machine(name, cap, max(free, 0), ram_free, fp8)


def container_room(group: Path = CONTAINER) -> int:
    """Bytes of main memory that the container may still take; without a limit more than there can be. Linux."""
    try:
        limit, used = (group / "memory.max").read_text(), int((group / "memory.current").read_text())
        cached = re.search(r"^file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        return int(limit) - used + (int(cached[1]) if cached else 0)  # files that were read make room
    except (OSError, ValueError):  # no container, or its limit is the word max
        return 2**63
