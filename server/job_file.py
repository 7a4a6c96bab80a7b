# SPDX-License-Identifier: Apache-2.0
"""A job as a file: everything that a render farm's machine needs to know, and what it leaves when it is done.

    {"schema": 1, "kind": "take", "params": {"name": "take1"},
     "inputs": {"shot.json": {"path": "shot/shot.json"}, "camera.npz": {"path": "camera.npz", "sha256": "..."}}}

Paths are relative to the file. A hash is checked when it is given.
"""

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ex4d.errors import InputError, StorageError
from shared_protocol.errors import BadMessage
from shared_protocol.messages import ArtifactRef, InputRef, SubmitJob

from .artifacts import sha256_of, storage_error
from .runtime import VERSION

SCHEMA = 1
RESULT = "result.json"


@dataclass(frozen=True)
class JobFile:
    """What is to be done, with its inputs checked."""

    kind: str
    params: dict[str, Any]
    inputs: dict[str, Path]
    key: str  # of kind, params, inputs and version: tells whether a result is this job's


def read_job_file(path: Path) -> JobFile:
    """Read a job and hash its inputs.

    Raises:
        InputError: the file or an input is missing, damaged or not what it should be; the text names the field.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The job file {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f"{path} must be a JSON object with schema {SCHEMA}. Update ex4d, or whoever wrote the file.")
    if unknown := set(data) - {"schema", "kind", "params", "inputs"}:
        raise InputError(
            f"{path}: {', '.join(sorted(unknown))} is unknown. Only schema, kind, params, inputs may stand."
        )
    if not isinstance(data.get("inputs", {}), dict):
        raise InputError(f"{path}: inputs must be an object, with a file for each role.")
    inputs = {role: _input_path(path, role, entry) for role, entry in data.get("inputs", {}).items()}
    try:
        refs = tuple(InputRef(role, _reference(file, data["inputs"][role]), file.name) for role, file in inputs.items())
        request = SubmitJob("0" * 32, data.get("kind"), data.get("params", {}), refs)  # type: ignore[arg-type]
    except BadMessage as error:
        raise InputError(f"{path}: {error}") from error
    content = [request.kind, request.params, sorted([i.role, i.artifact.sha256, i.file_name] for i in refs), VERSION]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return JobFile(request.kind, request.params, inputs, key)


def read_result(folder: Path, key: str) -> dict[str, Any] | None:
    """The result in a folder when it is this job's and whole, else None."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if result["schema"] != SCHEMA or result["key"] != key:
            return None
        for role, output in result["outputs"].items():
            if sha256_of(folder / role) != output["sha256"]:
                return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return dict(result)


def write_result(folder: Path, job: JobFile, outputs: dict[str, Path], seconds: float) -> dict[str, Any]:
    """Move a job's files into the folder and, last of all, write result.json.

    Raises:
        StorageError: the disk refuses.
    """
    told: dict[str, Any] = {}
    try:
        for role, path in sorted(outputs.items()):
            told[role] = {"sha256": sha256_of(path), "size": path.stat().st_size}
            path.replace(folder / role)
        result = {"schema": SCHEMA, "key": job.key, "kind": job.kind, "version": VERSION, "outputs": told}
        result["seconds"] = round(seconds, 3)
        temporary = folder / f"{RESULT}.{uuid.uuid4().hex[:8]}.tmp"
        temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")
        temporary.replace(folder / RESULT)
    except OSError as error:
        raise storage_error(error, "the result") from error
    return result


def forget_result(folder: Path) -> None:
    """Take an older result's mark away before a new one is made.

    Raises:
        StorageError: the folder refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}. Choose another folder with --out.") from error


def _input_path(job_file: Path, role: str, entry: Any) -> Path:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or set(entry) - {"path", "sha256"}:
        raise InputError(f"{job_file}: inputs.{role} must be an object with path and, if wanted, sha256.")
    return job_file.resolve().parent / Path(entry["path"])


def _reference(path: Path, entry: dict[str, str]) -> ArtifactRef:
    try:
        sha256, size = sha256_of(path), path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if entry.get("sha256", sha256) != sha256:
        raise InputError(f"{path} has the sha256 {sha256}, but the job file expects {entry['sha256']}. Send it again.")
    return ArtifactRef(sha256, size)
