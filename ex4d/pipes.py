# SPDX-License-Identifier: Apache-2.0
"""What a helper process and the one that starts it share: where our packages are, and the pipes they talk over."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PACKAGES = Path(__file__).resolve().parents[1]  # the folder that holds `ex4d`, `server` and `shared_protocol`


def helper_environment(beside: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and `beside`; Python finds our packages there too, and first."""
    search_path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **beside, "PYTHONPATH": search_path}


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for ourselves; what a library prints goes to stderr. Returns: commands, reports"""
    commands, reports = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, reports
