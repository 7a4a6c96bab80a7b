# SPDX-License-Identifier: Apache-2.0
"""One writer per folder: a second program that would write into it is refused, on this machine or on a shared disk."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ex4d.errors import InputError, StorageError

LOCKED_BYTE = 1 << 20  # behind the text: Windows lets nobody read a locked byte


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep a folder to this program while the block runs. The system lets go of it however the program ends.

    Args:
        folder: need not exist; the lock is a hidden file beside it.

    Raises:
        InputError: another program has it; the message says which.
        StorageError: the place refuses to be written.
    """
    place = folder.resolve()
    path = place.parent / f".{place.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"'{path}' cannot be written: {error.strerror}. Choose another folder.") from error
    with file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "another program"
            raise InputError(f"'{folder}' is being written by {holder}. Wait until it has ended, or stop it.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
        file.truncate(0)  # the file stays: removing it would let two programs lock two files of one name


def _taken(file: IO[str]) -> bool:
    """Whether the lock is ours now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
