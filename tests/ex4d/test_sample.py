# SPDX-License-Identifier: Apache-2.0
"""The sample plate is what it claims: its depth and both its cameras agree with its pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ex4d.camera import Array, CameraPath, project, read_camera_path, unproject_depth
from ex4d.depth.file_formats import read_depth_file
from ex4d.video import Clip, read_video

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"
SIZE_LIMIT_BYTES = 8_000_000
DOME_RADIUS_M = 86.0  # examples/sample_scene/sky.py: a ball around the point on the ground below the source camera
TRUTH_FRAMES = range(0, 49, 6)
OCCLUSION_TOLERANCE = 0.01  # of the depth: what lies further behind is hidden


@pytest.fixture(scope="module")
def plate() -> Clip:
    return read_video(SAMPLE / "plate.mp4")


@pytest.fixture(scope="module")
def depth() -> Array:
    return read_z(SAMPLE / "depth.mkv", 49)


@pytest.fixture(scope="module")
def truth_depth() -> Array:
    return read_z(SAMPLE / "truth_depth.mkv", len(TRUTH_FRAMES))


@pytest.fixture(scope="module")
def source() -> dict[str, object]:
    return json.loads((SAMPLE / "camera.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def second() -> CameraPath:
    return read_camera_path(SAMPLE / "second_camera.npz")


def read_z(path: Path, count: int) -> Array:
    stored = read_depth_file(path, "z", 0, count)
    assert stored.kind == "inverse"
    return 1 / stored.values.astype(np.float64)


def read_truth(frame: int) -> Array:
    return cv2.imread(str(SAMPLE / "truth" / f"{frame:04d}.jpg"))[..., ::-1]


def test_the_sample_is_small_enough_to_live_in_the_repository() -> None:
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) < SIZE_LIMIT_BYTES


def test_plate_depth_and_cameras_have_the_same_frames_and_size(plate, depth, truth_depth, source, second) -> None:
    assert plate.frames.shape == (49, 512, 512, 3)
    assert plate.fps == source["fps"] == 24
    assert depth.shape == plate.frames.shape[:3]
    assert truth_depth.shape == (len(TRUTH_FRAMES), 512, 512)
    assert (source["width"], source["height"], source["frame_count"]) == (second.width, second.height, len(second))
    assert source["truth_frames"] == list(TRUTH_FRAMES)
    np.testing.assert_array_equal(second.source_frame, np.arange(49))
    np.testing.assert_array_equal(second.intrinsics, np.repeat([source["intrinsics"]], 49, axis=0))


def test_the_second_camera_starts_at_the_source_and_goes_round_the_train(second) -> None:
    np.testing.assert_allclose(second.world_to_camera[0], np.eye(4), atol=1e-12)
    turned = np.degrees(np.arccos((np.trace(second.world_to_camera[-1][:3, :3]) - 1) / 2))
    assert 15 < turned < 30


def test_every_pixel_has_a_depth_between_2_and_90_metres(depth, truth_depth) -> None:
    assert depth.min() > 2
    assert truth_depth.min() > 2
    assert max(depth.max(), truth_depth.max()) < 90


def test_the_sky_lies_on_its_dome(depth, source) -> None:
    points = unproject_depth(depth[0], np.array(source["intrinsics"]), "exact")
    radius = np.linalg.norm(points - [0, source["eye_height_m"], 0], axis=-1)
    sky = radius[:60]  # rows above everything but clouds
    sky = sky[sky > 0.98 * DOME_RADIUS_M]
    assert sky.size > 10_000
    # One step of the stored inverse depth is 0.1 m out there; the ball's flat faces lie up to 0.03 m inside it.
    np.testing.assert_allclose(sky, DOME_RADIUS_M, atol=0.15)


@pytest.mark.parametrize("frame", [0, 24, 48])
def test_the_plate_carried_over_by_its_depth_is_what_the_second_camera_sees(
    frame, plate, depth, truth_depth, source, second
) -> None:
    points = unproject_depth(depth[frame], np.array(source["intrinsics"]), "exact")
    there, error = carried_over(plate.frames[frame], points, frame, truth_depth, second)
    assert there > 0.4
    assert np.median(error) < 4  # measured 2.0, 2.7 and 3.3 of 255; 2.0 is what the two encoders lose
    assert np.percentile(error, 90) < 16  # measured 5.7, 10.3, 14.7: thin things, shine
    for shift in ([0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]):
        _, shifted = carried_over(plate.frames[frame], points, frame, truth_depth, second, np.array(shift))
        assert shifted.mean() > error.mean(), f"half a pixel off by {shift} fits better"


def carried_over(
    colour: Array, points: Array, frame: int, truth_depth: Array, second: CameraPath, shift_px: Array | float = 0.0
) -> tuple[float, Array]:
    """Project every plate pixel into the second camera and compare.

    Args:
        colour: the plate's frame. uint8 [H, W, 3]
        points: of the frame's pixels, source camera's frame, metres. [H, W, 3]
        frame: which one.
        truth_depth: of the second camera's pictures. [9, H, W]
        second: the second camera.
        shift_px: added to where the points land, to see what an error would do.

    Returns:
        The part of the pixels that the second camera sees too; their colour difference, mean of RGB, 0..255. [M]
    """
    pose = second.world_to_camera[frame]
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = (project(moved, second.intrinsics[frame]) + shift_px - 0.5).astype(np.float32)  # cv2 counts from centres
    depth_there = truth_depth[TRUTH_FRAMES.index(frame)].astype(np.float32)
    nearest = cv2.remap(depth_there, pixels, None, cv2.INTER_LINEAR, borderValue=-1)
    seen = np.abs(nearest - moved[..., 2]) < OCCLUSION_TOLERANCE * moved[..., 2]
    colour_there = cv2.remap(read_truth(frame), pixels, None, cv2.INTER_LINEAR)
    return float(seen.mean()), np.abs(colour_there[seen].astype(float) - colour[seen]).mean(axis=-1)
