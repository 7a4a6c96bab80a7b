# SPDX-License-Identifier: Apache-2.0
"""Keeps the server's memory small over weeks, where the C library is glibc (most Linux systems)."""

import ctypes
import sys
from typing import Any

_M_ARENA_MAX = -8  # <malloc.h>


def share_one_heap() -> None:
    """Have all threads share one heap; call it before there are others.

    Else each of about ten threads gets its own, and each of these ends as big as the most that its thread ever needed.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give what was freed back to the system; over weeks of small transfers it would add up."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None
