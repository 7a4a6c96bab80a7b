# SPDX-License-Identifier: Apache-2.0
"""Finding the weights of depth models on this machine. Nothing is ever fetched without being asked for.

Weights are looked for in the folder that the artist names, in $EX4D_MODELS/<owner>/<name>, and in the Hugging Face
cache, in this order.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ex4d.errors import MachineError


@dataclass(frozen=True)
class Weights:
    """A repository on the Hugging Face hub, and what an artist must know before fetching it."""

    repository: str  # owner/name
    what: str  # "DepthCrafter's UNet"
    licence: str
    size: str | None  # of what is fetched, as shown: "3.1 GB"; None when unknown
    files: tuple[str, ...]  # patterns relative to its root; each must be there at least once
    note: str = ""  # what else fetching needs

    @property
    def command(self) -> str:
        """The shell command that fetches them into the Hugging Face cache."""
        chosen = " ".join(f'--include "{pattern}"' for pattern in self.files)
        return f"hf download {self.repository} {chosen}"


def find_weights(weights: Weights, folder: Path | None = None) -> Path:
    """The folder that holds the weights.

    Args:
        weights: which.
        folder: where the artist says that they are; None to look where weights usually are.

    Raises:
        MachineError: they are not there, or not all of them; the message says how to get them.
    """
    places = [folder] if folder is not None else usual_places(weights.repository)
    for place in places:
        if all(any(place.glob(pattern)) for pattern in weights.files):
            return place
    started = [place for place in places if place.is_dir()]
    found = f" '{started[0]}' lacks {', '.join(_missing(weights, started[0]))}." if started else ""
    licence = f"licence: {weights.licence}"
    size = f"{weights.size}, {licence}" if weights.size else licence
    own = model_folder(weights.repository)
    raise MachineError(
        f"The weights of {weights.what} ({weights.repository}; {size}) are not on this machine.{found} "
        f"With a network: {weights.command}{f' ({weights.note})' if weights.note else ''}. "
        f"Without: copy the same files from another machine into '{folder or own}'."
    )


def usual_places(repository: str) -> list[Path]:
    """Where a repository's files may lie, the best place first."""
    return [model_folder(repository), *cached_snapshots(repository)]


def model_folder(repository: str) -> Path:
    """Where a repository is put by hand: in $EX4D_MODELS, else in ~/ex4d-models."""
    root = os.environ.get("EX4D_MODELS")
    return (Path(root) if root else Path.home() / "ex4d-models") / repository


def cached_snapshots(repository: str) -> list[Path]:
    """The snapshots of a repository in the Hugging Face cache, the one of its main branch first."""
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    folder = cache / f"models--{repository.replace('/', '--')}"
    main = folder / "refs" / "main"
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir())
    return sorted(snapshots, key=lambda path: path.name != current)


def _missing(weights: Weights, folder: Path) -> list[str]:
    return [pattern for pattern in weights.files if not any(folder.glob(pattern))]
