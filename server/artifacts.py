# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PTH103, PTH105, PTH108, PTH116, PTH118, PTH119, PTH120, PTH123
# (paths are texts here; the class says why)
"""Files by their content: stored once, under their sha256, complete or not at all. `uploads.py` brings them here."""

import contextlib
import hashlib
import heapq
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from ex4d.errors import StorageError
from shared_protocol.messages import ArtifactRef
from shared_protocol.pieces import pieces, write_all

from .failures import DISK_FULL, MissingArtifact, UnknownArtifact

PART_LIFETIME_S = 24 * 3600.0  # an upload that was not resumed within a day is dropped


class Artifacts:
    """A folder of files named by hash. Methods block on the disk: call them in threads, one at a time per file.

    Paths are plain texts here. A `Path` keeps each name that it ever saw as an interned string: for names that are used
    once, Python 3.11's table of those is built anew, a megabyte at a time, and Python 3.12.1 never forgets one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = os.path.join(folder, "")

    def path(self, artifact: ArtifactRef) -> str:
        """The complete file.

        Raises:
            UnknownArtifact: it is not here.
        """
        if not self.has(artifact):
            raise UnknownArtifact(f"The server does not have the file {artifact.sha256[:12]}. Send it again.")
        return self.place_of(artifact)

    def has(self, artifact: ArtifactRef) -> bool:
        """Whether the complete file is here."""
        return has_size(self.place_of(artifact), artifact.size)

    def place_of(self, artifact: ArtifactRef) -> str:
        """Where the complete file lies or will lie."""
        # Checked by the message too; here it is what keeps a path inside the folder.
        if not re.fullmatch("[0-9a-f]{64}", artifact.sha256):
            raise UnknownArtifact("A file's name must be its sha256")
        return self._prefix + artifact.sha256

    def use(self, artifact: ArtifactRef) -> str:
        """The complete file, which counts as used now: what was not used for long is dropped first.

        Raises:
            UnknownArtifact: it is not here.
        """
        path = self.path(artifact)
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    def get(self, artifact: ArtifactRef, offset: int, length: int) -> bytes:
        """One chunk of a complete file."""
        path = self.path(artifact) if offset else self.use(artifact)
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)

    def adopt(self, path: str | Path) -> ArtifactRef:
        """Hash a file that a job made and move it into the store.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            sync(path)
            artifact = ArtifactRef(sha256_of(path), os.stat(path).st_size)
            if self.has(artifact):
                os.unlink(path)
            else:
                self.keep(path, artifact)
        except OSError as error:
            raise storage_error(error, os.path.basename(path)) from error
        return artifact

    def keep(self, path: str | Path, artifact: ArtifactRef) -> None:
        """Move a file into the store that is known to be what the artifact says, and is on the disk."""
        os.replace(path, self.place_of(artifact))
        if os.name == "posix":  # the rename itself must survive a power cut
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def lend(self, artifact: ArtifactRef, path: str | Path) -> None:
        """Put a file where a job reads it: as a copy, so that nothing the job does can spoil the store.

        Raises:
            UnknownArtifact: it is not here.
            MissingArtifact: what is here is damaged; it is dropped.
            StorageError: the disk refuses.
        """
        source, digest, name = self.path(artifact), hashlib.sha256(), os.path.basename(path)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(source, "rb", buffering=0) as reader, open(path, "wb", buffering=0) as writer:
                for piece in pieces(reader):
                    digest.update(piece)
                    write_all(writer, piece)
        except OSError as error:
            raise storage_error(error, name) from error
        if digest.hexdigest() != artifact.sha256:
            self.drop(artifact.sha256)
            raise MissingArtifact(f"The server's copy of {name} is damaged and was dropped.")

    def check(self, artifact: ArtifactRef) -> None:
        """Read a file again; one that is not what its name says is dropped."""
        if self.has(artifact) and sha256_of(self.place_of(artifact)) != artifact.sha256:
            self.drop(artifact.sha256)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Name and status of each file, half ones too, one at a time: a list of a big cache would cost megabytes."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # renamed or dropped meanwhile
                    yield entry.name, entry.stat()

    def sweep(self) -> None:
        """Drop uploads that nobody resumed."""
        for name, status in self.files():
            if name.endswith((".part", ".place")) and time.time() - status.st_mtime > PART_LIFETIME_S:
                with contextlib.suppress(OSError):
                    os.unlink(self._prefix + name)

    def size(self) -> int:
        """Bytes of all files, half ones included."""
        return sum(status.st_size for _, status in self.files())

    def least_used(self, before_s: float, most: int) -> list[tuple[float, int, str]]:
        """The complete files not used since a Unix time as (time of the last use, size, sha256), oldest first.

        Args:
            before_s: the time.
            most: how many to return at most.
        """
        complete = (
            (status.st_mtime, status.st_size, name)
            for name, status in self.files()
            if status.st_mtime <= before_s and re.fullmatch("[0-9a-f]{64}", name)
        )
        return heapq.nsmallest(most, complete)

    def unused_since(self, sha256: str, at_s: float) -> bool:
        """Whether a complete file was last used at this Unix time or before."""
        try:
            return os.stat(self._prefix + sha256).st_mtime <= at_s
        except FileNotFoundError:
            return False

    def drop(self, sha256: str) -> None:
        """Remove a complete file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._prefix + sha256)


def sha256_of(path: str | Path) -> str:
    """A file's hash."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: str | Path) -> None:
    """Have a file on the disk before anybody is told of it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def has_size(path: str, size: int) -> bool:
    """Whether a file is there and so long."""
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def storage_error(error: OSError, what: str) -> StorageError:
    """An operating system's error in words."""
    if error.errno in DISK_FULL:
        return StorageError(f"The disk is full: {what} could not be stored. Free some space and try again.")
    return StorageError(f"{what} could not be stored ({error.strerror or error}). Check the server's folder.")
