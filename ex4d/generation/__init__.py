# SPDX-License-Identifier: Apache-2.0
"""What paints the unseen parts of a take. A new engine is one file here and one line in `ENGINES`."""

from collections.abc import Callable

from ex4d.errors import InputError
from ex4d.generation.engine import Engine, Painted
from ex4d.generation.options import GenerateOptions
from ex4d.generation.preview import PreviewFill
from ex4d.generation.wan.availability import can_paint
from ex4d.generation.wan.engine import WanEngine
from ex4d.generation.wan.modes import MODES

__all__ = ["ENGINES", "Engine", "GenerateOptions", "Painted", "engine"]

ENGINES: dict[str, Callable[[], Engine]] = {"preview": PreviewFill, "wan": WanEngine}


def engine(name: str = "auto") -> Engine:
    """Make an engine by name; auto is wan where its packages, weights and a GPU are there, else preview.

    Raises:
        InputError: no such engine.
    """
    if name == "auto":
        name = "wan" if can_paint(MODES["lossless"]) else "preview"
    if name not in ENGINES:
        raise InputError(f"There is no engine '{name}'. Choose auto or one of {', '.join(ENGINES)}.")
    return ENGINES[name]()
