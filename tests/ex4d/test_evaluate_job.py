# SPDX-License-Identifier: Apache-2.0
"""Takes measured by a job, as the server and farms run it, and by `ex4d take`: the command's figures."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from measured_take import SAMPLE, SIDE, turned

from ex4d.cli import main
from ex4d.conditioning import render_conditioning
from ex4d.errors import InputError
from ex4d.jobs import run_job
from ex4d.video import write_video

SHOT_FILES = ("shot.json", "plate.mkv", "depth.npz")
TAKE_FILES = ("take.json", "camera.npz", "color.mkv", "mask.mkv", "result.mkv")


def inputs_of(shot):
    take = shot / "takes" / "one"
    return {name: shot / name for name in SHOT_FILES} | {name: take / name for name in TAKE_FILES}


def measured(shot, workdir, **params):
    workdir.mkdir(exist_ok=True)
    return run_job("evaluate", {"name": "one", **params}, inputs_of(shot), workdir, lambda report: None)


def test_a_job_gives_the_commands_figures_and_its_page(painted, tmp_path, capsys):
    outputs = measured(painted, tmp_path / "work")
    assert sorted(outputs) == ["evaluation.html", "evaluation.json"]
    assert main(["evaluate", str(painted), "--take", "one"]) == 0
    told = capsys.readouterr().out
    assert "Rotation error" in told
    for name, path in outputs.items():
        assert path.is_relative_to(tmp_path / "work")
        assert path.read_bytes() == (painted / "takes" / "one" / name).read_bytes()
    page = outputs["evaluation.html"].read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * 3  # mesh and result
    assert "Rotation error" in page
    for outside in ("<script", "http", "<link", 'src="/', str(tmp_path)):
        assert outside not in page


@pytest.mark.parametrize(("degrees", "share"), [(1.5, 0.0), (0.0, 0.03), (2.0, 0.02)])
def test_a_result_from_a_camera_that_is_off_is_reported_as_that(painted, small, tmp_path, degrees, share):
    """To 0.1 degrees and 0.3 % of the depth, at 192 pixels."""
    shot = tmp_path / "shot"
    shutil.copytree(painted, shot)
    moved = share * float(np.median(small.depth))
    path = turned(small.cameras, degrees, moved)
    shown = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", path, "cpu")
    write_video(shot / "takes" / "one" / "result.mkv", shown.color, Fraction(24), "ffv1")
    asked = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", small.cameras, "cpu")
    figures = json.loads(measured(shot, tmp_path / "work")["evaluation.json"].read_text(encoding="utf-8"))
    assert figures["totals"]["localised"] == 1
    assert figures["frames"]["rotation_error_deg"] == pytest.approx([degrees] * 3, abs=0.1)
    expected = [moved / float(np.median(asked.depth[n][asked.mask[n]])) for n in range(3)]
    assert figures["frames"]["translation_error"] == pytest.approx(expected, abs=0.003)
    assert figures["summary"]["shift_px"]["mean"] > 2
    kept = figures["summary"]["kept_psnr_db"]
    assert kept["worst"] <= kept["mean"] < 30


def test_a_take_is_measured_on_request(painted, tmp_path):
    inputs = {name: path for name, path in inputs_of(painted).items() if name in (*SHOT_FILES, "camera.npz")}
    outputs = run_job("take", {"name": "two", "evaluate": True}, inputs, tmp_path, lambda report: None)
    assert {"result.mkv", "evaluation.json", "evaluation.html"} <= set(outputs)
    figures = json.loads(outputs["evaluation.json"].read_text(encoding="utf-8"))
    assert figures["take"] == "two"
    assert figures["summary"]["rotation_error_deg"]["mean"] < 0.05


def test_the_take_command_measures_on_request(tmp_path, capsys):
    shot, size = tmp_path / "shot", f"{SIDE}x{SIDE}"
    given = [str(SAMPLE / "plate.mp4"), "--out", str(shot), "--frames", "0:3", "--size", size, "--json"]
    given += ["--depth", "preview", "--move", "orbit:angle=5", "--engine", "preview"]
    assert main(["take", *given]) == 0
    assert "evaluation" not in json.loads(capsys.readouterr().out)
    assert not (shot / "takes" / "take1" / "evaluation.json").exists()
    assert main(["take", *given, "--evaluate"]) == 0
    told = json.loads(capsys.readouterr().out)["evaluation"]
    written = json.loads((shot / "takes" / "take1" / "evaluation.json").read_text(encoding="utf-8"))
    assert told == {name: written[name] for name in told}
    assert told["totals"]["localised"] == 1


@pytest.mark.parametrize(
    ("kind", "params", "missing", "said"),
    [
        ("evaluate", {}, "result.mkv", "lacks the input files result.mkv"),
        ("evaluate", {"truth": "x"}, None, "Unknown parameters: truth"),
        ("evaluate", {"name": "../one"}, None, "A take's name"),
        ("take", {"evaluate": "yes"}, None, "evaluate must be true or false, got 'yes'"),
    ],
)
def test_jobs_that_make_no_sense_say_so(painted, tmp_path, kind, params, missing, said):
    inputs = {name: path for name, path in inputs_of(painted).items() if name != missing}
    with pytest.raises(InputError, match=said):
        run_job(kind, params, inputs, tmp_path, lambda report: None)
