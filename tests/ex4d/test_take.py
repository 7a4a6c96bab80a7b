# SPDX-License-Identifier: Apache-2.0
"""The whole method on small plates, from a video file to a re-shot one: library, job and command line."""

import argparse
import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from ex4d.camera import CameraPath, focal_px_from_lens, pinhole_intrinsics, read_camera_path, write_camera_path
from ex4d.cli import add_engine_options, main
from ex4d.errors import CameraError, Cancelled, DepthError, InputError, VideoError
from ex4d.generation import ENGINES, GenerateOptions
from ex4d.generation.wan import availability
from ex4d.generation.wan.modes import MODES
from ex4d.jobs import run_job
from ex4d.shot import read_shot, write_shot
from ex4d.take import ReconstructOptions, generate_take, read_rendered_take, reconstruct, render_take
from ex4d.takes import read_take
from ex4d.video import read_video, write_video

COUNT, HEIGHT, WIDTH = 4, 48, 64
FOCAL_PX = 60.0


@pytest.fixture
def plate(tmp_path):
    """A bright block that moves over a striped wall, with its true depth beside it."""
    rng = np.random.default_rng(0)
    wall = np.repeat(rng.integers(20, 120, (1, WIDTH, 3), dtype=np.uint8), HEIGHT, axis=0)
    frames, depth = np.stack([wall] * COUNT), np.full((COUNT, HEIGHT, WIDTH), 8.0, np.float32)
    for n in range(COUNT):
        frames[n, 15:35, 10 + 6 * n : 26 + 6 * n] = (250, 200, 40)
        depth[n, 15:35, 10 + 6 * n : 26 + 6 * n] = 4.0
    write_video(tmp_path / "plate.mkv", frames, Fraction(24), "ffv1")
    np.savez(tmp_path / "depth.npz", depth=depth)
    return tmp_path / "plate.mkv"


@pytest.fixture
def options(plate):
    return ReconstructOptions(depth="file", depth_file=plate.with_name("depth.npz"), focal_px=FOCAL_PX)


@pytest.fixture
def sideways():
    """A camera that moves one unit to the right."""
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, 0, 3] = -np.linspace(0, 1, COUNT)
    intrinsics = np.tile(pinhole_intrinsics(FOCAL_PX, WIDTH, HEIGHT), (COUNT, 1, 1))
    return CameraPath(poses, intrinsics, WIDTH, HEIGHT, np.arange(COUNT))


def silent(report):
    """A progress callback for work that nobody watches."""


def test_a_take_from_the_source_camera_is_the_plate(plate, options, tmp_path):
    shot = reconstruct(plate, options)
    folder = tmp_path / "shot"
    write_shot(folder, shot)
    still = CameraPath(
        np.tile(np.eye(4), (COUNT, 1, 1)), np.tile(shot.intrinsics, (COUNT, 1, 1)), WIDTH, HEIGHT, np.arange(COUNT)
    )
    take, conditioning = render_take(folder, shot, "still", still)
    assert take.coverage.mean == 0
    generate_take(folder, shot, take, still, conditioning)
    np.testing.assert_array_equal(read_video(folder / "takes/still/result.mkv").frames, shot.frames)


def test_the_unseen_part_behind_the_block_is_painted_with_the_wall(plate, options, sideways, tmp_path):
    shot = reconstruct(plate, options)
    write_shot(tmp_path / "shot", shot)
    take, conditioning = render_take(tmp_path / "shot", shot, "side", sideways)
    assert 0 < take.coverage.mean < 0.5
    assert take.coverage.worst_frame == COUNT - 1
    generate_take(tmp_path / "shot", shot, take, sideways, conditioning)
    result = read_video(tmp_path / "shot/takes/side/result.mkv").frames
    mask = conditioning.mask
    np.testing.assert_array_equal(result[mask], conditioning.color[mask])
    assert result[~mask].mean() > 20, "a hole was left black"


def test_an_artists_paint_in_the_mask_is_respected(plate, options, sideways, tmp_path):
    folder = tmp_path / "shot"
    shot = reconstruct(plate, options)
    write_shot(folder, shot)
    render_take(folder, shot, "side", sideways)
    grey = np.full((COUNT, HEIGHT, WIDTH, 3), 99, np.uint8)
    write_video(folder / "takes/side/color.mkv", grey, shot.fps, "ffv1")
    write_video(folder / "takes/side/mask.mkv", np.full((COUNT, HEIGHT, WIDTH), 255, np.uint8), shot.fps, "ffv1")
    take, cameras, conditioning = read_rendered_take(folder, shot, "side")
    generate_take(folder, shot, take, cameras, conditioning)
    assert (read_video(folder / "takes/side/result.mkv").frames == 99).all()


def test_the_lens_is_what_the_options_say(plate, options):
    assert reconstruct(plate, options).intrinsics[0, 0] == FOCAL_PX
    by_lens = ReconstructOptions(depth="preview", lens_mm=50, sensor_width_mm=25)
    assert reconstruct(plate, by_lens).intrinsics[0, 0] == focal_px_from_lens(50, 25, WIDTH) == 128


def test_a_guessed_lens_is_said(plate):
    assert any("lens is unknown" in notice for notice in reconstruct(plate, ReconstructOptions()).notices)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"lens_mm": 35}, "needs its sensor"),
        ({"focal_px": 500, "lens_mm": 35, "sensor_width_mm": 36}, "not both"),
        ({"focal_px": 0}, "positive"),
        ({"focal_px": float("nan")}, "positive"),
    ],
)
def test_a_contradictory_lens_is_refused(plate, settings, fault):
    with pytest.raises(InputError, match=fault):
        reconstruct(plate, ReconstructOptions(**settings))


def test_the_reference_convention_squeezes_the_plate_as_the_release_does(plate):
    shot = reconstruct(plate, ReconstructOptions(convention="reference"))
    assert shot.frames.shape[1:3] == (64, 64)
    assert shot.intrinsics[0, 0] == 500
    assert any("64x64" in notice for notice in shot.notices)


def test_a_job_makes_the_files_that_its_kind_promises(plate, sideways, tmp_path):
    inputs = {"plate": plate, "depth": plate.with_name("depth.npz")}
    params = {"depth": "file", "focal_px": FOCAL_PX, "plate_path": "/footage/plate.mkv"}
    (tmp_path / "a").mkdir()
    made = run_job("reconstruct", params, inputs, tmp_path / "a", silent)
    assert set(made) == {"shot.json", "plate.mkv", "depth.npz", "display.npz"}
    assert json.loads(made["shot.json"].read_text(encoding="utf-8"))["plate"]["path"] == "/footage/plate.mkv"
    with np.load(made["display.npz"], allow_pickle=False) as display:
        assert display["depth"].shape == (COUNT, HEIGHT + 4, WIDTH + 4)
    write_camera_path(tmp_path / "camera.npz", sideways)
    inputs = {role: made[role] for role in ("shot.json", "plate.mkv", "depth.npz")}
    inputs["camera.npz"] = tmp_path / "camera.npz"
    (tmp_path / "c").mkdir()
    rendered = run_job("render", {"name": "one"}, inputs, tmp_path / "c", silent)
    assert set(rendered) == {"take.json", "camera.npz", "color.mkv", "mask.mkv"}
    assert "of the picture" in json.loads(rendered["take.json"].read_text(encoding="utf-8"))["verdict"]
    (tmp_path / "b").mkdir()
    taken = run_job("take", {"name": "one", "seed": 3}, inputs, tmp_path / "b", silent)
    assert set(taken) == {"take.json", "camera.npz", "color.mkv", "mask.mkv", "result.mkv", "result.mp4"}
    record = json.loads(taken["take.json"].read_text(encoding="utf-8"))
    assert (record["name"], record["engine"], record["seed"]) == ("one", "preview", 3)
    np.testing.assert_array_equal(read_camera_path(taken["camera.npz"]).world_to_camera, sideways.world_to_camera)


def test_a_job_reads_the_depth_with_its_side_file(plate, tmp_path):
    with np.load(plate.with_name("depth.npz")) as file:
        inverse = np.round(65535 * 0.5 / file["depth"]).astype(np.uint16)  # scale 2: 1 / z = value / 65535 * 2
    write_video(tmp_path / "depth.mkv", inverse, Fraction(24), "ffv1")
    (tmp_path / "notes.json").write_text('{"kind": "inverse", "scale": 2.0}', encoding="utf-8")
    inputs = {"plate": plate, "depth": tmp_path / "depth.mkv", "depth.json": tmp_path / "notes.json"}
    (tmp_path / "work").mkdir()
    made = run_job("reconstruct", {"depth": "file", "focal_px": FOCAL_PX}, inputs, tmp_path / "work", silent)
    with np.load(made["depth.npz"], allow_pickle=False) as file:
        assert set(np.round(np.unique(file["depth"]), 3)) == {4.0, 8.0}


@pytest.mark.parametrize(
    ("kind", "params", "fault"),
    [
        ("paint", {}, "kind is one of"),
        ("reconstruct", {"colour": 1}, "Unknown parameters: colour"),
        ("reconstruct", {"depth": "magic"}, "depth must be one of"),
        ("reconstruct", {"focal_px": "500"}, "focal_px must be a number"),
        ("reconstruct", {"depth_options": {"near": 2}}, "depth_options must be texts by name"),
        ("reconstruct", {"depth_options": "near=2"}, "depth_options must be texts by name"),
        ("reconstruct", {"accept_licence": 1}, "accept_licence must be true or false"),
        ("reconstruct", {"frame_start": 1.5}, "frame_start must be a whole number"),
        ("reconstruct", {"frame_start": True}, "frame_start must be a whole number"),
        ("reconstruct", {"depth_options": {"weights": "/etc"}}, "may not say where"),
        ("take", {}, "lacks the input files"),
        ("take", {"engine": "magic"}, "engine must be one of"),
        ("take", {"quality": "best"}, "quality must be one of reference, lossless"),
        ("take", {"seed": -1}, "seed must be a whole number from 0"),
        ("take", {"steps": 0}, "steps must be a whole number from 1"),
        ("take", {"steps": 2.5}, "steps must be a whole number"),
        ("take", {"prompt": 7}, "prompt must be text"),
        ("take", {"negative_prompt": "x" * 8001}, "negative_prompt may have 8000 letters"),
        ("take", {"erosion_px": 65}, "erosion_px must be a whole number from 0 to 64"),
        ("take", {"loras": "film"}, "loras must be a list of texts"),
        ("take", {"loras": ["../film"]}, "NAME or NAME:STRENGTH"),
        ("take", {"loras": ["film:strong"]}, "NAME or NAME:STRENGTH"),
        ("take", {"loras": ["film:1e999"]}, "NAME or NAME:STRENGTH"),
        ("take", {"loras": ["film", "film:0.5"]}, "named twice"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(plate, tmp_path, kind, params, fault):
    with pytest.raises(InputError, match=fault):
        run_job(kind, params, {"plate": plate}, tmp_path, silent)


def test_a_cancelled_job_stops_at_once_and_leaves_no_result(plate, tmp_path):
    def cancel(report):
        if report.stage == "Building the mesh":
            raise Cancelled("The user stopped the work.")

    with pytest.raises(Cancelled):
        run_job("reconstruct", {}, {"plate": plate}, tmp_path, cancel)
    assert not (tmp_path / "shot" / "display.npz").exists()


def test_the_command_line_does_a_take_in_steps_and_in_one_go_alike(plate, tmp_path, capsys):
    plate_options = [str(plate), "--depth-file", str(plate.with_name("depth.npz")), "--focal-px", "60"]
    one, steps = str(tmp_path / "one"), str(tmp_path / "steps")
    move = ["--move", "orbit:angle=10"]
    assert main(["take", *plate_options, "--out", one, *move, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["engine"] == "preview"
    assert main(["reconstruct", *plate_options, "--out", steps, "--save-mesh"]) == 0
    assert main(["render", steps, *move]) == 0
    assert main(["generate", steps]) == 0
    results = [read_video(tmp_path / name / "takes/take1/result.mkv").frames for name in ("one", "steps")]
    np.testing.assert_array_equal(*results)
    assert (tmp_path / "steps" / "mesh.ply").stat().st_size > 10_000
    assert len(read_shot(tmp_path / "steps").frames) == COUNT


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (["reconstruct", "missing.mov", "--out", "shot"], 2, "missing.mov"),
        (["render", "nowhere", "--move", "dolly"], 2, "nowhere"),
        (["generate", "nowhere"], 2, "nowhere"),
        (["demo", "--clip", "missing.mov"], 2, "missing.mov"),
    ],
)
def test_a_failing_command_says_one_sentence_and_exits_with_its_code(capsys, arguments, code, fault):
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("ex4d: ")
    assert fault in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["take", "plate.mkv", "--out", "shot", "--move", "dolly"], ["generate", "shot"]])
def test_an_engine_that_cannot_run_here_is_refused_before_any_work(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.setattr(availability, "PACKAGES", ("no_such_package",))
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--engine", "wan"]) == 3
    assert "no_such_package" in capsys.readouterr().err
    assert main([*arguments, "--engine", "wan", "--lora", "../film"]) == 2
    assert list(tmp_path.glob("shot*")) == []


@pytest.mark.parametrize("arguments", [["take", "a", "--out", "b", "--move", "dolly", "--frames", "9:3"], ["paint"]])
def test_a_mistyped_command_is_answered_with_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_command_has_help_with_an_example(capsys):
    for command in ("demo", "reconstruct", "render", "generate", "take", "doctor"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert f"example:\n  ex4d {command}" in capsys.readouterr().out


def test_the_doctor_finds_what_a_take_needs_here(capsys):
    assert main(["doctor", "--json"]) == 0
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["server encryption"]["ok"]
    assert all(finding["ok"] or finding["cure"] for finding in findings.values())


def test_the_command_lines_choices_are_the_librarys():
    help_of = {action.dest: action for action in _engine_parser()._actions}
    assert tuple(help_of["quality"].choices) == tuple(MODES)
    assert set(help_of["engine"].choices) == {"auto", *ENGINES}


def _engine_parser():
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    return parser


def test_painting_a_take_again_replaces_what_was_said_of_the_first_time(plate, options, sideways, tmp_path):
    folder = tmp_path / "shot"
    shot = reconstruct(plate, options)
    write_shot(folder, shot)
    rendered = render_take(folder, shot, "side", sideways)
    take = generate_take(folder, shot, rendered[0], sideways, rendered[1])
    again = generate_take(folder, shot, *read_rendered_take(folder, shot, "side"), GenerateOptions(seed=4))
    assert read_take(folder, "side") == again
    assert again == dataclasses.replace(take, seed=4)
    assert again.all_notices == rendered[0].notices + again.painting_notices


def test_a_take_of_an_older_version_is_read(plate, options, sideways, tmp_path):
    folder = tmp_path / "shot"
    shot = reconstruct(plate, options)
    write_shot(folder, shot)
    take = generate_take(folder, shot, *_rendered(folder, shot, sideways))
    path = folder / "takes/side/take.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["settings"], record["painting_notices"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert read_take(folder, "side") == take


def _rendered(folder, shot, cameras):
    take, conditioning = render_take(folder, shot, "side", cameras)
    return take, cameras, conditioning


def test_a_take_over_more_frames_than_the_shot_has_is_refused(plate, options, sideways, tmp_path):
    shot = reconstruct(plate, options)
    late = CameraPath(sideways.world_to_camera, sideways.intrinsics, WIDTH, HEIGHT, np.arange(COUNT) + 1)
    with pytest.raises(CameraError, match="frame 3"):
        render_take(tmp_path, shot, "late", late)


def test_depth_of_another_size_is_refused_with_both_sizes(plate, tmp_path):
    np.savez(tmp_path / "small.npz", depth=np.ones((COUNT, 10, 20), np.float32))
    with pytest.raises(DepthError, match=r"20 x 10 .* 64 x 48"):
        reconstruct(plate, ReconstructOptions(depth="file", depth_file=tmp_path / "small.npz"))


def test_a_text_file_is_no_plate(tmp_path):
    (tmp_path / "notes.mov").write_text("shot list")
    with pytest.raises(VideoError, match=r"notes\.mov"):
        reconstruct(tmp_path / "notes.mov", ReconstructOptions())
