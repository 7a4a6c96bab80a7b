# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader never meets half of one, and naming them by their content."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ex4d.errors import StorageError
from ex4d.progress import Progress, ProgressCallback

CHUNK_BYTES = 1 << 22


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name beside `path`; it becomes `path` when the block ends well, and is removed otherwise.

    Args:
        path: the file to write. Its folder is made when missing.

    Yields:
        The name to write to. It keeps the suffix of `path`.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise StorageError(_why_not_written(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def file_sha256(path: Path, stage: str, progress: ProgressCallback | None = None) -> str:
    """Name a file by its content.

    Args:
        path: an existing file.
        stage: what the progress is called while reading, as an artist would say it.
        progress: told once per 4 MiB.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if progress is not None:
                progress(Progress(stage, file.tell(), size))
    return digest.hexdigest()


def _why_not_written(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        free = ""
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free)"
        return (
            f"No room to write '{path}'{free}: {reason}. Free some space or choose another folder, then run it again."
        )
    return f"'{path}' cannot be written: {reason}. Check the folder's permissions or choose another folder."
