# SPDX-License-Identifier: Apache-2.0
"""Finding weights on this machine. Nothing is ever fetched without being asked for.

Weights are looked for in the folder that the artist names, in $EX4D_MODELS/<owner>/<name>, and in the Hugging Face
cache, in this order.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ex4d.errors import MachineError
from ex4d.models.contents import damage
from ex4d.models.registry import Model

State = Literal["complete", "partial", "missing"]
UNFINISHED = ".part"  # behind the name of a file that is still being fetched


@dataclass(frozen=True)
class Found:
    """What of a model is on this machine."""

    model: Model
    state: State
    folder: Path  # where it lies; where it would lie when it is missing
    files: tuple[Path, ...]  # those that are there, whole or not
    faults: tuple[str, ...]  # "vae/config.json is missing", one per file or pattern

    @property
    def size_bytes(self) -> int:
        """Of the files that are there."""
        return sum(path.stat().st_size for path in self.files)


def look(model: Model, folder: Path | None = None) -> Found:
    """Look for a model.

    Args:
        model: which.
        folder: where the artist says that it is; None to look where weights usually are.

    Returns:
        The first place that holds all of it; else the first that holds some; else where it belongs.
    """
    places = [folder] if folder is not None else usual_places(model.repository)
    found = [look_in(model, place) for place in places]
    for state in ("complete", "partial"):
        for one in found:
            if one.state == state:
                return one
    return found[0]


def look_in(model: Model, folder: Path) -> Found:
    """What of a model lies in one folder."""
    files: list[Path] = []
    faults: list[str] = []
    for pattern in model.files:
        matching = sorted(path for path in folder.glob(pattern) if path.is_file())
        files += matching
        if not matching:
            faults.append(f"{pattern} is missing")
        for path in matching:
            fault = damage(path)
            if fault:
                faults.append(f"{path.relative_to(folder).as_posix()} {fault}")
    state: State = (
        "complete" if not faults else "partial" if files or any(folder.rglob(f"*{UNFINISHED}")) else "missing"
    )
    return Found(model, state, folder, tuple(files), tuple(faults))


def find_weights(model: Model, folder: Path | None = None) -> Path:
    """The folder that holds a model.

    Args:
        model: which.
        folder: where the artist says that it is; None to look where weights usually are.

    Raises:
        MachineError: it is not there, or not all of it; the message says how to get it.
    """
    found = look(model, folder)
    if found.state == "complete":
        return found.folder
    what = f"{model.what} ({model.repository}; {model.size}, licence: {model.licence})"
    note = f" ({model.note})" if model.note else ""
    ways = (
        f"With a network: {model.command}{note}. "
        f"Without: copy the same files from another machine into '{folder or model_folder(model.repository)}'."
    )
    if not found.folder.is_dir():
        raise MachineError(f"The weights of {what} are not on this machine. {ways}")
    raise MachineError(f"The weights of {what} are not complete: in '{found.folder}' {'; '.join(found.faults)}. {ways}")


def usual_places(repository: str) -> list[Path]:
    """Where a repository's files may lie, the best place first."""
    return [model_folder(repository), *cached_snapshots(repository)]


def models_root() -> Path:
    """The folder of all models that are fetched or put there by hand: $EX4D_MODELS, else ~/ex4d-models."""
    root = os.environ.get("EX4D_MODELS")
    return Path(root) if root else Path.home() / "ex4d-models"


def model_folder(repository: str) -> Path:
    """Where a repository is fetched to, or put by hand."""
    return models_root() / repository


def hub_cache() -> Path:
    """The Hugging Face cache."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def cached_snapshots(repository: str) -> list[Path]:
    """The snapshots of a repository in the Hugging Face cache, the one of its main branch first."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    main = folder / "refs" / "main"
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir())
    return sorted(snapshots, key=lambda path: path.name != current)
