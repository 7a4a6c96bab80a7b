# SPDX-License-Identifier: Apache-2.0
"""A take in two jobs, render and generate, as a farm does them: what one job makes of both, and what lies between."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest

from ex4d.errors import InputError, ShotError
from ex4d.jobs import run_job
from ex4d.video import read_video, write_video

SHOT_FILES = ("shot.json", "plate.mkv", "depth.npz")
PAINTING = {"name": "two", "engine": "preview", "seed": 3}


@pytest.fixture
def shot(painted):
    return {name: painted / name for name in SHOT_FILES}


@pytest.fixture
def rendered(painted, shot, tmp_path):
    """The inputs of generate: a copy of what render has made."""
    camera = painted / "takes" / "one" / "camera.npz"
    (tmp_path / "render").mkdir()
    made = run_job("render", {"name": "two"}, {**shot, "camera.npz": camera}, tmp_path / "render", lambda report: None)
    (tmp_path / "sent").mkdir()
    return shot | {name: shutil.copy(path, tmp_path / "sent" / name) for name, path in made.items()}


def generated(inputs, tmp_path, **params):
    return run_job("generate", PAINTING | params, inputs, tmp_path, lambda report: None)


def test_two_jobs_make_what_one_makes(shot, rendered, tmp_path):
    (tmp_path / "take").mkdir()
    inputs = {**shot, "camera.npz": rendered["camera.npz"]}
    whole = run_job("take", PAINTING, inputs, tmp_path / "take", lambda report: None)
    made = generated(rendered, tmp_path)
    assert sorted(made) == ["result.mkv", "result.mp4", "take.json"]
    for name, path in made.items():
        assert path.is_relative_to(tmp_path / "shot")
        assert path.read_bytes() == whole[name].read_bytes(), name


def test_what_was_painted_into_the_clips_counts(rendered, tmp_path):
    color, mask = (read_video(rendered[name]).frames for name in ("color.mkv", "mask.mkv"))
    color[:, 20:40, 30:60], mask[:, 20:40, 30:60] = (200, 30, 90), 255
    for name, frames in (("color.mkv", color), ("mask.mkv", mask)):
        write_video(rendered[name], frames, Fraction(24), "ffv1")
    result = read_video(generated(rendered, tmp_path)["result.mkv"]).frames
    assert (result[:, 25:35, 35:55] == (200, 30, 90)).all()


def test_it_is_measured_on_request(rendered, tmp_path):
    made = generated(rendered, tmp_path, evaluate=True)
    assert json.loads(made["evaluation.json"].read_text(encoding="utf-8"))["take"] == "two"
    assert "evaluation.html" in made


@pytest.mark.parametrize(
    ("params", "missing", "said"),
    [
        ({}, "mask.mkv", "lacks the input files mask.mkv"),
        ({"raster": "cpu"}, None, "Unknown parameters: raster"),
        ({"name": "../two"}, None, "A take's name"),
        ({"quality": "best"}, None, "quality must be one of"),
    ],
)
def test_jobs_that_make_no_sense_say_so(rendered, tmp_path, params, missing, said):
    inputs = {name: path for name, path in rendered.items() if name != missing}
    with pytest.raises(InputError, match=said):
        generated(inputs, tmp_path, **params)


def test_clips_of_another_size_are_refused(rendered, tmp_path):
    write_video(rendered["mask.mkv"], np.zeros((3, 16, 16), np.uint8), Fraction(24), "ffv1")
    with pytest.raises(ShotError, match=r"mask\.mkv"):
        generated(rendered, tmp_path)
