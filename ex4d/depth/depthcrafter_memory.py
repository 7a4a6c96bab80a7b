# SPDX-License-Identifier: Apache-2.0
"""Whether a clip fits into a GPU's memory, decided before DepthCrafter's networks are loaded."""

from dataclasses import dataclass

import torch

from ex4d.depth.depthcrafter_sampler import CHUNK, SamplerOptions
from ex4d.errors import MachineError

UNET_GIB, VAE_GIB, WEIGHTS_GIB = 2.9, 0.4, 4.5
UNET_BYTES_PER_PIXEL, DECODER_BYTES_PER_PIXEL = 160, 1550  # of a frame, what is live while they compute
WINDOW = SamplerOptions.window


@dataclass(frozen=True)
class MemoryPlan:
    """Where the networks stay while they do not compute."""

    resident: bool  # on the device (fast), or in main memory (small)
    notices: tuple[str, ...] = ()


def plan_memory(device: torch.device, count: int, height: int, width: int, wish: str = "auto") -> MemoryPlan:
    """Decide before anything is loaded whether a clip fits, and how.

    Args:
        device: where the networks compute.
        count, height, width: of the frames that they will see.
        wish: "fast", "low", or "auto" for the fastest that fits.

    Raises:
        MachineError: the clip does not fit in either way.
    """
    if device.type != "cuda":
        return MemoryPlan(resident=True)
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    pixels = height * width
    # GiB. On an H200 this sum is right within 0.5 at 49 x 512 x 512 and 49 x 576 x 1024: benchmarks/depth_gpu.py
    clip = 12 * count * pixels / 2**30
    drawing = min(count, WINDOW) * pixels * UNET_BYTES_PER_PIXEL / 2**30
    decoding = min(count, CHUNK) * pixels * DECODER_BYTES_PER_PIXEL / 2**30
    fast = WEIGHTS_GIB + clip + max(drawing, decoding)
    low = clip + max(UNET_GIB + drawing, VAE_GIB + decoding)
    if wish != "low" and fast < free:
        return MemoryPlan(resident=True)
    if wish != "fast" and low < free:
        notice = f"DepthCrafter's networks take turns on the GPU: {free:.1f} GiB are free, {fast:.1f} would be faster."
        return MemoryPlan(resident=False, notices=(notice,) if wish == "auto" else ())
    needed = fast if wish == "fast" else low
    raise MachineError(
        f"DepthCrafter needs about {needed:.1f} GiB of GPU memory for {count} frames of {width} x {height}, "
        f"{free:.1f} GiB are free. Use memory=low, a smaller side (side=640), or fewer frames."
    )
