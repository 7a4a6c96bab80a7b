# SPDX-License-Identifier: Apache-2.0
"""Files by their content: stored once, under their sha256, complete or not at all."""

import contextlib
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from ex4d.errors import StorageError
from shared_protocol.messages import CHUNK_LIMIT, ArtifactRef, BlobState

from .failures import DISK_FULL, DamagedUpload, UnknownArtifact

PART_LIFETIME_S = 24 * 3600.0  # an upload that was not resumed within a day is dropped


class Artifacts:
    """A folder of files named by hash. Methods block on the disk: call them in threads, one at a time per file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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

    def put(self, artifact: ArtifactRef, offset: int, chunk: bytes) -> BlobState:
        """Append a chunk; the last one completes the file. A chunk that does not continue the file changes nothing.

        Raises:
            DamagedUpload: the file does not have the promised size or hash; what was stored of it is dropped.
            StorageError: the disk refuses.
        """
        state = self.stat(artifact)
        if state.complete or offset != state.offset:
            return state
        part = self._part(artifact)
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
            with contextlib.suppress(OSError):
                os.truncate(part, offset)  # half a chunk would spoil the resume
            raise storage_error(error, "the upload") from error
        if end < artifact.size:
            return BlobState(artifact, end, False)
        if sha256_of(part) != artifact.sha256:
            part.unlink()
            raise DamagedUpload("What arrived is not what was announced: the file changed on its way. Send it again.")
        self._keep(part, artifact)
        return BlobState(artifact, artifact.size, True)

    def get(self, artifact: ArtifactRef, offset: int, length: int) -> bytes:
        """One chunk of a complete file."""
        with self.path(artifact).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def adopt(self, path: Path) -> ArtifactRef:
        """Hash a file that a job made and move it into the store.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
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
            StorageError: the disk refuses.
        """
        source = self.path(artifact)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        except OSError as error:
            raise storage_error(error, path.name) from error

    def sweep(self) -> None:
        """Drop uploads that nobody resumed."""
        for part in self.folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > PART_LIFETIME_S:
                    part.unlink()

    def _path(self, artifact: ArtifactRef) -> Path:
        # Checked by the message too; here it is what keeps a path inside the folder.
        if not re.fullmatch("[0-9a-f]{64}", artifact.sha256):
            raise UnknownArtifact("A file's name must be its sha256")
        return self.folder / artifact.sha256

    def _part(self, artifact: ArtifactRef) -> Path:
        return self._path(artifact).with_suffix(".part")

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
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_LIMIT):
            digest.update(chunk)
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
