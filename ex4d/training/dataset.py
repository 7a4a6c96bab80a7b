# SPDX-License-Identifier: Apache-2.0
"""The training dataset: a folder of tar shards and an index. The tar files are written and read in shards.py.

shard-000000.tar    samples one after the other, as the `webdataset` package reads them; each has the members
                    KEY.target.mkv  the source's frames, which are the ground truth (FFV1, RGB)
                    KEY.mask.mkv    what the model is given of them: 255 seen, 0 to paint (FFV1, grey)
                    KEY.json        caption, rate, how the mask was made, where frames and depth come from
index.json          settings, the shards with their sha256, the samples in their order, what was skipped and why

The masked colour, target * mask, is not stored. The same samples give the same bytes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import ex4d
from ex4d.document import Fields, Json, read_document, write_document
from ex4d.errors import ShotError
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256
from ex4d.training.records import DamagedShardError, DatasetError, Record, Sample, record_of
from ex4d.training.shards import read_sample

SCHEMA = 1
INDEX = "index.json"


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
            records=tuple(record_of(records.inside(key)) for key in fields.json_object("samples")),
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


def _shard(name: str, fields: Fields) -> Shard:
    return Shard(name, fields.text("sha256"), fields.integer("size_bytes"), fields.texts("keys"))
