# SPDX-License-Identifier: Apache-2.0
"""The tar shards of a training dataset: samples in, samples out. What is in them stands in dataset.py."""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ex4d.document import Fields
from ex4d.errors import ShapeError, ShotError, VideoError
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256, replacing
from ex4d.training.records import FRAME_STEP, SIDE_STEP, DamagedShardError, Record, Sample, record_of
from ex4d.video import read_video, write_video

MEMBERS = ("target.mkv", "mask.mkv", "json")


def write_sample(
    path: Path,
    record: Record,
    target: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    progress: ProgressCallback | None = None,
) -> Record:
    """Write one sample as a tar file of its own; `join` makes a shard of many.

    Args:
        path: of the file.
        record: `member_sha256` is filled in here.
        target: RGB. [T, H, W, 3]
        mask: True where the model is given the target. [T, H, W]

    Returns:
        the record as written.

    Raises:
        ShapeError: this is no clip that the model can be trained on.
        StorageError: the disk is full or refuses to be written.
    """
    expected = (record.frame_count, record.height, record.width)
    if target.shape != (*expected, 3) or mask.shape != expected or mask.dtype != np.bool_:
        raise ShapeError(
            f"A sample's target must be {[*expected, 3]} and its mask bool {list(expected)}, "
            f"got {list(target.shape)} and {mask.dtype} {list(mask.shape)}."
        )
    if record.frame_count % FRAME_STEP != 1 or record.width % SIDE_STEP or record.height % SIDE_STEP:
        raise ShapeError(
            f"A sample must have {FRAME_STEP} n + 1 frames and sides that are multiples of {SIDE_STEP}, "
            f"got {record.frame_count} frames of {record.width} x {record.height}."
        )
    with tempfile.TemporaryDirectory() as folder:
        clips = {"target.mkv": target, "mask.mkv": mask.astype(np.uint8) * np.uint8(255)}
        contents = {}
        for name, frames in clips.items():
            write_video(Path(folder) / name, frames, Fraction(record.fps), "ffv1", progress)
            contents[name] = (Path(folder) / name).read_bytes()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record = Record(**{**asdict(record), "member_sha256": sums})
    contents["json"] = json.dumps(asdict(record), indent=1, ensure_ascii=False).encode()
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in MEMBERS:
            _add(tar, f"{record.key}.{name}", contents[name])
    return record


def join(path: Path, samples: Sequence[Path]) -> str:
    """Make a shard of samples that were written one by one, in the given order.

    Returns:
        its sha256.
    """
    with replacing(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                with _opened(sample) as part:
                    for member in part:
                        file = part.extractfile(member)
                        _add(tar, member.name, b"" if file is None else file.read())
        return file_sha256(temporary, "Hashing the shard")


def read_record(path: Path) -> Record:
    """Read what the only sample of a tar file says about itself, once its clips' sums are right.

    Raises:
        DamagedShardError: the file is missing or damaged.
    """
    with _opened(path) as tar:
        names = _names(path, tar)
        key = names[0].partition(".")[0]
        record = _read_record(path, tar, key)
        for name in ("target.mkv", "mask.mkv"):
            _clip_bytes(path, tar, record, name)
        return record


def read_sample(path: Path, key: str) -> Sample:
    """Read one sample of a shard.

    Raises:
        DamagedShardError: the shard is missing or damaged, or has no such sample; the message names it.
    """
    with _opened(path) as tar:
        record = _read_record(path, tar, key)
        contents = {name: _clip_bytes(path, tar, record, name) for name in ("target.mkv", "mask.mkv")}
    shape = (record.frame_count, record.height, record.width)
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            file = Path(folder) / name
            file.write_bytes(content)
            try:
                clips.append(read_video(file).frames)
            except VideoError as error:
                raise DamagedShardError(f"'{path}': {key}.{name} cannot be decoded: {error}") from error
            if clips[-1].shape[:3] != shape:
                raise DamagedShardError(
                    f"'{path}': {key}.{name} is [T, H, W] {list(clips[-1].shape[:3])}, its json says {list(shape)}."
                )
    return Sample(record, clips[0], clips[1][..., 0] > 127)


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DamagedShardError(
            f"'{path}' cannot be read: {error}. Copy the dataset again, or prepare it again."
        ) from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Nothing but name, size and content: no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _names(path: Path, tar: tarfile.TarFile) -> list[str]:
    try:
        names = tar.getnames()
    except (OSError, tarfile.TarError) as error:
        raise DamagedShardError(f"'{path}' is cut off or damaged: {error}. Prepare it again.") from error
    if not names:
        raise DamagedShardError(f"'{path}' holds nothing. Prepare it again.")
    return names


def _member(path: Path, tar: tarfile.TarFile, name: str) -> bytes:
    try:
        file = tar.extractfile(name)
        content = None if file is None else file.read()
    except KeyError as error:
        raise DamagedShardError(f"'{path}' has no {name}. Prepare the dataset again.") from error
    except (OSError, tarfile.TarError) as error:
        raise DamagedShardError(f"'{path}': {name} is cut off or damaged: {error}. Prepare it again.") from error
    if content is None:
        raise DamagedShardError(f"'{path}': {name} is no file. Prepare the dataset again.")
    return content


def _clip_bytes(path: Path, tar: tarfile.TarFile, record: Record, name: str) -> bytes:
    content = _member(path, tar, f"{record.key}.{name}")
    if hashlib.sha256(content).hexdigest() != record.member_sha256.get(name):
        raise DamagedShardError(f"'{path}': {record.key}.{name} is not what was written. Prepare the dataset again.")
    return content


def _read_record(path: Path, tar: tarfile.TarFile, key: str) -> Record:
    content = _member(path, tar, f"{key}.json")
    try:
        fields = json.loads(content.decode())
        if not isinstance(fields, dict):
            raise ValueError(f"it must be a JSON object, got {type(fields).__name__}")
        record = record_of(Fields(path, fields, f"{key}.json: "))
    except (ValueError, ShotError) as error:
        raise DamagedShardError(f"'{path}': {key}.json is damaged: {error}") from error
    if record.key != key:
        raise DamagedShardError(f"'{path}': {key}.json is of another sample, {record.key}. Prepare the dataset again.")
    return record
