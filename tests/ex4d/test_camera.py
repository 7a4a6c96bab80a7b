# SPDX-License-Identifier: Apache-2.0
"""Cameras: projection round trips, the path's file, the release's file, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ex4d.camera import (
    OPENGL_FLIP,
    CameraPath,
    focal_px_from_lens,
    pinhole_intrinsics,
    pixel_grid,
    project,
    read_camera_path,
    unproject_depth,
    write_camera_path,
)
from ex4d.errors import CameraError, ShapeError, StorageError

FOCALS = st.floats(5, 5000)
CENTRES = st.floats(-50, 150)


def path(count=3, **changes):
    poses = np.repeat(np.eye(4)[None], count, axis=0)
    poses[:, 0, 3] = np.arange(count)
    lenses = np.repeat(pinhole_intrinsics(40, 32, 24)[None], count, axis=0)
    fields = {
        "world_to_camera": poses,
        "intrinsics": lenses,
        "width": 32,
        "height": 24,
        "source_frame": np.arange(count),
    }
    return CameraPath(**fields | changes)


@given(fx=FOCALS, fy=FOCALS, cx=CENTRES, cy=CENTRES, convention=st.sampled_from(["exact", "reference"]))
def test_projecting_unprojected_depth_returns_the_pixels(fx, fy, cx, cy, convention):
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    depth = 1 + 4 * np.random.default_rng(0).random((6, 8))
    pixels = project(unproject_depth(depth, intrinsics, convention), intrinsics)
    np.testing.assert_allclose(pixels, np.stack(np.meshgrid(*pixel_grid(8, 6, convention)), axis=-1), atol=1e-9)


def test_pixels_lie_at_their_centres_in_exact_and_half_a_pixel_up_and_left_in_reference():
    assert pixel_grid(3, 2, "exact")[0].tolist() == [0.5, 1.5, 2.5]
    assert pixel_grid(3, 2, "reference")[1].tolist() == [0, 1]


def test_points_behind_the_camera_project_without_a_warning():
    project(np.array([[0.0, 0, 0], [1, 1, -1]]), pinhole_intrinsics(40, 32, 24))


@given(lens_mm=st.floats(4, 800), sensor_mm=st.floats(4, 70), width=st.integers(1, 8192))
def test_a_lens_covers_the_sensor_with_the_picture(lens_mm, sensor_mm, width):
    assert focal_px_from_lens(lens_mm, sensor_mm, width) / width == pytest.approx(lens_mm / sensor_mm)


def test_a_camera_path_survives_its_file(tmp_path):
    written = path(source_frame=[2, 1, 0.5])
    write_camera_path(tmp_path / "camera.npz", written)
    read = read_camera_path(tmp_path / "camera.npz")
    for name in ("world_to_camera", "intrinsics", "source_frame", "width", "height"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert [file.name for file in tmp_path.iterdir()] == ["camera.npz"]


def test_a_camera_file_of_the_release_is_turned_into_opencv(tmp_path):
    poses = path().world_to_camera
    flipped = (OPENGL_FLIP @ poses).astype(np.float32)
    np.savez(tmp_path / "camera_180.npz", extrinsics=flipped, intrinsics=pinhole_intrinsics(500, 576, 320).astype("f4"))
    read = read_camera_path(tmp_path / "camera_180.npz")
    np.testing.assert_array_equal(read.world_to_camera, poses)
    assert (read.width, read.height, read.intrinsics[2, 0, 0], read.source_frame.tolist()) == (576, 320, 500, [0, 1, 2])


def scaled(poses):
    poses[1, :3, :3] *= 2
    return poses


def mirrored(poses):
    poses[1, 0, 0] = -1
    return poses


def broken(array, value, *index):
    array = np.array(array, dtype=np.float64)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("world_to_camera", broken(path().world_to_camera, np.nan, 1, 0, 3), "world_to_camera, frame 1: 1 of 16"),
        ("world_to_camera", scaled(path().world_to_camera), "frame 1 must only rotate and move, but it scales"),
        ("world_to_camera", mirrored(path().world_to_camera), "frame 1 must only rotate and move, but it mirrors"),
        ("world_to_camera", broken(path().world_to_camera, 1, 2, 3, 0), "frame 2: the last row must be 0 0 0 1"),
        ("world_to_camera", np.eye(4), r"world_to_camera must be \['N', 4, 4\], got \[4, 4\]"),
        ("world_to_camera", np.empty((0, 4, 4)), "at least one frame, got 0"),
        ("world_to_camera", [["a"]], "array of numbers"),
        ("world_to_camera", path().world_to_camera + 1j, "world_to_camera must be real numbers, got complex ones"),
        ("intrinsics", path().intrinsics.astype(np.complex64), "intrinsics must be real numbers"),
        ("source_frame", [0, 1 + 2j, 2], "source_frame must be real numbers"),
        ("intrinsics", np.eye(3)[None], "intrinsics has 1 frames, but world_to_camera has 3"),
        ("intrinsics", broken(path().intrinsics, np.inf, 0, 0, 0), "intrinsics, frame 0: 1 of 9"),
        ("intrinsics", broken(path().intrinsics, 0, 2, 1, 1), "intrinsics, frame 2: focal lengths must be above 0"),
        ("intrinsics", broken(path().intrinsics, 0, 1, 2, 2), "intrinsics, frame 1 must be a pinhole"),
        ("source_frame", [0, -1, 2], "source_frame, frame 1: expected a frame number of 0 or more, got -1"),
        ("source_frame", [0, 1, np.nan], "source_frame, frame 2"),
        ("width", 0, "width must be a whole number of pixels from 1"),
        ("height", 24.5, "height must be a whole number"),
    ],
)
def test_a_path_that_is_no_pinhole_path_is_refused_by_field_and_frame(field, value, complaint):
    with pytest.raises(CameraError, match=complaint):
        path(**{field: value})


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"intrinsics": np.eye(3)}, "lacks size, source_frame, world_to_camera; it holds intrinsics"),
        ({"extrinsics": np.eye(4), "intrinsics": np.eye(3)}, r"expected extrinsics \[N, 4, 4\]"),
        ({"extrinsics": np.eye(4)[None] * 1j, "intrinsics": np.eye(3)}, "extrinsics must be real numbers"),
        ({"extrinsics": np.eye(4)[None], "intrinsics": np.eye(3) * 1j}, "intrinsics must be real numbers"),
        ({"extrinsics": np.eye(4)[None], "intrinsics": np.zeros((3, 3))}, "focal lengths must be above 0"),
        (vars(path()) | {"size": np.array([32.5, 24])}, "size must be two whole numbers"),
        ({"world_to_camera": np.array([None])}, "no camera file"),
    ],
)
def test_a_file_with_other_contents_is_refused(tmp_path, arrays, complaint):
    np.savez(tmp_path / "camera.npz", **arrays)
    with pytest.raises(CameraError, match=complaint):
        read_camera_path(tmp_path / "camera.npz")


def test_files_that_are_no_npz_are_refused(tmp_path):
    with pytest.raises(CameraError, match="There is no camera file"):
        read_camera_path(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("not numbers")
    np.save(tmp_path / "array.npy", np.eye(4))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    for name in ("text.npz", "array.npy", "cut.npz", "."):
        with pytest.raises(CameraError, match="no camera file"):
            read_camera_path(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_camera_path(tmp_path / "file" / "camera.npz", path())


def test_arrays_of_the_wrong_shape_are_refused():
    intrinsics = pinhole_intrinsics(40, 32, 24)
    with pytest.raises(ShapeError, match=r"points must be \[..., 3\], got \[2\]"):
        project(np.zeros(2), intrinsics)
    with pytest.raises(ShapeError, match=r"depth must be \[..., H, W\], got \[4\]"):
        unproject_depth(np.ones(4), intrinsics, "exact")
    with pytest.raises(CameraError, match="exact, reference"):
        unproject_depth(np.ones((4, 4)), intrinsics, "centred")
    with pytest.raises(CameraError, match="lens_mm must be above 0"):
        focal_px_from_lens(0, 36, 512)
