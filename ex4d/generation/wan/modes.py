# SPDX-License-Identifier: Apache-2.0
"""The quality modes: what each one gives up for speed. Their measured deviations stand in docs/generation.md."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mode:
    """One way to paint with Wan2.1 and EX-4D."""

    name: str
    label: str
    help: str
    precision: Literal["reference", "fast"]  # reference: the release's arithmetic, bit for bit
    steps: int = 25  # of the denoise loop; the release's
    guidance_scale: float = 5.0  # the release's; 1 means that the negative prompt is never asked
    fp8: bool = False  # linears in 8 bits, scaled by row
    cache_threshold: float = 0.0  # relative change of the answer up to which the network is not asked
    guidance_share: float = 1.0  # share of the steps, from the first on, that ask the negative prompt
    distilled: bool = False  # with a step-distilled LoRA on top


MODES = {
    mode.name: mode
    for mode in (
        Mode("reference", "Reference", "The EX-4D release's own arithmetic: for comparisons.", "reference"),
        Mode("lossless", "Lossless", "Full quality, all steps.", "fast"),
        Mode("fp8", "Fast", "8-bit weights: nearly the same picture in less time and memory.", "fast", fp8=True),
        Mode(
            "cached",
            "Faster",
            "8-bit weights, and steps that change little are skipped.",
            "fast",
            fp8=True,
            cache_threshold=0.2,  # of ComfyUI's EasyCache node
            guidance_share=0.6,
        ),
        Mode(
            "draft",
            "Draft",
            "A step-distilled model in 6 steps: to judge a move.",
            "fast",
            steps=6,
            guidance_scale=1.0,
            fp8=True,
            distilled=True,
        ),
    )
}
