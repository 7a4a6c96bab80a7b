# SPDX-License-Identifier: Apache-2.0
"""What was fetched, noted beside the files: which version of the repository, and the size and sum of each file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ex4d.document import write_document

NAME = "ex4d-download.json"
SCHEMA = 1


@dataclass(frozen=True)
class FileRecord:
    """One file as the hub described it, or as it arrived."""

    size: int  # bytes
    sha256: str | None  # None until it has arrived, for small files whose sum the hub does not state


@dataclass(frozen=True)
class Record:
    """A download, finished or not."""

    repository: str
    revision: str  # the commit, so that a download that goes on tomorrow never mixes two versions
    files: Mapping[str, FileRecord] = field(default_factory=dict)


def read_record(folder: Path, repository: str) -> Record | None:
    """The record of a folder; None when it was filled by hand, or its record is damaged or of another model."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA or content["repository"] != repository:
            return None
        files = {
            str(name): FileRecord(int(entry["size"]), None if entry["sha256"] is None else str(entry["sha256"]))
            for name, entry in content["files"].items()
        }
        return Record(repository, str(content["revision"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a folder.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    files = {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in sorted(record.files.items())}
    content = {"repository": record.repository, "revision": record.revision, "files": files}
    write_document(folder / NAME, SCHEMA, content)
