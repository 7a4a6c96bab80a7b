# SPDX-License-Identifier: Apache-2.0
"""How a take is painted: what an artist may choose, the same in the panel, in a job and on the command line."""

import math
import re
from dataclasses import dataclass

from ex4d.errors import InputError
from ex4d.generation.wan.modes import MODES

MAX_SEED = 2**63 - 1  # torch and numpy both take it
MAX_STEPS = 200
MAX_EROSION_PX = 64
MAX_PROMPT_LETTERS = 8000  # a text encoder reads 512 tokens, of which none is longer than 16 letters
# A file's name without its folder: a job may not name places on the server.
LORA = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9 ._+-]{0,127})(:(?P<strength>[-+0-9.eE]+))?")


@dataclass(frozen=True)
class Lora:
    """A LoRA of the models folder, stacked on EX-4D's own."""

    name: str
    strength: float = 1.0


@dataclass(frozen=True)
class GenerateOptions:
    """What paints a take and how. None leaves a choice to the engine.

    Raises:
        InputError: a value that no engine can use; the message names it.
    """

    engine: str = "auto"
    seed: int = 0  # of every random choice: the same seed gives the same pixels
    quality: str = "lossless"  # one of ex4d.generation.wan.modes.MODES
    steps: int | None = None  # None: the quality's own
    prompt: str | None = None  # None: the release's
    negative_prompt: str | None = None
    erosion_px: int | None = None  # by how much the mask shrinks; None: 5, in reference the release's random 2 to 8
    loras: tuple[str, ...] = ()  # NAME[:STRENGTH] of files in the models folder's loras

    def __post_init__(self) -> None:
        if self.quality not in MODES:
            raise InputError(f"quality must be one of {', '.join(MODES)}, got '{self.quality}'.")
        _check_range("seed", self.seed, 0, MAX_SEED)
        if self.steps is not None:
            _check_range("steps", self.steps, 1, MAX_STEPS)
        if self.erosion_px is not None:
            _check_range("erosion_px", self.erosion_px, 0, MAX_EROSION_PX)
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if text is not None and len(text) > MAX_PROMPT_LETTERS:
                raise InputError(f"{name} may have {MAX_PROMPT_LETTERS} letters, got {len(text)}. Shorten it.")
        names = [lora(text).name for text in self.loras]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"The LoRA '{min(twice)}' is named twice. Name it once and add up its strengths.")


def lora(text: str) -> Lora:
    """Read NAME[:STRENGTH].

    Raises:
        InputError: it is neither.
    """
    match = LORA.fullmatch(text)
    try:
        strength = float(match["strength"] or 1) if match else math.nan
    except ValueError:
        strength = math.nan
    if match is None or not math.isfinite(strength):
        raise InputError(
            f"A LoRA is named NAME or NAME:STRENGTH, the file's name in the models folder's loras, got '{text}'."
        )
    return Lora(match["name"], strength)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}, got {value}.")
