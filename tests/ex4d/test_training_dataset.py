# SPDX-License-Identifier: Apache-2.0
"""The dataset on disk: what is written comes back, and damage is an error that names it."""

import json
import tarfile

import numpy as np
import pytest

from ex4d.errors import ShapeError
from ex4d.training.dataset import INDEX, Dataset, Index, Shard, read_index, write_index
from ex4d.training.records import DamagedShardError, DatasetError, Record
from ex4d.training.shards import join, read_record, read_sample, write_sample


def record(key="0123456789abcdef", **changes):
    fields = {
        "key": key,
        "caption": "a train, “fast”",
        "fps": "24000/1001",
        "frame_count": 5,
        "width": 48,
        "height": 32,
        "mask_kind": "both",
        "mask_seed": 7,
        "mask": {"seen_mean": 0.5},
        "camera": {"kind": "orbit"},
        "source": "a.mov",
        "source_sha256": "00",
        "first_frame": 49,
        "depth_source": None,
        "depth_licence": None,
        "commercial_use": None,
        "member_sha256": {},
    }
    return Record(**{**fields, **changes})


def clip(seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (5, 32, 48, 3), dtype=np.uint8), random.random((5, 32, 48)) > 0.5


@pytest.fixture
def dataset(tmp_path):
    keys = ("aa" * 8, "bb" * 8)
    parts = [tmp_path / f"{key}.tar" for key in keys]
    records = tuple(write_sample(p, record(k), *clip(n)) for n, (p, k) in enumerate(zip(parts, keys, strict=True)))
    folder = tmp_path / "dataset"
    sha256 = join(folder / "shard-000000.tar", parts)
    size = (folder / "shard-000000.tar").stat().st_size
    write_index(
        folder, Index({"seed": 3}, (Shard("shard-000000.tar", sha256, size, keys),), records, {"c.mp4": "short"})
    )
    return folder


def test_samples_come_back_bit_for_bit_in_any_order(dataset):
    data = Dataset(dataset)
    data.check()
    assert len(data) == 2
    for number in (1, 0):
        target, mask = clip(number)
        sample = data[number]
        assert np.array_equal(sample.target, target)
        assert np.array_equal(sample.mask, mask)
        assert sample.record == data.index.records[number]
    assert data.index.settings == {"seed": 3}
    assert [sample.record.key for sample in data] == ["aa" * 8, "bb" * 8]


def test_a_shard_is_what_webdataset_reads_and_the_same_samples_give_the_same_bytes(dataset, tmp_path):
    with tarfile.open(dataset / "shard-000000.tar") as tar:
        members = tar.getmembers()
    endings = ["target.mkv", "mask.mkv", "json"]
    assert [m.name for m in members] == [f"{key}.{end}" for key in ("aa" * 8, "bb" * 8) for end in endings]
    assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}
    again = tmp_path / "again.tar"
    assert (
        join(again, [tmp_path / f"{key}.tar" for key in ("aa" * 8, "bb" * 8)]) == read_index(dataset).shards[0].sha256
    )


@pytest.mark.parametrize("where", [700, 0.3, 0.9])
def test_one_wrong_byte_is_noticed(dataset, where):
    shard = dataset / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    at = where if isinstance(where, int) else int(len(content) * where)
    content[at] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(DamagedShardError, match="shard-000000"):
        Dataset(dataset).check()
    damaged = []
    for key in ("aa" * 8, "bb" * 8):
        try:
            read_sample(shard, key)
        except DamagedShardError as error:
            damaged.append(str(error))
    assert len(damaged) == 1, "the other sample is fine"
    assert "shard-000000" in damaged[0]


def test_a_shard_that_is_cut_off_missing_or_no_shard_is_an_error(dataset):
    shard = dataset / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedShardError):
        Dataset(dataset)[1]
    for wrong in (b"", b"no tar file at all" * 100):
        shard.write_bytes(wrong)
        with pytest.raises(DamagedShardError):
            Dataset(dataset)[0]
        with pytest.raises(DamagedShardError):
            read_record(shard)
    shard.unlink()
    with pytest.raises(DamagedShardError):
        Dataset(dataset)[0]
    with pytest.raises(DamagedShardError, match="missing"):
        Dataset(dataset).check()


def test_a_sample_that_is_not_there_is_an_error(dataset):
    with pytest.raises(DamagedShardError, match=r"has no cc\.json"):
        read_sample(dataset / "shard-000000.tar", "cc")


def test_an_index_that_is_missing_damaged_or_newer_is_an_error(dataset):
    index = json.loads((dataset / INDEX).read_text())
    (dataset / INDEX).write_text(json.dumps({**index, "schema": 99}))
    with pytest.raises(DatasetError, match="newer version"):
        read_index(dataset)
    del index["samples"]["aa" * 8]["caption"]
    (dataset / INDEX).write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="caption"):
        read_index(dataset)
    (dataset / INDEX).write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        read_index(dataset)
    (dataset / INDEX).unlink()
    with pytest.raises(DatasetError, match="no training dataset"):
        Dataset(dataset)


@pytest.mark.parametrize(
    "changes", [{"frame_count": 4}, {"width": 47}, {"height": 31}, {"frame_count": 9}, {"width": 64}]
)
def test_only_clips_that_the_model_can_learn_from_are_written(tmp_path, changes):
    wrong = record(**changes)
    target = np.zeros((wrong.frame_count, wrong.height, wrong.width, 3), np.uint8)
    if changes in ({"frame_count": 9}, {"width": 64}):
        target = target[:5, :, :48]
    with pytest.raises(ShapeError):
        write_sample(tmp_path / "a.tar", wrong, target, np.ones(target.shape[:3], bool))
