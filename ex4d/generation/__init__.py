# SPDX-License-Identifier: Apache-2.0
"""What paints the unseen parts of a take. A new engine is one file here and one line in `ENGINES`."""

from collections.abc import Callable

from ex4d.errors import InputError
from ex4d.generation.engine import Engine, Painted
from ex4d.generation.options import GenerateOptions
from ex4d.generation.preview import PreviewFill

__all__ = ["ENGINES", "Engine", "GenerateOptions", "Painted", "engine"]

ENGINES: dict[str, Callable[[], Engine]] = {"preview": PreviewFill}


def engine(name: str = "auto") -> Engine:
    """Make an engine by name; auto is the best one that this machine can run.

    Raises:
        InputError: no such engine.
    """
    if name == "auto":
        name = "preview"
    if name not in ENGINES:
        raise InputError(f"There is no engine '{name}'. Choose auto or one of {', '.join(ENGINES)}.")
    return ENGINES[name]()
