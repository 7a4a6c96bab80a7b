# SPDX-License-Identifier: Apache-2.0
"""Whether a weights file is whole, told from its own structure in milliseconds, without reading the weights."""

import json
import zipfile
from pathlib import Path

LARGEST_HEADER = 100_000_000  # bytes: the limit of the safetensors format
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # files of torch before 1.6 begin with this pickled number


def damage(path: Path) -> str | None:
    """What is wrong with a file, as the end of a sentence that begins with its name; None for a whole one.

    Args:
        path: an existing file: .safetensors, .pth, .ckpt, .json; of others only that they are not empty is known.
    """
    try:
        if path.stat().st_size == 0:
            return "is empty"
        if path.suffix == ".safetensors":
            return _safetensors_damage(path)
        if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
            return _torch_damage(path)
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:  # no UTF-8, no JSON
        return "is no JSON"
    return None


def safetensors_names(path: Path) -> list[str]:
    """The names of the tensors in a whole safetensors file."""
    header, _ = _safetensors_header(path)
    return [name for name in header if name != "__metadata__"]


def _safetensors_header(path: Path) -> tuple[dict[str, object], int]:
    """The header, and how many bytes come before the weights."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= LARGEST_HEADER:
            raise ValueError
        text = file.read(length)
    header = json.loads(text.decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError
    return header, 8 + length


def _safetensors_damage(path: Path) -> str | None:
    size = path.stat().st_size
    try:
        header, start = _safetensors_header(path)
        ends = [
            entry["data_offsets"][1]
            for name, entry in header.items()
            if name != "__metadata__" and isinstance(entry, dict)
        ]
        whole = start + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError):
        return "is no safetensors file, or its beginning is damaged"
    if size < whole:
        return f"is truncated: {size / 1e9:.2f} of {whole / 1e9:.2f} GB"
    return "is longer than it says" if size > whole else None


def _torch_damage(path: Path) -> str | None:
    with path.open("rb") as file:
        beginning = file.read(len(LEGACY_TORCH))
    if beginning == LEGACY_TORCH:
        return None
    if not beginning.startswith(b"PK"):
        return "is no PyTorch file"
    try:
        with zipfile.ZipFile(path) as archive:
            whole = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError):
        return "is truncated or damaged"
    return None if whole else "is no PyTorch file"
