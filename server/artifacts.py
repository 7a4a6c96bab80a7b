# SPDX-License-Identifier: Apache-2.0
"""Files by their content: stored once, under their sha256, complete or not at all."""

import contextlib
import hashlib
import heapq
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ex4d.errors import StorageError
from shared_protocol.messages import ArtifactRef, BlobPlace, BlobState
from shared_protocol.pieces import pieces, write_all

from .failures import DISK_FULL, DamagedUpload, MissingArtifact, UnknownArtifact

LEAST_FREE = 500_000_000  # bytes that an upload must leave on the disk, for jobs, logs and the database
PART_LIFETIME_S = 24 * 3600.0  # an upload that was not resumed within a day is dropped


class Artifacts:
    """A folder of files named by hash. Methods block on the disk: call them in threads, one at a time per file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: dict[str, tuple[int, Any]] = {}  # of uploads under way: bytes so far and their running hash

    def path(self, artifact: ArtifactRef) -> Path:
        """The complete file.

        Raises:
            UnknownArtifact: it is not here.
        """
        path = self._path(artifact)
        if not _has_size(path, artifact.size):
            raise UnknownArtifact(f"The server does not have the file {artifact.sha256[:12]}. Send it again.")
        return path

    def use(self, artifact: ArtifactRef) -> Path:
        """The complete file, which counts as used now: what was not used for long is dropped first.

        Raises:
            UnknownArtifact: it is not here.
        """
        path = self.path(artifact)
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    def stat(self, artifact: ArtifactRef) -> BlobState:
        """How much of a file is here."""
        if _has_size(self._path(artifact), artifact.size):
            self.use(artifact)
            return BlobState(artifact, artifact.size, True)
        try:
            return BlobState(artifact, self._part(artifact).stat().st_size, False)
        except FileNotFoundError:
            return BlobState(artifact, 0, False)

    def put(self, artifact: ArtifactRef, offset: int, chunk: bytes | memoryview) -> BlobState:
        """Append a chunk; the last one completes the file. A chunk that does not continue the file changes nothing.

        Raises:
            DamagedUpload: the file does not have the promised size or hash; what was stored of it is dropped.
            StorageError: the disk refuses.
        """
        state = self.stat(artifact)
        if state.complete or offset != state.offset:
            return state
        part = self._part(artifact)
        if offset == 0:
            self._make_sure_of_room(artifact)
        end = offset + len(chunk)
        if end > artifact.size:
            part.unlink(missing_ok=True)
            raise DamagedUpload(f"The file was announced with {artifact.size} bytes but {end} arrived. Send it again.")
        try:
            with part.open("ab") as file:
                file.write(chunk)
                if end == artifact.size:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            self._hashes.pop(artifact.sha256, None)
            with contextlib.suppress(OSError):
                os.truncate(part, offset)  # half a chunk would spoil the resume
            raise storage_error(error, "the upload") from error
        digest = self._hash_on(artifact, offset, chunk)
        if end < artifact.size:
            return BlobState(artifact, end, False)
        self._hashes.pop(artifact.sha256, None)
        if (digest or sha256_of(part)) != artifact.sha256:
            part.unlink()
            raise DamagedUpload("What arrived is not what was announced: the file changed on its way. Send it again.")
        self._keep(part, artifact)
        return BlobState(artifact, artifact.size, True)

    def place(self, artifact: ArtifactRef) -> BlobPlace:
        """Where a file lies, or a new empty file for it that holds its token.

        Raises:
            StorageError: the disk refuses.
        """
        token = secrets.token_hex(16)
        if _has_size(self._path(artifact), artifact.size):
            return BlobPlace(artifact, True, str(self.use(artifact)), token)
        self._make_sure_of_room(artifact)
        path = self._placed(token)
        try:
            path.write_text(token, encoding="ascii")
        except OSError as error:
            raise storage_error(error, "the upload") from error
        return BlobPlace(artifact, False, str(path), token)

    def adopt_placed(self, artifact: ArtifactRef, token: str) -> BlobState:
        """Check a file that a client has put where `place` said, and keep it.

        Raises:
            DamagedUpload: it is not what was announced; it is dropped.
        """
        path = self._placed(token)
        try:
            if _has_size(path, artifact.size) and not path.is_symlink() and sha256_of(path) == artifact.sha256:
                self._sync(path)
                self._keep(path, artifact)
                return BlobState(artifact, artifact.size, True)
        except OSError as error:
            raise storage_error(error, "the upload") from error
        finally:
            path.unlink(missing_ok=True)
        raise DamagedUpload("What lies there is not what was announced: the file changed meanwhile. Send it again.")

    def get(self, artifact: ArtifactRef, offset: int, length: int) -> bytes:
        """One chunk of a complete file."""
        path = self.path(artifact) if offset else self.use(artifact)
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def adopt(self, path: Path) -> ArtifactRef:
        """Hash a file that a job made and move it into the store.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            self._sync(path)
            artifact = ArtifactRef(sha256_of(path), path.stat().st_size)
            if _has_size(self._path(artifact), artifact.size):
                path.unlink()
            else:
                self._keep(path, artifact)
        except OSError as error:
            raise storage_error(error, path.name) from error
        return artifact

    def lend(self, artifact: ArtifactRef, path: Path) -> None:
        """Put a file where a job reads it: as a copy, so that nothing the job does can spoil the store.

        Raises:
            UnknownArtifact: it is not here.
            MissingArtifact: what is here is damaged; it is dropped.
            StorageError: the disk refuses.
        """
        source, digest = self.path(artifact), hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb", buffering=0) as reader, path.open("wb", buffering=0) as writer:
                for piece in pieces(reader):
                    digest.update(piece)
                    write_all(writer, piece)
        except OSError as error:
            raise storage_error(error, path.name) from error
        if digest.hexdigest() != artifact.sha256:
            self.drop(artifact.sha256)
            raise MissingArtifact(f"The server's copy of {path.name} is damaged and was dropped.")

    def check(self, artifact: ArtifactRef) -> BlobState:
        """Read a file again; one that is not what its name says is dropped."""
        if _has_size(self._path(artifact), artifact.size) and sha256_of(self._path(artifact)) != artifact.sha256:
            self.drop(artifact.sha256)
        return self.stat(artifact)

    def sweep(self) -> None:
        """Drop uploads that nobody resumed."""
        for name, status in self._files():
            if name.endswith((".part", ".place")) and time.time() - status.st_mtime > PART_LIFETIME_S:
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
        for sha256 in [each for each in self._hashes if not (self.folder / f"{each}.part").exists()]:
            self._hashes.pop(sha256, None)

    def size(self) -> int:
        """Bytes of all files, half ones included."""
        return sum(status.st_size for _, status in self._files())

    def least_used(self, before_s: float, most: int) -> list[tuple[float, int, str]]:
        """The complete files not used since a Unix time as (time of the last use, size, sha256), oldest first.

        Args:
            before_s: the time.
            most: how many to return at most.
        """
        complete = (
            (status.st_mtime, status.st_size, name)
            for name, status in self._files()
            if status.st_mtime <= before_s and re.fullmatch("[0-9a-f]{64}", name)
        )
        return heapq.nsmallest(most, complete)

    def unused_since(self, sha256: str, at_s: float) -> bool:
        """Whether a complete file was last used at this Unix time or before."""
        try:
            return (self.folder / sha256).stat().st_mtime <= at_s
        except FileNotFoundError:
            return False

    def drop(self, sha256: str) -> None:
        """Remove a complete file."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / sha256).unlink()

    def _hash_on(self, artifact: ArtifactRef, offset: int, chunk: bytes | memoryview) -> str | None:
        """The hash up to here when all of the file came since this process began, else None: it has to be read."""
        known, digest = self._hashes.get(artifact.sha256, (0, None))
        if known != offset or (digest is None and offset):
            return None
        digest = digest or hashlib.sha256()
        digest.update(chunk)
        self._hashes[artifact.sha256] = (offset + len(chunk), digest)
        return str(digest.hexdigest())

    def _make_sure_of_room(self, artifact: ArtifactRef) -> None:
        free = shutil.disk_usage(self.folder).free
        if free - artifact.size < LEAST_FREE:
            raise StorageError(
                f"The server's disk has {free / 1e9:.1f} GB free, too little for another {artifact.size / 1e9:.1f} GB."
                " Free some space and try again."
            )

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Name and status of each file, one at a time: a list of a big cache would cost megabytes."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # renamed or dropped meanwhile
                    yield entry.name, entry.stat()

    def _placed(self, token: str) -> Path:
        if not re.fullmatch("[0-9a-f]{32}", token):
            raise UnknownArtifact("A place's token must be 32 hexadecimal digits")
        return self.folder / f"{token}.place"

    def _path(self, artifact: ArtifactRef) -> Path:
        # Checked by the message too; here it is what keeps a path inside the folder.
        if not re.fullmatch("[0-9a-f]{64}", artifact.sha256):
            raise UnknownArtifact("A file's name must be its sha256")
        return self.folder / artifact.sha256

    def _part(self, artifact: ArtifactRef) -> Path:
        return self._path(artifact).with_suffix(".part")

    def _sync(self, path: Path) -> None:
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    def _keep(self, path: Path, artifact: ArtifactRef) -> None:
        path.replace(self._path(artifact))
        if os.name == "posix":  # the rename itself must survive a power cut
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def sha256_of(path: Path) -> str:
    """A file's hash."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def storage_error(error: OSError, what: str) -> StorageError:
    """An operating system's error in words."""
    if error.errno in DISK_FULL:
        return StorageError(f"The disk is full: {what} could not be stored. Free some space and try again.")
    return StorageError(f"{what} could not be stored ({error.strerror or error}). Check the server's folder.")


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
