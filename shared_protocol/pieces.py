# SPDX-License-Identifier: Apache-2.0
"""Reading big files piece by piece, through one small buffer that stays in the processor's cache."""

from collections.abc import Iterator
from io import RawIOBase

PIECE_BYTES = 256 * 1024


def pieces(file: RawIOBase) -> Iterator[memoryview]:
    """What is left of a file. Each piece is valid until the next one is asked for.

    Args:
        file: opened with buffering=0.
    """
    buffer = memoryview(bytearray(PIECE_BYTES))
    while length := file.readinto(buffer):
        yield buffer[:length]


def write_all(file: RawIOBase, data: memoryview) -> None:
    """Write a piece to a file without a buffer, which may take less at a time."""
    while data:
        data = data[file.write(data) or 0 :]
