# SPDX-License-Identifier: Apache-2.0
"""How this library compiles its loops."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile with numba: without the interpreter's lock, IEEE arithmetic only, kept on disk for the next process."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
