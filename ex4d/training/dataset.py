# SPDX-License-Identifier: Apache-2.0
"""The training dataset: a folder of tar shards and an index. The one place that writes and reads it.

shard-000000.tar    samples one after the other, as the `webdataset` package reads them; each has the members
                    KEY.target.mkv  the source's frames, which are the ground truth (FFV1, RGB)
                    KEY.mask.mkv    what the model is given of them: 255 seen, 0 to paint (FFV1, grey)
                    KEY.json        caption, rate, how the mask was made, where frames and depth come from
index.json          settings, the shards with their sha256, the samples in their order, what was skipped and why

The masked colour, target * mask, is not stored. The same samples give the same bytes.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

import ex4d
from ex4d.document import Fields, Json, read_document, write_document
from ex4d.errors import InputError, ShapeError, ShotError, VideoError
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256, replacing
from ex4d.video import read_video, write_video

SCHEMA = 1
INDEX = "index.json"
MEMBERS = ("target.mkv", "mask.mkv", "json")
SIDE_STEP = 16  # pixels of a token of Wan2.1: its VAE's 8 times its patch's 2
FRAME_STEP = 4  # frames of a latent of Wan2.1 after the first one, so clips have 4 n + 1

MaskKind = Literal["rendering", "tracking", "both"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)


class DatasetError(InputError):
    """A dataset is missing, written by a newer version, or made with other settings."""

    code = "bad_dataset"


class DamagedShardError(DatasetError):
    """A shard is there but cannot be used; other shards may be fine."""

    code = "damaged_shard"


@dataclass(frozen=True)
class Record:
    """What a sample says about itself: its KEY.json."""

    key: str  # 16 hexadecimal digits of where it comes from
    caption: str
    fps: str  # exact, such as 24000/1001
    frame_count: int  # 4 n + 1
    width: int  # multiples of 16
    height: int
    mask_kind: MaskKind
    mask_seed: int  # of everything random in it
    mask: dict[str, Json]  # what was drawn from that seed: shapes, jitter, seen share
    camera: dict[str, Json]  # the path that made a rendering mask; empty without one
    source: str  # name of the video file
    source_sha256: str  # of the whole file
    first_frame: int  # of the sample in that file, 0-based, at its constant rate
    depth_source: str | None  # None: no depth was needed
    depth_licence: str | None
    commercial_use: bool | None  # whether the depth's licence allows paid work; None when only its maker knows
    member_sha256: dict[str, str]  # of target.mkv and mask.mkv


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip to learn from."""

    record: Record
    target: NDArray[np.uint8]  # RGB. [T, H, W, 3]
    mask: NDArray[np.bool_]  # True where the model is given the target. [T, H, W]


@dataclass(frozen=True)
class Shard:
    """One tar file of the dataset."""

    name: str
    sha256: str
    size_bytes: int
    keys: tuple[str, ...]  # of its samples, in their order


@dataclass(frozen=True)
class Index:
    """What index.json says."""

    settings: dict[str, Json]  # everything that decides the samples beside the videos
    shards: tuple[Shard, ...] = ()
    records: tuple[Record, ...] = ()  # of all samples, shard by shard
    skipped: dict[str, str] = field(default_factory=dict)  # key of a sample or sha256 of a video -> why

    @property
    def keys(self) -> set[str]:
        """Of what needs no more work: the samples, and what was skipped."""
        return {record.key for record in self.records} | set(self.skipped)


class Dataset:
    """A dataset on disk, to be read in any order.

    Raises:
        DatasetError: there is none, or it is newer than this program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self._shards = {key: shard.name for shard in self.index.shards for key in shard.keys}

    def __len__(self) -> int:
        return len(self.index.records)

    def __getitem__(self, number: int) -> Sample:
        """Read a sample, or raise DamagedShardError."""
        record = self.index.records[number]
        return read_sample(self.folder / self._shards[record.key], record.key)

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def check(self, progress: ProgressCallback | None = None) -> None:
        """Compare every shard with the sum in the index, or raise DamagedShardError."""
        for shard in self.index.shards:
            path = self.folder / shard.name
            if not path.is_file():
                raise DamagedShardError(f"'{path}' is missing. Copy the dataset again, or prepare it again.")
            if file_sha256(path, f"Checking {shard.name}", progress) != shard.sha256:
                raise DamagedShardError(
                    f"'{path}' is not what was written. Copy the dataset again, or prepare it again."
                )


def read_index(folder: Path) -> Index:
    """Read index.json.

    Raises:
        DatasetError: there is none, it is damaged, or written by a newer version.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DatasetError(f"'{folder}' is no training dataset: it has no {INDEX}. Make one with `ex4d train prepare`.")
    try:
        fields = read_document(path, SCHEMA)
        shards, records = fields.inside("shards"), fields.inside("samples")
        return Index(
            settings=fields.json_object("settings"),
            shards=tuple(_shard(name, shards.inside(name)) for name in fields.json_object("shards")),
            records=tuple(_record(records.inside(key)) for key in fields.json_object("samples")),
            skipped=fields.text_map("skipped"),
        )
    except ShotError as error:
        raise DatasetError(str(error)) from error


def write_index(folder: Path, index: Index) -> None:
    """Write index.json, or raise StorageError. A reader never sees half of it."""
    content = {
        "made_with": ex4d.__version__,
        "settings": index.settings,
        "shards": {shard.name: {k: v for k, v in asdict(shard).items() if k != "name"} for shard in index.shards},
        "samples": {record.key: asdict(record) for record in index.records},
        "skipped": index.skipped,
    }
    write_document(folder / INDEX, SCHEMA, content)


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
        record = _record(Fields(path, fields, f"{key}.json: "))
    except (ValueError, ShotError) as error:
        raise DamagedShardError(f"'{path}': {key}.json is damaged: {error}") from error
    if record.key != key:
        raise DamagedShardError(f"'{path}': {key}.json is of another sample, {record.key}. Prepare the dataset again.")
    return record


def _shard(name: str, fields: Fields) -> Shard:
    return Shard(name, fields.text("sha256"), fields.integer("size_bytes"), fields.texts("keys"))


def _record(fields: Fields) -> Record:
    return Record(
        key=fields.text("key"),
        caption=fields.text("caption"),
        fps=fields.text("fps"),
        frame_count=fields.integer("frame_count"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        mask_kind=fields.choice("mask_kind", MASK_KINDS),
        mask_seed=fields.integer("mask_seed"),
        mask=fields.json_object("mask"),
        camera=fields.json_object("camera"),
        source=fields.text("source"),
        source_sha256=fields.text("source_sha256"),
        first_frame=fields.integer("first_frame"),
        depth_source=fields.optional_text("depth_source"),
        depth_licence=fields.optional_text("depth_licence"),
        commercial_use=fields.optional_boolean("commercial_use"),
        member_sha256=fields.text_map("member_sha256"),
    )
