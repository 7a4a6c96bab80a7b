# SPDX-License-Identifier: Apache-2.0
"""A depth source that forbids paid work asks first, and everything made with it says so."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from ex4d.cli import main
from ex4d.depth import SOURCES, DepthClip, SourceInfo
from ex4d.errors import LicenceError
from ex4d.generation.preview import PreviewFill
from ex4d.jobs import run_job
from ex4d.licence import allowed_by_all
from ex4d.shot import read_shot, read_take
from ex4d.video import write_video


class ResearchDepth:
    """A source for research only; running it before its licence was accepted is the fault to find."""

    name, label, licence, commercial_use, cache_key = "research", "Research model", "no paid work", False, None
    runs = 0

    def estimate(self, clip, progress=None):
        ResearchDepth.runs += 1
        depth = np.full(clip.frames.shape[:3], 3.0, np.float32)
        return DepthClip(
            depth=depth, kind="metric", source=self.label, licence=self.licence, commercial_use=self.commercial_use
        )


@pytest.fixture
def plate(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "research", SourceInfo(lambda options: ResearchDepth()))
    monkeypatch.setattr(ResearchDepth, "runs", 0)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "plate.mkv", frames, Fraction(24), "ffv1")
    return tmp_path / "plate.mkv"


def test_without_an_accept_nothing_runs_and_the_error_says_what_and_how(plate, tmp_path, capsys):
    command = ["reconstruct", str(plate), "--out", str(tmp_path / "shot"), "--depth", "research"]
    assert main(command) == LicenceError.exit_code == 2
    message = capsys.readouterr().err
    for part in ("Research model may not be used for paid work", "no paid work", "--accept-licence", "marked"):
        assert part in message
    assert ResearchDepth.runs == 0
    assert not (tmp_path / "shot").exists()
    with pytest.raises(LicenceError) as caught:
        run_job("reconstruct", {"depth": "research"}, {"plate": plate}, tmp_path / "job", lambda report: None)
    assert caught.value.code == "licence"


def test_the_mark_travels_from_the_shot_to_the_take_and_what_is_said_about_it(plate, tmp_path, capsys):
    shot = tmp_path / "shot"
    command = ["take", str(plate), "--out", str(shot), "--depth", "research", "--move", "orbit:angle=4", "--json"]
    assert main([*command, "--accept-licence"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["paid work"] == "not allowed by that licence"
    assert any("Not for paid work" in notice for notice in said["notices"])
    stored = json.loads((shot / "shot.json").read_text(encoding="utf-8"))["depth"]
    assert (stored["commercial_use"], stored["licence_accepted"]) == (False, True)
    info = read_shot(shot).depth_info
    assert (info.commercial_use, info.licence_accepted) == (False, True)
    for again in (False, True):  # painting a take again does not wash the mark off
        take = read_take(shot, "take1")
        assert take.commercial_use is False
        assert sum("Not for paid work: made with Research model" in notice for notice in take.notices) == 1
        if not again:
            assert main(["generate", str(shot), "--take", "take1"]) == 0


@pytest.mark.parametrize(("source", "marked"), [("research", True), ("preview", False)])
def test_a_result_that_leaves_its_folder_keeps_the_mark(plate, tmp_path, source, marked):
    command = ["take", str(plate), "--out", str(tmp_path / "shot"), "--depth", source, "--move", "orbit:angle=4"]
    assert main([*command, "--accept-licence"]) == 0
    for name in ("result.mkv", "result.mp4"):
        with av.open(str(tmp_path / "shot" / "takes" / "take1" / name)) as container:
            notes = {key.lower(): text for key, text in container.metadata.items()}
        assert ("not for paid work" in notes.get("comment", "")) is marked


def test_a_job_carries_the_accept_and_the_mark(plate, tmp_path):
    def silent(report):
        pass

    params = {"depth": "research", "accept_licence": True}
    files = run_job("reconstruct", params, {"plate": plate}, tmp_path / "job", silent)
    assert json.loads(files["shot.json"].read_text(encoding="utf-8"))["depth"]["licence_accepted"] is True


def test_a_free_source_needs_no_accept_and_gets_no_mark(plate, tmp_path):
    shot = tmp_path / "shot"
    assert main(["take", str(plate), "--out", str(shot), "--depth", "preview", "--move", "orbit:angle=4"]) == 0
    assert read_shot(shot).depth_info.licence_accepted is False
    take = read_take(shot, "take1")
    assert take.commercial_use is True
    assert not any("paid work" in notice for notice in take.notices)


def test_an_engine_that_forbids_paid_work_marks_the_take_too(plate, tmp_path, monkeypatch):
    monkeypatch.setattr(PreviewFill, "commercial_use", False)
    assert main(["take", str(plate), "--out", str(tmp_path / "shot"), "--move", "orbit:angle=4"]) == 0
    assert read_take(tmp_path / "shot", "take1").commercial_use is False


def test_the_strictest_licence_counts():
    assert allowed_by_all(True, True) is True
    assert allowed_by_all(True, None) is None
    assert allowed_by_all(None, False, True) is False
