# SPDX-License-Identifier: Apache-2.0
"""Passes beside a take's result: the depth of the new view and a clean plate."""

import json
import zipfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
import OpenEXR
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics, write_camera_path
from ex4d.cli import main
from ex4d.depth.file_pictures import BEYOND
from ex4d.jobs import run_job
from ex4d.passes import NO_CLEAN_PLATE, Passes, clean_plate_along, write_passes
from ex4d.shot import read_shot, write_shot
from ex4d.take import ReconstructOptions, reconstruct, render_take
from ex4d.takes import read_take
from ex4d.video import read_video, write_video

COUNT, HEIGHT, WIDTH, FOCAL_PX = 8, 48, 64, 60.0
WALL, BLOCK = 8.0, 4.0


@pytest.fixture
def wall():
    """uint8 [H, W, 3]"""
    return np.repeat(np.random.default_rng(0).integers(60, 120, (1, WIDTH, 3), dtype=np.uint8), HEIGHT, axis=0)


@pytest.fixture
def shot(tmp_path, wall):
    """A block that crosses a wall from left to right, so that all of the wall is seen at some time."""
    frames, depth = np.stack([wall] * COUNT), np.full((COUNT, HEIGHT, WIDTH), WALL, np.float32)
    for n in range(COUNT):
        frames[n, 15:35, 2 + 6 * n : 14 + 6 * n] = (250, 200, 40)
        depth[n, 15:35, 2 + 6 * n : 14 + 6 * n] = BLOCK
    write_video(tmp_path / "filmed.mkv", frames, Fraction(24), "ffv1")
    np.savez(tmp_path / "true.npz", depth=depth)
    options = ReconstructOptions(depth="file", depth_file=tmp_path / "true.npz", focal_px=FOCAL_PX)
    shot = reconstruct(tmp_path / "filmed.mkv", options)
    write_shot(tmp_path, shot)
    return shot


def moved(x, count=COUNT):
    """Cameras that stand x to the right of the plate's."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = -x
    intrinsics = np.tile(pinhole_intrinsics(FOCAL_PX, WIDTH, HEIGHT), (count, 1, 1))
    return CameraPath(poses, intrinsics, WIDTH, HEIGHT, np.arange(count, dtype=float))


def channels(path):
    return {name: channel.pixels for name, channel in OpenEXR.File(str(path)).channels().items()}


def test_the_depth_is_that_of_the_new_view_in_shot_units(shot, tmp_path):
    cameras = moved(0.5)
    take, drawn = render_take(tmp_path, shot, "side", cameras)
    write_passes(tmp_path, shot, take, cameras, drawn, Passes(depth=True))
    folder = tmp_path / "takes" / "side" / "depth"
    assert [file.name for file in sorted(folder.glob("*.exr"))] == [f"depth.{n:04d}.exr" for n in range(1, COUNT + 1)]
    found = channels(folder / "depth.0001.exr")
    assert set(found) == {"Y", "Z"}, "Blender reads Y, Nuke and Fusion read Z"
    np.testing.assert_array_equal(found["Y"], found["Z"])
    assert found["Z"].dtype == np.float32
    seen = drawn.mask[0]
    np.testing.assert_allclose(found["Z"][seen], drawn.depth[0][seen])
    assert {round(float(z), 1) for z in np.unique(found["Z"][seen])} >= {BLOCK, WALL}
    assert (found["Z"][~np.isfinite(drawn.depth[0])] == BEYOND).all()
    told = json.loads((folder / "depth.json").read_text())
    assert told["nearest"] == pytest.approx(BLOCK, rel=0.01)
    assert told["unit"] == "shot"


def test_the_depth_can_be_read_back_as_a_depth_source(shot, tmp_path):
    still = moved(0.0)
    take, drawn = render_take(tmp_path, shot, "still", still)
    write_passes(tmp_path, shot, take, still, drawn, Passes(depth=True))
    file = tmp_path / "takes/still/depth/depth.0001.exr"
    options = ReconstructOptions(depth="file", depth_file=file, focal_px=FOCAL_PX)
    np.testing.assert_allclose(reconstruct(tmp_path / "filmed.mkv", options).depth, shot.depth, rtol=1e-3)


def test_the_clean_plate_has_no_foreground_and_nothing_that_was_never_filmed(shot, wall):
    color, mask = clean_plate_along(shot, moved(0.0))
    assert mask.all()
    difference = np.abs(color.astype(int) - wall).max(axis=(0, 3))
    assert np.median(difference) == 0
    assert (difference < 10).mean() > 0.95, "the block is gone"
    color, mask = clean_plate_along(shot, moved(2.0))
    never_seen = ~mask
    assert 0.1 < never_seen.mean() < 0.5, "beyond the plate's edge"
    assert (color[never_seen] == 0).all()


def test_a_plate_whose_camera_moves_has_no_clean_plate_and_says_so(shot, tmp_path):
    moving = replace(shot, source_camera_to_world=np.tile(np.eye(4), (COUNT, 1, 1)))
    cameras = moved(0.2)
    take, drawn = render_take(tmp_path, moving, "side", cameras)
    write_passes(tmp_path, moving, take, cameras, drawn, Passes(clean_plate=True))
    assert NO_CLEAN_PLATE in read_take(tmp_path, "side").notices
    assert not (tmp_path / "takes/side/clean.mkv").exists()


def test_a_job_brings_the_passes_that_were_asked_for(shot, tmp_path):
    inputs = {"plate": tmp_path / "filmed.mkv", "depth": tmp_path / "true.npz"}
    made = tmp_path / "made"
    made.mkdir()
    files = run_job("reconstruct", {"depth": "file", "focal_px": FOCAL_PX}, inputs, made, lambda report: None)
    write_camera_path(tmp_path / "camera.npz", moved(0.3))
    inputs = {role: files[role] for role in ("shot.json", "plate.mkv", "depth.npz")}
    inputs["camera.npz"] = tmp_path / "camera.npz"
    for params, wanted in (
        ({}, set()),
        ({"depth_pass": True, "clean_plate": True}, {"depth.zip", "clean.mkv", "clean_mask.mkv"}),
    ):
        folder = tmp_path / f"work{len(params)}"
        folder.mkdir()
        files = run_job("take", {"engine": "preview", **params}, inputs, folder, lambda report: None)
        assert set(files) & {"depth.zip", "clean.mkv", "clean_mask.mkv"} == wanted
    assert len(read_video(files["clean.mkv"]).frames) == COUNT
    with zipfile.ZipFile(files["depth.zip"]) as archive:
        assert "depth/depth.0008.exr" in archive.namelist()
        assert "depth/depth.json" in archive.namelist()


def test_a_take_that_is_rendered_again_loses_the_passes_of_the_older_one(shot, tmp_path):
    cameras = moved(0.3)
    take, drawn = render_take(tmp_path, shot, "side", cameras)
    write_passes(tmp_path, shot, take, cameras, drawn, Passes(depth=True, clean_plate=True))
    folder = tmp_path / "takes" / "side"
    assert (folder / "clean_mask.mkv").exists()
    render_take(tmp_path, shot, "side", moved(0.1))
    assert not (folder / "clean.mkv").exists()
    assert list((folder / "depth").iterdir()) == []


def test_the_command_line_writes_them_too(shot, tmp_path, capsys):
    plate = ["reconstruct", str(tmp_path / "filmed.mkv"), "--out", str(tmp_path / "shot"), "--focal-px", str(FOCAL_PX)]
    assert main([*plate, "--depth", "file", "--depth-file", str(tmp_path / "true.npz")]) == 0
    write_camera_path(tmp_path / "camera.npz", moved(0.3))
    camera = ["render", str(tmp_path / "shot"), "--camera", str(tmp_path / "camera.npz"), "--take", "side"]
    assert main([*camera, "--depth-pass", "--clean-plate"]) == 0
    folder = tmp_path / "shot" / "takes" / "side"
    assert len(list((folder / "depth").glob("*.exr"))) == COUNT == len(read_shot(tmp_path / "shot").frames)
    assert (folder / "clean.mkv").exists()
