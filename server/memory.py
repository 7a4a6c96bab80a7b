# SPDX-License-Identifier: Apache-2.0
"""Keeps the server's memory small over weeks, where the C library is glibc (most Linux systems)."""

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_OWN_BLOCK = 2 * 1024 * 1024  # bytes from which on something gets memory of its own; a chunk has half of that
_KEPT = 8 * 1024 * 1024  # bytes that stay for what comes next, until the next `give_back`


def share_one_heap() -> None:
    """Have all threads share one heap, and let it keep the room of chunks for the next ones; call it before any thread.

    Else each of about ten threads gets its own, and each of these ends as big as the most that its thread ever needed;
    and the system has to find and clear new memory for each chunk of a file, which costs half as much as encrypting it.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Give what was freed back to the system; over weeks of small transfers it would add up."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None
