# SPDX-License-Identifier: Apache-2.0
"""What one window is painted with; plain data, so that the engine can be planned and tested without torch."""

from dataclasses import dataclass

from ex4d.generation.wan.modes import Mode


@dataclass(frozen=True)
class PaintSettings:
    """Everything beside the pictures and the weights that decides the pixels of a window."""

    mode: Mode
    steps: int
    seed: int
    prompt: str
    negative_prompt: str
    erosion_px: (
        int | None
    )  # the mask shrinks by a block of this side; None: the release's random 2..8 per frame, seeded
