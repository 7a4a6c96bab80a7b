# SPDX-License-Identifier: Apache-2.0
"""A plate whose camera moves stands still in the world; and where a plate's lens comes from."""

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics, read_camera_path, write_camera_path
from ex4d.cli import main
from ex4d.errors import CameraError, InputError, ShotError
from ex4d.generation import GenerateOptions, engine
from ex4d.jobs import run_job
from ex4d.lens import noted_focal_px
from ex4d.raster import rasteriser
from ex4d.shot import read_shot, write_shot
from ex4d.source_camera import from_first_frame, read_source_cameras, seen_from_the_plate
from ex4d.take import ReconstructOptions, condition, reconstruct
from ex4d.video import read_video, write_video

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"
COUNT, HEIGHT, WIDTH = 5, 48, 64
FOCAL_PX = 60.0
WALL_Z = 6.0


def wall_colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth pattern painted on a wall at z = WALL_Z of the world. RGB uint8 [..., 3]"""
    waves = [np.sin(1.3 * x + 0.4), np.cos(1.7 * y), np.sin(x + y)]
    return np.stack([127 + 110 * wave for wave in waves], axis=-1).astype(np.uint8)


def poses() -> np.ndarray:
    """A hand-held camera: it walks to the right, forward, and turns. camera_to_world [T, 4, 4]"""
    moves = np.tile(np.eye(4), (COUNT, 1, 1))
    for n, turn in enumerate(np.linspace(0, 0.15, COUNT)):
        moves[n, :3, :3] = [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
        moves[n, :3, 3] = [0.25 * n - 0.3, 0.05 * n, 0.1 * n]
    return moves


@pytest.fixture
def plate(tmp_path):
    """The wall as that camera films it, its true z, and the camera's file."""
    x, y = np.meshgrid(
        (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL_PX, (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL_PX
    )
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    frames, depth = [], []
    for pose in poses():
        directions = rays @ pose[:3, :3].T
        distance = (WALL_Z - pose[2, 3]) / directions[..., 2]  # z-depth: the ray's own z is 1
        points = pose[:3, 3] + directions * distance[..., None]
        frames.append(wall_colour(points[..., 0], points[..., 1]))
        depth.append(distance)
    write_video(tmp_path / "plate.mkv", np.stack(frames), Fraction(24), "ffv1")
    np.savez(tmp_path / "depth.npz", depth=np.stack(depth).astype(np.float32))
    write_camera_path(tmp_path / "solved.npz", camera_path(np.linalg.inv(poses())))
    return tmp_path / "plate.mkv"


def camera_path(world_to_camera: np.ndarray, focal_px: float = FOCAL_PX) -> CameraPath:
    count = len(world_to_camera)
    intrinsics = np.tile(pinhole_intrinsics(focal_px, WIDTH, HEIGHT), (count, 1, 1))
    return CameraPath(world_to_camera, intrinsics, WIDTH, HEIGHT, np.arange(count))


def options(plate, **changes) -> ReconstructOptions:
    given = {"depth_file": plate.with_name("depth.npz"), "source_camera": plate.with_name("solved.npz")}
    return ReconstructOptions(**{**given, **changes})


def test_a_static_world_filmed_by_a_moving_camera_stands_still_from_a_fixed_one(plate, tmp_path):
    shot = reconstruct(plate, options(plate))
    write_shot(tmp_path / "shot", shot)
    shot = read_shot(tmp_path / "shot")
    np.testing.assert_array_equal(shot.source_camera_to_world, np.linalg.inv(np.linalg.inv(poses())))
    fixed = np.tile(np.eye(4), (COUNT, 1, 1))
    fixed[:, 2, 3] = 0.5  # half a unit back from the world's origin
    cameras = camera_path(fixed)
    result = condition(shot, cameras, rasteriser("cpu"))
    x, y = np.meshgrid(
        (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL_PX, (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL_PX
    )
    truth = wall_colour(x * (WALL_Z + 0.5), y * (WALL_Z + 0.5)).astype(float)
    for n in range(COUNT):
        error = np.abs(result.color[n] - truth)[result.mask[n]]
        assert result.mask[n].mean() > 0.4
        assert error.mean() < 2, f"frame {n} is off by {error.mean():.1f} grey levels"
        np.testing.assert_allclose(result.depth[n][result.mask[n]], WALL_Z + 0.5, rtol=1e-3)
    ignored = condition(
        reconstruct(plate, options(plate, source_camera=None, focal_px=FOCAL_PX)), cameras, rasteriser("cpu")
    )
    assert np.abs(ignored.color[-1] - truth)[ignored.mask[-1]].mean() > 20, "the plate does not move: the test is blind"
    painted = engine("preview").generate(shot, cameras, result, GenerateOptions()).frames
    np.testing.assert_array_equal(painted[result.mask], result.color[result.mask])


def test_the_samples_second_camera_films_what_the_first_one_saw(tmp_path):
    """A moving camera's true pictures, drawn from the still first camera, against what that one filmed."""
    moments = np.arange(0, 49, 6)
    pictures = [cv2.imread(str(SAMPLE / "truth" / f"{moment:04}.jpg")) for moment in moments]
    write_video(tmp_path / "plate.mkv", np.stack([picture[..., ::-1] for picture in pictures]), Fraction(24), "ffv1")
    path = read_camera_path(SAMPLE / "second_camera.npz")
    poses, lenses = path.world_to_camera[moments], path.intrinsics[moments]
    side = path.width
    write_camera_path(tmp_path / "solved.npz", CameraPath(poses, lenses, side, side, np.arange(len(moments))))
    truth_depth = SAMPLE / "truth_depth.mkv"
    given = ReconstructOptions(depth_file=truth_depth, source_camera=tmp_path / "solved.npz")
    shot = reconstruct(tmp_path / "plate.mkv", given)
    chosen = np.array([0, 4, 8])
    still = CameraPath(np.tile(np.eye(4), (3, 1, 1)), lenses[chosen], side, side, chosen)
    result = condition(shot, still, rasteriser("cpu"))
    filmed = read_video(SAMPLE / "plate.mp4").frames[moments[chosen]].astype(int)
    error = np.abs(result.color - filmed).mean(axis=-1)
    assert [result.mask[n].mean() > least for n, least in enumerate((0.99, 0.5, 0.35))] == [True] * 3
    assert all(np.median(error[n][result.mask[n]]) < 4 for n in range(3))
    ignored = condition(dataclasses.replace(shot, source_camera_to_world=None), still, rasteriser("cpu"))
    assert np.abs(ignored.color[2] - filmed[2])[ignored.mask[2]].mean() > 30


def test_seen_from_its_own_camera_every_frame_is_the_plate(plate):
    shot = reconstruct(plate, options(plate))
    result = condition(shot, camera_path(np.linalg.inv(poses())), rasteriser("cpu"))
    assert result.mask.all()
    np.testing.assert_allclose(result.color.astype(int), shot.frames, atol=1)


def test_a_move_starts_at_the_first_frames_camera(plate):
    still = camera_path(np.tile(np.eye(4), (COUNT, 1, 1)))
    moved = seen_from_the_plate(from_first_frame(still, poses()), poses())
    np.testing.assert_allclose(moved.world_to_camera[0], np.eye(4), atol=1e-12)
    assert from_first_frame(still, None) is still
    assert seen_from_the_plate(still, None) is still


def test_the_source_camera_brings_the_lens_at_any_size_of_the_same_shape(plate, tmp_path):
    shot = reconstruct(plate, options(plate))
    np.testing.assert_allclose(shot.intrinsics, pinhole_intrinsics(FOCAL_PX, WIDTH, HEIGHT))
    assert any("lens comes from the source camera" in notice for notice in shot.notices)
    big = camera_path(np.linalg.inv(poses()))
    big = CameraPath(big.world_to_camera, np.diag([3, 3, 1]) @ big.intrinsics, 3 * WIDTH, 3 * HEIGHT, big.source_frame)
    write_camera_path(tmp_path / "big.npz", big)
    cameras = read_source_cameras(tmp_path / "big.npz", 1, 3, WIDTH, HEIGHT)  # frames 1 to 3 of the whole plate
    np.testing.assert_allclose(cameras.intrinsics, pinhole_intrinsics(FOCAL_PX, WIDTH, HEIGHT))
    np.testing.assert_allclose(cameras.camera_to_world, poses()[1:4], atol=1e-12)


def test_source_cameras_that_do_not_fit_are_refused(plate, tmp_path):
    file = plate.with_name("solved.npz")
    with pytest.raises(CameraError, match="5 frames, the plate uses frames 3 to 8"):
        read_source_cameras(file, 3, 6, WIDTH, HEIGHT)
    with pytest.raises(CameraError, match="plate's shape"):
        read_source_cameras(file, 0, COUNT, WIDTH, WIDTH)
    zoom = camera_path(np.linalg.inv(poses()))
    zoom.intrinsics[-1, [0, 1], [0, 1]] *= 1.2
    write_camera_path(tmp_path / "zoom.npz", zoom)
    with pytest.raises(CameraError, match=r"zooms from 60\.0 to 72\.0 px"):
        read_source_cameras(tmp_path / "zoom.npz", 0, COUNT, WIDTH, HEIGHT)
    for change in ({"focal_px": 50.0}, {"convention": "reference"}):
        with pytest.raises(InputError, match="brings its own lens"):
            reconstruct(plate, options(plate, **change))


def test_a_depth_of_unknown_unit_before_a_moving_camera_is_told(plate):
    notices = reconstruct(plate, options(plate, depth="preview", depth_file=None)).notices
    assert any("may slide" in notice for notice in notices)


def test_damaged_poses_in_a_shot_are_named(plate, tmp_path):
    write_shot(tmp_path / "shot", reconstruct(plate, options(plate)))
    arrays = dict(np.load(tmp_path / "shot/depth.npz"))
    for broken, message in ((np.eye(4)[None], r"must be float64 \[5, 4, 4\]"), (2 * poses(), "frame 0")):
        np.savez(tmp_path / "shot/depth.npz", **{**arrays, "source_camera_to_world": broken})
        with pytest.raises(ShotError, match=message):
            read_shot(tmp_path / "shot")


def test_job_and_command_line_take_the_source_camera(plate, tmp_path, capsys):
    inputs = {"plate": plate, "depth": plate.with_name("depth.npz"), "source_camera": plate.with_name("solved.npz")}
    files = run_job("reconstruct", {"depth": "file"}, inputs, tmp_path / "job", lambda report: None)
    with np.load(files["display.npz"]) as display:
        np.testing.assert_allclose(display["source_camera_to_world"], poses(), atol=1e-12)
    arguments = [str(plate), "--out", str(tmp_path / "shot"), "--depth-file", str(inputs["depth"])]
    assert main(["reconstruct", *arguments, "--source-camera", str(inputs["source_camera"]), "--json"]) == 0
    assert any("source camera" in notice for notice in json.loads(capsys.readouterr().out)["notices"])
    assert main(["render", str(tmp_path / "shot"), "--move", "orbit:angle=5", "--json"]) == 0
    assert (tmp_path / "shot/takes/take1/color.mkv").is_file()


# ----------------------------------------------------------------------------------------------------------- lens


def write_phone_clip(path, notes: dict[str, str]) -> None:
    """An .mov with QuickTime notes, as phones write them."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        for key, value in notes.items():
            container.metadata[key] = value
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(3):
            picture = np.full((HEIGHT, WIDTH, 3), 60 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


APPLE_KEY = "com.apple.quicktime.camera.focal_length.35mm_equivalent"


@pytest.mark.parametrize("key", [APPLE_KEY, "FocalLengthIn35mmFilm"])
def test_the_lens_that_a_phone_notes_is_used_and_said(tmp_path, key):
    write_phone_clip(tmp_path / "a.mov", {key: "26"})
    truth = 26 * math.hypot(WIDTH, HEIGHT) / math.hypot(36, 24)
    shot = reconstruct(tmp_path / "a.mov", ReconstructOptions(depth="preview"))
    assert shot.intrinsics[0, 0] == pytest.approx(truth)
    assert any("file's own notes: 26 mm" in notice for notice in shot.notices)
    given = reconstruct(tmp_path / "a.mov", ReconstructOptions(depth="preview", focal_px=70))
    assert given.intrinsics[0, 0] == 70
    assert not any("own notes" in notice for notice in given.notices)
    released = reconstruct(tmp_path / "a.mov", ReconstructOptions(depth="preview", convention="reference"))
    assert released.intrinsics[0, 0] == 500


@pytest.mark.parametrize("notes", [{}, {APPLE_KEY: "wide"}, {APPLE_KEY: "0"}, {APPLE_KEY: ""}])
def test_useless_notes_are_no_lens(tmp_path, notes):
    write_phone_clip(tmp_path / "a.mov", notes)
    assert noted_focal_px(tmp_path / "a.mov", WIDTH, HEIGHT) is None
    notices = reconstruct(tmp_path / "a.mov", ReconstructOptions(depth="preview")).notices
    assert any("lens is unknown" in notice for notice in notices)
