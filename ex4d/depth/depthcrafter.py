# SPDX-License-Identifier: Apache-2.0
"""Depth from DepthCrafter: steady over time, and what the EX-4D release uses. Research only."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ex4d.depth.clip import DisparityClip, SourceOptions
from ex4d.depth.device import need_packages, torch_device
from ex4d.depth.known import number
from ex4d.depth.sizes import RELEASE_SIDE, SIDE_MULTIPLE, resized, work_size
from ex4d.document import Json
from ex4d.errors import DepthError
from ex4d.models import MODELS, find_weights
from ex4d.progress import ProgressCallback
from ex4d.video import Clip

DEPTHCRAFTER_OPTIONS = ("steps", "side", "memory", "device", "weights", "svd")
"""steps=N: of the sampler. side=N: longest side at which the depth is drawn. memory=auto|fast|low. device=NAME.
weights=FOLDER, svd=FOLDER: where the networks lie, when not in the usual places."""

RELEASE_STEPS, RELEASE_SEED = 5, 42  # recon.py

UNET, SVD = MODELS["depthcrafter"], MODELS["svd"]


@dataclass(frozen=True)
class DepthCrafterDepth:
    """Draws the disparity of the whole clip with a video diffusion model."""

    steps: int = RELEASE_STEPS
    side: int = RELEASE_SIDE
    memory: str = "auto"
    device: str = "auto"
    unet: Path | None = None
    svd: Path | None = None

    name = "depthcrafter"
    label = "DepthCrafter (research only)"
    licence = (
        "DepthCrafter's own: academic, research and education only, no commercial or production use under any "
        "circumstances; with Stable Video Diffusion under the Stability AI community licence"
    )
    commercial_use = False

    @classmethod
    def made_of(cls, options: SourceOptions) -> "DepthCrafterDepth":
        values = options.values
        steps, side = number(values, "steps", RELEASE_STEPS), number(values, "side", RELEASE_SIDE)
        assert steps is not None
        assert side is not None
        if steps < 1 or steps != int(steps):
            raise DepthError(f"The depth option steps must be a whole number above zero, got '{values['steps']}'.")
        if side < SIDE_MULTIPLE:
            raise DepthError(f"The depth option side must be at least {SIDE_MULTIPLE} pixels, got '{values['side']}'.")
        memory = values.get("memory", "auto")
        if memory not in ("auto", "fast", "low"):
            raise DepthError(f"The depth option memory is one of auto, fast, low, got '{memory}'.")
        folders = {key: Path(values[key]) if key in values else None for key in ("weights", "svd")}
        device = values.get("device", "auto")
        return cls(int(steps), int(side), memory, device, folders["weights"], folders["svd"])

    @property
    def cache_key(self) -> dict[str, Json]:
        return {
            "steps": self.steps,
            "side": self.side,
            "seed": RELEASE_SEED,
            "weights": str(self.unet or UNET.repository),
            "svd": str(self.svd or SVD.repository),
        }

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DisparityClip:
        """Draw the disparity of every frame.

        Raises:
            MachineError: the packages, the weights or the memory for it are not there.
        """
        need_packages(self.label, "torch", "diffusers", "transformers", "accelerate")
        unet, svd = find_weights(UNET, self.unet), find_weights(SVD, self.svd)
        from ex4d.depth import depthcrafter_sampler as sampler
        from ex4d.depth.depthcrafter_memory import plan_memory

        count, height, width = clip.frames.shape[:3]
        work_width, work_height = work_size(width, height, self.side)
        frames = resized(clip.frames, work_width, work_height)
        device = torch_device(self.device)
        plan = plan_memory(device, count, work_height, work_width, self.memory)
        parts = sampler.load_parts(unet, svd, device, plan.resident)
        options = sampler.SamplerOptions(steps=self.steps, seed=RELEASE_SEED)
        small = sampler.draw_disparity(parts, frames, options, progress)
        if not np.isfinite(small).all():
            raise DepthError("DepthCrafter drew no finite depth for this clip. Check its weights, or use device=cpu.")
        notices = list(plan.notices)
        if (work_width, work_height) != (width, height):
            notices.append(f"The depth was drawn at {work_width} x {work_height} and enlarged to the plate's size.")
        return DisparityClip(
            disparity=np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in small]),
            source="DepthCrafter",
            licence=self.licence,
            commercial_use=self.commercial_use,
            parameters={**self.cache_key, "size": [work_width, work_height], "device": device.type},
            notices=tuple(notices),
        )
