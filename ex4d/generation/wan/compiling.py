# SPDX-License-Identifier: Apache-2.0
"""torch's compiler for functions that every block shares, with its results kept on disk for the next process."""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from ex4d.cache_folder import cache_folder

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

VARIANTS = 64  # of one function: shapes of windows, 8-bit and 16-bit blocks; torch gives up after 8


def compiled_on(device: torch.device, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function compiled where that pays and can be done, otherwise the function itself.

    Args:
        device: where its tensors are.
        function: pure, of tensors and tuples of tensors, without a graph break.
    """
    return _compiled(function) if device.type == "cuda" and can_compile() else function


@functools.cache
def can_compile() -> bool:
    """Whether Triton and the C compiler which it calls are here."""
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return importlib.util.find_spec("triton") is not None and any(name and shutil.which(name) for name in compilers)


@functools.cache
def _compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    if folder := cache_folder("compiled"):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    result: Callable[Parameters, Result] = torch.compile(function, fullgraph=True)
    return result
