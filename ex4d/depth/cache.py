# SPDX-License-Identifier: Apache-2.0
"""Depth that was found once: the same plate, source and settings need not run a model twice.

One file per outcome, named by everything that decides it: the plate's frames, the source and its settings, and the code
of this package. What the source said is kept, before its scale is fitted, so that near and far can be tried at once.
The folder is EX4D_CACHE, else the system's place for caches; it stays below a size by dropping what was not used
longest. An empty EX4D_CACHE switches it off. Nothing in it is needed: it can be deleted at any time.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import ex4d
from ex4d.cache_folder import cache_folder
from ex4d.depth.clip import DepthClip, DepthSource, DisparityClip
from ex4d.errors import StorageError
from ex4d.progress import Progress, ProgressCallback
from ex4d.storage import replacing
from ex4d.video import Clip

MAX_BYTES = 4 << 30  # some forty clips of 49 frames at 1024 x 576
ARRAYS = ("depth", "disparity", "sky", "valid")
Found = DepthClip | DisparityClip


def cached_estimate(source: DepthSource, clip: Clip, progress: ProgressCallback | None = None) -> Found:
    """What a source says about a clip, from the cache when it said so before.

    Raises:
        DepthError: as the source's `estimate`.
    """
    folder, key = cache_folder("depth"), source.cache_key
    if folder is None or key is None:
        return source.estimate(clip, progress)
    path = folder / f"{entry_name(source.name, key, clip)}.npz"
    found = _read(path)
    if found is None:
        found = source.estimate(clip, progress)
        with contextlib.suppress(StorageError):  # a full disk costs the next run time, not this one its depth
            _write(path, found)
            _shrink(folder, path)
    elif progress is not None:
        progress(Progress("Reading the depth found before", 1, 1))
    return found


def entry_name(source: str, key: dict[str, Any], clip: Clip) -> str:
    """sha256 of everything that decides the outcome.

    Args:
        source: name in the registry.
        key: its `cache_key`.
        clip: its frames count as they are, so that a resized plate is another one.
    """
    digest = hashlib.sha256(json.dumps([source, key, str(clip.fps), code_version()], sort_keys=True).encode())
    digest.update(repr(clip.frames.shape).encode())
    for frame in clip.frames:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


@functools.cache
def code_version() -> str:
    """This package's version and its code: depth made by older code is not this one's."""
    digest = hashlib.sha256(ex4d.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> Found | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            fields = json.loads(str(stored["origin"]))
            arrays = {name: stored[name] for name in ARRAYS if name in stored}
        os.utime(path)  # used now
        fields["notices"] = tuple(fields["notices"])
        return DisparityClip(**fields, **arrays) if "disparity" in arrays else DepthClip(**fields, **arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        with contextlib.suppress(OSError):  # damaged: it is made again
            path.unlink()
        return None


def _write(path: Path, found: Found) -> None:
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    arrays = {name: fields.pop(name) for name in ARRAYS if fields.get(name) is not None}
    origin = json.dumps({name: value for name, value in fields.items() if name not in ARRAYS})
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, origin=np.array(origin), **arrays)


def _shrink(folder: Path, newest: Path) -> None:
    """Drop what was not used longest until the folder fits."""
    entries = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process dropped it
            stat = path.stat()
            entries.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= MAX_BYTES or path == newest:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
