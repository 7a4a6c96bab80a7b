# SPDX-License-Identifier: Apache-2.0
"""`ex4d train run` from a configuration, a dataset and the published files, tiny; and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from published import publish
from safetensors.torch import load_file
from tiny_training import command
from tiny_wan import SMALL, moving_plate, tiny_models, write_ex4d

from ex4d.errors import InputError, MachineError
from ex4d.generation.wan.camera_encoder import ray_latent
from ex4d.generation.wan.checkpoint import read_ex4d
from ex4d.generation.wan.conditions import conditions_of, eroded
from ex4d.generation.wan.prompts import prompt_embeddings
from ex4d.generation.wan.reference_vae import ReferenceVae
from ex4d.training.config import TrainConfig, read_config
from ex4d.training.dataset import Index, Shard, write_index
from ex4d.training.journal import Journal
from ex4d.training.latents import LatentCache, encode
from ex4d.training.lock import only_writer
from ex4d.training.records import Record, Sample
from ex4d.training.selection import select
from ex4d.training.shards import join, write_sample
from ex4d.video import read_video


def record(number: int, video: str, **other) -> Record:
    given = {
        "key": f"{number:016x}",
        "caption": "a flower turns",
        "fps": "24",
        "frame_count": 5,
        "width": 32,
        "height": 32,
        "mask_kind": "rendering",
        "mask_seed": number,
        "mask": {},
        "camera": {},
        "source": f"{video}.mov",
        "source_sha256": video * 64,
        "first_frame": 0,
        "depth_source": None,
        "depth_licence": None,
        "commercial_use": True,
        "member_sha256": {},
    }
    return Record(**{**given, **other})


def pictures(number: int) -> tuple[np.ndarray, np.ndarray]:
    color, mask = moving_plate()
    return np.roll(color, 4 * number, axis=2), mask


def write_dataset(folder: Path, videos: str) -> Path:
    """One clip of each video."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, records = [], []
    for number, video in enumerate(videos):
        parts.append(folder / f"part{number}.tar")
        records.append(write_sample(parts[-1], record(number, video), *pictures(number)))
    shard = folder / "shard-000000.tar"
    sha256 = join(shard, parts)
    keys = tuple(one.key for one in records)
    write_index(folder, Index({}, (Shard(shard.name, sha256, shard.stat().st_size, keys),), tuple(records)))
    return folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A folder with a dataset of three videos, and the models folder."""
    root = tmp_path_factory.mktemp("studio")
    _, adapter = publish(root / "models", SMALL)
    write_ex4d(adapter.parent, tiny_models())
    write_dataset(root / "dataset", "abc")
    return root


def config_file(folder: Path, studio: Path, **settings) -> Path:
    given = {
        "dataset": str(studio / "dataset"),
        "out": "run",
        "steps": 2,
        "save_every": 1,
        "warmup_steps": 0,
        "held_out_videos": 1,
        "cpu": True,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**given, **settings}.items()]
    path = folder / "train.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def weights(studio, monkeypatch):
    monkeypatch.setenv("EX4D_MODELS", str(studio / "models"))


def test_a_run_learns_validates_paints_and_goes_on(studio, tmp_path, weights, capsys):
    path = config_file(tmp_path, studio, clip_every=2, clip_steps=2, tensorboard=False)
    assert command("run", "--config", path, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["clips"] == "2 learned from, 1 held out"
    out = tmp_path / "run"
    clip = read_video(out / "clips" / "step-00000002.mp4")
    assert clip.frames.shape == (5, 32, 96, 3)
    cached = sorted((studio / "dataset" / "latents").iterdir())
    assert len(cached) == 3 + 1  # clips, and the caption that they share
    assert {tensor.dtype for file in cached for tensor in load_file(file).values()} == {torch.float32}
    times = [file.stat().st_mtime_ns for file in cached]

    path = config_file(tmp_path, studio, steps=3)
    assert command("run", "--config", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["resumed from"] == str(out / "step-00000002")
    assert [file.stat().st_mtime_ns for file in cached] == times
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 3]
    assert lines[0]["event"] == "started"

    assert command("export", out, "--out", tmp_path / "ex4d.ckpt") == 0
    read_ex4d(tmp_path / "ex4d.ckpt", blocks=SMALL.layers)


def test_clips_are_encoded_just_as_painting_sees_them(studio, tmp_path, weights):
    models = tiny_models()
    color, mask = pictures(1)
    told = record(1, "a")
    shown = encode(Sample(told, color, mask), models, erosion_px=3)
    hidden = eroded(mask, 3)
    context = dict(zip(["positive"], prompt_embeddings(models, ["a flower turns"]), strict=True))
    expected = conditions_of(models, color, hidden, context, ReferenceVae(models))
    assert torch.equal(shown["still"], expected.y[0, 4:])
    assert torch.equal(shown["clip"], expected.clip[0])
    assert torch.equal(ray_latent(models.camera_encoder, shown["color"][None], shown["mask"][None]), expected.ray)
    assert shown["clean"].shape == (16, 2, 4, 4)


def test_a_clip_is_encoded_anew_when_anything_that_decides_it_changes():
    told = record(0, "a", member_sha256={"target.mkv": "1", "mask.mkv": "2"})
    cache = LatentCache(Path("x"), "vae clip t5", 5)
    paths = {
        cache.clip_path(told),
        cache.clip_path(record(0, "a", member_sha256={"target.mkv": "1", "mask.mkv": "3"})),
        LatentCache(Path("x"), "other vae", 5).clip_path(told),
        LatentCache(Path("x"), "vae clip t5", None).clip_path(told),
    }
    assert len(paths) == 4
    assert cache.clip_path(told) == cache.clip_path(record(0, "b", member_sha256=told.member_sha256))


def test_a_clip_that_shows_nothing_is_named(studio):
    color, mask = pictures(0)
    with pytest.raises(InputError, match=r"0000000000000007 of 'a\.mov'"):
        encode(Sample(record(7, "a"), color, mask & False), tiny_models(), 5)


def test_no_video_is_both_learned_from_and_judged_by():
    records = [record(number, video) for number, video in enumerate("aabbcc")]
    chosen = select(records, held_out_videos=1, batch_size=2)
    assert (chosen.learned, chosen.held_out) == ((2, 3, 4, 5), (0, 1))
    assert chosen.commercial_use is True
    assert select([*records, record(9, "d", commercial_use=None)], 0, 1).commercial_use is None
    assert select([*records, record(9, "d", commercial_use=False)], 0, 1).commercial_use is False


def test_what_cannot_be_learned_from_is_refused(studio, tmp_path, weights):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_index(empty, Index({}))
    for settings, said in (
        ({"dataset": str(empty)}, "holds no clip"),
        ({"held_out_videos": 3}, "nothing is left"),
        ({"sharding": "full"}, "accelerate launch"),
    ):
        with pytest.raises(InputError, match=said):
            command("run", "--config", config_file(tmp_path, studio, **settings))
    with pytest.raises(InputError, match="2 different sizes"):
        select([record(0, "a"), record(1, "b", width=48)], 0, 2)
    with pytest.raises(InputError, match=r"compiled is true, .* 2 different sizes"):
        select([record(0, "a"), record(1, "b", width=48)], 0, 1, compiled=True)


def test_a_second_run_in_the_same_folder_is_refused(studio, tmp_path, weights):
    with only_writer(tmp_path / "run"), pytest.raises(InputError, match="is being written by process"):
        command("run", "--config", config_file(tmp_path, studio))
    assert not (tmp_path / "run").exists()


def test_without_a_gpu_training_says_so(studio, tmp_path, weights):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(MachineError, match="NVIDIA GPU"):
        command("run", "--config", config_file(tmp_path, studio, cpu=False))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out = 'x'", "lacks dataset"),
        ("dataset = 'x'\nout = 'y'\nlr = 1", "unknown lr; known are dataset, out, start"),
        ("dataset = 'x'\nout = 'y'\nsteps = 1.5", "steps must be a whole number, got 1.5"),
        ("dataset = 'x'\nout = 'y'\nsteps = true", "steps must be a whole number, got True"),
        ("dataset = 'x'\nout = 'y'\nlearning_rate = 0", "learning_rate must be from 1e-12 to 1, got 0"),
        ("dataset = 'x'\nout = 'y'\nlearning_rate = nan", "learning_rate must be from"),
        ("dataset = 'x'\nout = 'y'\nsharding = 'some'", "sharding must be one of none, full"),
        ("dataset = 7\nout = 'y'", "dataset must be a path"),
        ("dataset = 'x'\nout = 'y'\nstart = ''", "start must be release, fresh or a file"),
        ("dataset = 'x'\nout = 'y'\nclip_norm = inf", "clip_norm must be from 1e-06 to 1e\\+06"),
        ("dataset = 'x'\nout = 'y'\nsharding = 'full'\ncompiled = true", "compiled = true is for sharding = 'none'"),
        (
            "dataset = 7\nlr = 1\nsteps = -1\nseed = 'a'",
            "must be a path, got 7; it lacks out; seed must be .* 'a'; steps must be .* -1; unknown lr; known",
        ),
        ("dataset = ", "is no TOML"),
    ],
)
def test_a_configuration_says_what_is_wrong_with_it(tmp_path, text, said):
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_config(path)


def test_paths_are_relative_to_the_configuration(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text("dataset = 'clips'\nout = '/runs/one'\nstart = 'mine.ckpt'\nlearning_rate = 1")
    config = read_config(path)
    expected = TrainConfig(tmp_path / "clips", Path("/runs/one"), start=str(tmp_path / "mine.ckpt"), learning_rate=1.0)
    assert config == expected
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.toml")


def test_tensorboard_gets_the_curves(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    with Journal(tmp_path, main=True, tensorboard=True) as journal:
        journal.numbers(1, loss=0.5)
    assert list((tmp_path / "tensorboard").iterdir())


def test_tensorboard_that_is_not_installed_is_missed_before_anything_is_loaded(studio, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MachineError, match="pip install"):
        command("run", "--config", config_file(tmp_path, studio, tensorboard=True))
