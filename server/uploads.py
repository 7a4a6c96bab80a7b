# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PTH105, PTH108, PTH114, PTH116, PTH118, PTH123
# (paths are texts here; artifacts.py says why)
"""Files on their way into the store: half a file is a `.part`, one that a client of this machine writes a `.place`."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ex4d.errors import StorageError
from shared_protocol.messages import ArtifactRef, BlobPlace, BlobState
from shared_protocol.pieces import write_all

from .artifacts import Artifacts, has_size, sha256_of, storage_error, sync
from .failures import DamagedUpload, UnknownArtifact

LEAST_FREE = 500_000_000  # bytes that an upload must leave on the disk, for jobs, logs and the database
FLUSH_BYTES = 16 * 1024 * 1024  # so much goes to the disk while the rest still arrives
MOST_HASHES = 1000  # running ones; a file whose hash had to make room is read again when it is complete


class Uploads:
    """What is not yet complete. Methods block on the disk: call them in threads, one at a time per file."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._prefix = os.path.join(artifacts.folder, "")
        self._hashes: dict[str, tuple[int, Any]] = {}  # bytes so far and their running hash
        self._flusher = ThreadPoolExecutor(1, "flusher")

    def stat(self, artifact: ArtifactRef) -> BlobState:
        """How much of a file is here."""
        if self._artifacts.has(artifact):
            self._artifacts.use(artifact)
            return BlobState(artifact, artifact.size, True)
        try:
            return BlobState(artifact, os.stat(self._part(artifact)).st_size, False)
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
        if end >= artifact.size:
            self._settle()
        if end > artifact.size:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise DamagedUpload(f"The file was announced with {artifact.size} bytes but {end} arrived. Send it again.")
        try:
            with open(part, "ab", buffering=0) as file:
                write_all(file, memoryview(chunk))
                if end == artifact.size:
                    os.fsync(file.fileno())
        except OSError as error:
            self._hashes.pop(artifact.sha256, None)
            with contextlib.suppress(OSError):
                os.truncate(part, offset)  # half a chunk would spoil the resume
            raise storage_error(error, "the upload") from error
        digest = self._hash_on(artifact, offset, chunk)
        if end < artifact.size:
            if end // FLUSH_BYTES > offset // FLUSH_BYTES:
                self._flusher.submit(sync, part)  # an error does not matter: the last chunk tries again
            return BlobState(artifact, end, False)
        self._hashes.pop(artifact.sha256, None)
        if (digest.hexdigest() if digest else sha256_of(part)) != artifact.sha256:
            os.unlink(part)
            raise DamagedUpload("What arrived is not what was announced: the file changed on its way. Send it again.")
        self._artifacts.keep(part, artifact)
        return BlobState(artifact, artifact.size, True)

    def name(self, sent_as: str, artifact: ArtifactRef) -> BlobState:
        """Tell what a half file is that arrived under another name. Of two halves of one file the longer one stays."""
        known = self.stat(artifact)
        unnamed = ArtifactRef(sent_as, artifact.size)
        self._settle()
        try:
            length = os.stat(self._part(unnamed)).st_size
        except FileNotFoundError:
            return known
        running = self._hashes.pop(sent_as, None)
        if known.complete or length <= known.offset:
            os.unlink(self._part(unnamed))
            return known
        os.replace(self._part(unnamed), self._part(artifact))
        self._hashes.pop(artifact.sha256, None)
        if running:
            self._hashes[artifact.sha256] = running
        return BlobState(artifact, length, False)

    def place(self, artifact: ArtifactRef) -> BlobPlace:
        """Where a file lies, or a new empty file for it that holds its token.

        Raises:
            StorageError: the disk refuses.
        """
        token = secrets.token_hex(16)
        if self._artifacts.has(artifact):
            return BlobPlace(artifact, True, self._artifacts.use(artifact), token)
        self._make_sure_of_room(artifact)
        path = self._placed(token)
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(token)
        except OSError as error:
            raise storage_error(error, "the upload") from error
        return BlobPlace(artifact, False, path, token)

    def adopt_placed(self, artifact: ArtifactRef, token: str) -> BlobState:
        """Check a file that a client has put where `place` said, and keep it.

        Raises:
            DamagedUpload: it is not what was announced; it is dropped.
        """
        path = self._placed(token)
        try:
            if has_size(path, artifact.size) and not os.path.islink(path) and sha256_of(path) == artifact.sha256:
                sync(path)
                self._artifacts.keep(path, artifact)
                return BlobState(artifact, artifact.size, True)
        except OSError as error:
            raise storage_error(error, "the upload") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise DamagedUpload("What lies there is not what was announced: the file changed meanwhile. Send it again.")

    def _hash_on(self, artifact: ArtifactRef, offset: int, chunk: bytes | memoryview) -> Any:
        """The hash up to here when all of the file came since this process began, else None: it has to be read."""
        known, digest = self._hashes.pop(artifact.sha256, (0, None)) if offset else (0, hashlib.sha256())
        if known != offset or digest is None:
            return None
        digest.update(chunk)
        self._hashes[artifact.sha256] = (offset + len(chunk), digest)  # last in the table: the newest
        while len(self._hashes) > MOST_HASHES:
            self._hashes.pop(next(iter(self._hashes)), None)
        return digest

    def _settle(self) -> None:
        """Wait until the flusher has let go of its files: Windows renames and removes no open ones."""
        self._flusher.submit(int).result()

    def _make_sure_of_room(self, artifact: ArtifactRef) -> None:
        free = shutil.disk_usage(self._artifacts.folder).free
        if free - artifact.size < LEAST_FREE:
            raise StorageError(
                f"The server's disk has {free / 1e9:.1f} GB free, too little for another {artifact.size / 1e9:.1f} GB."
                " Free some space and try again."
            )

    def _placed(self, token: str) -> str:
        if not re.fullmatch("[0-9a-f]{32}", token):
            raise UnknownArtifact("A place's token must be 32 hexadecimal digits")
        return f"{self._prefix}{token}.place"

    def _part(self, artifact: ArtifactRef) -> str:
        return f"{self._artifacts.place_of(artifact)}.part"
