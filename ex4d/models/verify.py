# SPDX-License-Identifier: Apache-2.0
"""Checking weights that are on this machine, as well as can be known: by sum where one is known, else by structure."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ex4d.errors import MachineError
from ex4d.models.contents import damage, safetensors_names
from ex4d.models.places import look
from ex4d.models.record import read_record
from ex4d.models.registry import Model
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256

LARGE_BYTES = 10_000_000  # what takes long enough to show


@dataclass(frozen=True)
class Check:
    """What is known of one file."""

    file: str  # relative to the model's folder
    how: str  # by what it was judged: "sha256", "structure"
    fault: str | None  # the end of a sentence that begins with the file's name; None: it is good


def verify(model: Model, folder: Path | None = None, progress: ProgressCallback | None = None) -> list[Check]:
    """Check every file of a model. Files of many gigabytes are read from end to end.

    Args:
        model: which.
        folder: where it lies; None to look where weights usually are.
        progress: told while reading, in bytes.

    Raises:
        MachineError: nothing of it is on this machine.
    """
    found = look(model, folder)
    if found.state == "missing":
        raise MachineError(
            f"{model.what} is not on this machine: '{found.folder}' holds nothing of it. {model.command}"
        )
    record = read_record(found.folder, model.repository)
    known = {} if record is None else record.files
    checks = [
        Check(pattern, "structure", "is missing") for pattern in model.files if not any(found.folder.glob(pattern))
    ]
    for path in found.files:
        name = path.relative_to(found.folder).as_posix()
        fault = damage(path)
        expected = model.sha256.get(name)
        if fault is None and name in known:
            expected = known[name].sha256 or expected
            if path.stat().st_size != known[name].size:
                fault = f"has {path.stat().st_size} bytes and should have {known[name].size}"
        if fault is None and expected is not None:
            large = path.stat().st_size > LARGE_BYTES
            wrong = file_sha256(path, f"Checking {path.name}", progress if large else None) != expected
            checks.append(
                Check(name, "sha256", "does not hold what was published (its sha256 differs)" if wrong else None)
            )
        else:
            checks.append(Check(name, "structure", fault or structure_fault(path, model.tensors.get(name))))
    return checks


def structure_fault(path: Path, tensors: int | None) -> str | None:
    """What is wrong inside a whole file whose sum nobody knows.

    Args:
        path: the file.
        tensors: how many it must hold; None when that is not known.
    """
    if path.name.endswith(".safetensors.index.json"):
        return _index_fault(path)
    if path.suffix == ".safetensors":
        count = len(safetensors_names(path))
    elif path.suffix in (".pth", ".ckpt", ".pt", ".bin") and find_spec("torch") is not None:
        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch raises half a dozen types for files that are not what they say
            return f"does not open as plain weights ({str(error).splitlines()[0][:100]})"
        if not isinstance(content, dict):
            return "holds no table of weights"
        count = sum(isinstance(value, torch.Tensor) for value in content.values())
    else:
        return None
    if count == 0:
        return "holds no weights"
    return f"holds {count} tensors and should hold {tensors}" if tensors not in (None, count) else None


def _index_fault(path: Path) -> str | None:
    """Whether each tensor lies in the file that the index of a model in several files names."""
    try:
        places: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        inside = {name: set(safetensors_names(path.parent / name)) for name in sorted(set(places.values()))}
    except (KeyError, TypeError, AttributeError, ValueError, OSError):
        return "does not fit the files that lie beside it"
    lost = sorted(name for name, file in places.items() if name not in inside[file])
    if lost:
        return f"names {len(lost)} tensors that are not in its files, for example {lost[0]}"
    return None
