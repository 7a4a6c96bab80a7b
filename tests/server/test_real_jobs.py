# SPDX-License-Identifier: Apache-2.0
"""The product's own jobs through real processes: a clip in, a re-shot clip out, and errors in the artist's words."""

from fractions import Fraction

import numpy as np
import pytest
from test_background_client import Artist

from ex4d.camera import CameraPath, write_camera_path
from ex4d.evaluation.record import read_evaluation
from ex4d.video import probe_video, write_video
from shared_protocol.background import BackgroundClient
from shared_protocol.events import JobDone

FRAMES, HEIGHT, WIDTH = 4, 48, 64


@pytest.fixture
def artist(server):
    server.start("--job-runner", "ex4d.jobs:run_job")
    client = BackgroundClient()
    yield Artist(client)
    client.close()


def test_a_clip_becomes_a_shot_and_a_take(artist, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    write_video(tmp_path / "plate.mp4", frames, Fraction(24), "h264")
    shot, take = tmp_path / "shot", tmp_path / "shot" / "takes" / "one"
    inputs = {"plate": tmp_path / "plate.mp4"}
    done = artist.wait_end(artist.client.run_job("reconstruct", {"depth": "preview"}, inputs, shot))
    assert isinstance(done, JobDone), done
    assert sorted(done.files) == ["depth.npz", "display.npz", "plate.mkv", "shot.json"]

    world_to_camera = np.tile(np.eye(4), (FRAMES, 1, 1))
    world_to_camera[:, 0, 3] = np.linspace(0, 0.05, FRAMES)
    intrinsics = np.tile([[60, 0, WIDTH / 2], [0, 60, HEIGHT / 2], [0, 0, 1.0]], (FRAMES, 1, 1))
    cameras = CameraPath(world_to_camera, intrinsics, WIDTH, HEIGHT, np.arange(FRAMES, dtype=float))
    write_camera_path(tmp_path / "camera.npz", cameras)
    inputs = {name: shot / name for name in ("shot.json", "plate.mkv", "depth.npz")}
    inputs["camera.npz"] = tmp_path / "camera.npz"
    done = artist.wait_end(artist.client.run_job("take", {"name": "one"}, inputs, take))
    assert isinstance(done, JobDone), done
    assert probe_video(take / "result.mp4").frame_count == FRAMES

    inputs = {name: shot / name for name in ("shot.json", "plate.mkv", "depth.npz")}
    inputs |= {name: take / name for name in ("take.json", "camera.npz", "color.mkv", "mask.mkv")}
    again = tmp_path / "again"
    done = artist.wait_end(artist.client.run_job("generate", {"name": "one", "seed": 5}, inputs, again))
    assert isinstance(done, JobDone), done
    assert sorted(done.files) == ["result.mkv", "result.mp4", "take.json"]

    inputs["result.mkv"] = take / "result.mkv"
    done = artist.wait_end(artist.client.run_job("evaluate", {"name": "one"}, inputs, take))
    assert isinstance(done, JobDone), done
    assert read_evaluation(take / "evaluation.json").frame_count == FRAMES
    assert (take / "evaluation.html").is_file()


def test_a_file_that_is_no_video_is_named_as_the_artist_knows_it(artist, tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"this is no video")
    failed = artist.wait_end(artist.client.run_job("reconstruct", {}, {"plate": tmp_path / "holiday.mp4"}, tmp_path))
    assert failed.code == "bad_video"
    assert "holiday.mp4" in failed.title
    assert "work" not in failed.title
