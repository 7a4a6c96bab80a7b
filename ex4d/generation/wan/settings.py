# SPDX-License-Identifier: Apache-2.0
"""What one window is painted with; plain data, so that the engine can be planned and tested without torch."""

from dataclasses import dataclass

from ex4d.generation.wan.modes import Mode

# EX-4D release, generate.py
PROMPT = "4K ultra HD, surround motion, realistic tone, panoramic shot, wide-angle view, cinematic quality"
NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)


@dataclass(frozen=True)
class PaintSettings:
    """Everything beside the pictures and the weights that decides the pixels of a window."""

    mode: Mode
    steps: int
    seed: int
    prompt: str
    negative_prompt: str
    erosion_px: int | None  # side of the block by which the mask shrinks; None: the release's 2 to 8 at random, seeded

    @property
    def asked_prompts(self) -> tuple[str, ...]:
        """Those that the mode tells the network."""
        return (self.prompt,) if self.mode.guidance_scale == 1 else (self.prompt, self.negative_prompt)
