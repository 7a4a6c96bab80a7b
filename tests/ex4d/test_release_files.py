# SPDX-License-Identifier: Apache-2.0
"""The release's own files: written as it writes them, read as it left them."""

import dataclasses
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from ex4d.camera import OPENGL_FLIP, CameraPath, pinhole_intrinsics
from ex4d.cli import main
from ex4d.conditioning import render_conditioning
from ex4d.errors import CameraError, InputError, ShapeError, VideoError
from ex4d.mesh import watertight_mesh
from ex4d.ply import read_ply, vertex_colors, write_ply
from ex4d.release_files import read_release_files, write_release_files
from ex4d.trajectory import camera_move
from ex4d.video import write_video

WIDTH, HEIGHT, COUNT = 64, 64, 5
INTRINSICS = pinhole_intrinsics(62.5, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def take():
    """A path and its conditioning: cameras, color, mask."""
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in frames])
    depth = np.full((COUNT, HEIGHT, WIDTH), 8, np.float32)
    depth[:, 20:44, 20:40] = 3
    cameras = camera_move("reference:30", depth[0], INTRINSICS, WIDTH, HEIGHT, COUNT)
    drawn = render_conditioning(frames, depth, INTRINSICS, "reference", cameras)
    return cameras, drawn.color, drawn.mask


def test_a_take_written_as_the_releases_files_is_read_back(tmp_path, take):
    cameras, color, mask = take
    write_release_files(tmp_path / "new" / "folder", "30", cameras, color, mask)
    names = sorted(file.name for file in (tmp_path / "new" / "folder").iterdir())
    assert names == ["camera_30.npz", "color_30.mp4", "mask_30.mp4"]
    path, color_back, mask_back = read_release_files(tmp_path / "new" / "folder", "30")
    np.testing.assert_allclose(path.world_to_camera, cameras.world_to_camera, atol=1e-6)
    np.testing.assert_allclose(path.intrinsics, cameras.intrinsics)
    assert (mask_back == mask).mean() > 0.995  # videos are lossy
    inside = np.stack([cv2.erode(frame.astype(np.uint8), np.ones((5, 5))) for frame in mask]).astype(bool)
    assert np.abs(color_back[inside].astype(int) - color[inside]).mean() < 4


def test_the_files_are_what_the_releases_programs_expect(tmp_path, take):
    cameras, color, mask = take
    write_release_files(tmp_path, "30", cameras, color, mask)
    with np.load(tmp_path / "camera_30.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["extrinsics", "intrinsics"]
        assert file["extrinsics"].dtype == file["intrinsics"].dtype == np.float32
        np.testing.assert_allclose(file["extrinsics"], OPENGL_FLIP @ cameras.world_to_camera, atol=1e-6)
        np.testing.assert_array_equal(file["intrinsics"], INTRINSICS.astype(np.float32))
    for name in ("color_30.mp4", "mask_30.mp4"):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert (stream.average_rate, stream.codec_context.name, stream.frames) == (Fraction(30), "h264", COUNT)
        first = cv2.VideoCapture(str(tmp_path / name)).read()[1]  # how generate.py reads it
        assert first.shape == (HEIGHT, WIDTH, 3)
    assert first.min() > 250  # the first mask is white


def test_color_may_be_called_render_as_in_later_versions_of_the_release(tmp_path, take):
    write_release_files(tmp_path, "180", *take)
    (tmp_path / "color_180.mp4").rename(tmp_path / "render_180.mp4")
    assert len(read_release_files(tmp_path, "180")[1]) == COUNT


def test_a_path_that_the_releases_camera_file_cannot_hold_is_refused(tmp_path, take):
    cameras, color, mask = take
    zoomed, shifted = cameras.intrinsics.copy(), cameras.intrinsics.copy()
    zoomed[3, 0, 0] += 1
    shifted[:, 0, 2] += 4
    for lenses, complaint in (
        (zoomed, "frame 3 has another"),
        (shifted, r"middle, \[32.0, 32.0\], got \[36.0, 32.0\]"),
    ):
        with pytest.raises(CameraError, match=complaint):
            write_release_files(tmp_path, "x", dataclasses.replace(cameras, intrinsics=lenses), color, mask)
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_belong_together_are_refused(tmp_path, take):
    cameras, color, mask = take
    with pytest.raises(ShapeError, match=r"must be \[5, 64, 64\] like the camera path"):
        write_release_files(tmp_path, "30", cameras, color[:4], mask)
    with pytest.raises(CameraError, match="no camera file"):
        read_release_files(tmp_path, "30")
    write_release_files(tmp_path, "30", cameras, color, mask)
    write_video(tmp_path / "mask_30.mp4", color[:3], Fraction(30), "h264")
    with pytest.raises(ShapeError, match=r"mask_30\.mp4' is \[3, 64, 64\]"):
        read_release_files(tmp_path, "30")
    (tmp_path / "color_30.mp4").unlink()
    with pytest.raises(VideoError, match=r"no color_30\.mp4 or render_30\.mp4"):
        read_release_files(tmp_path, "30")


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_a_ply_is_read_back_as_it_was_written(tmp_path, take, convention):
    mesh = watertight_mesh(np.linspace(2, 9, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH), INTRINSICS, convention)
    write_ply(tmp_path / "mesh.ply", mesh, take[1][0])
    read = read_ply(tmp_path / "mesh.ply")
    np.testing.assert_array_equal(read.points, mesh.points.reshape(-1, 3))
    np.testing.assert_array_equal(read.faces, mesh.faces)
    np.testing.assert_array_equal(read.colors, vertex_colors(mesh, take[1][0]).reshape(-1, 3))


def test_a_ply_as_the_releases_mesh_library_writes_it_is_read(tmp_path):
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment https://github.com/mikedh/trimesh\nelement vertex 3\n"
        "property float x\nproperty float y\nproperty float z\nproperty uchar red\nproperty uchar green\n"
        "property uchar blue\nproperty uchar alpha\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    vertices = np.zeros(3, [("xyz", "<f4", 3), ("rgba", "u1", 4)])
    vertices["xyz"], vertices["rgba"] = np.arange(9).reshape(3, 3), [[1, 2, 3, 255], [0, 0, 0, 255], [9, 8, 7, 255]]
    face = np.array([(3, (2, 1, 0))], [("n", "u1"), ("index", "<i4", 3)])
    (tmp_path / "mesh.ply").write_bytes(header.encode() + vertices.tobytes() + face.tobytes())
    read = read_ply(tmp_path / "mesh.ply")
    assert read.points.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert read.colors.tolist() == [[1, 2, 3], [0, 0, 0], [9, 8, 7]]
    assert read.faces.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: b"", "no PLY file"),
        (lambda content: content[:-1], "cut short"),
        (lambda content: content.replace(b"binary_little_endian", b"ascii"), "must be a binary little-endian PLY"),
        (lambda content: content.replace(b"float x", b"float w"), "no x, y, z"),
        (lambda content: content.replace(b"float x", b"half x"), "header that cannot be read"),
        (lambda content: content.replace(b"element vertex", b"element points"), "must hold vertices, then faces"),
        (lambda content: content[:-4] + b"\xff\xff\xff\x7f", "triangles of its own vertices"),
    ],
)
def test_a_file_that_is_no_mesh_is_refused(tmp_path, change, complaint):
    file = tmp_path / "mesh.ply"
    write_ply(file, watertight_mesh(np.full((3, 4), 2.0), INTRINSICS, "exact"), np.zeros((3, 4, 3), np.uint8))
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=complaint):
        read_ply(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_ply(tmp_path / "missing.ply")


def test_the_command_line_leaves_the_releases_files_beside_the_take(tmp_path, capsys):
    write_video(tmp_path / "plate.mkv", np.full((3, HEIGHT, WIDTH, 3), 90, np.uint8), Fraction(24), "ffv1")
    np.save(tmp_path / "depth.npy", np.full((3, HEIGHT, WIDTH), 5, np.float32))
    shot = tmp_path / "shot"
    plate = [str(tmp_path / "plate.mkv"), "--depth-file", str(tmp_path / "depth.npy"), "--convention", "reference"]
    assert main(["reconstruct", *plate, "--out", str(shot)]) == 0
    assert main(["render", str(shot), "--move", "reference:30", "--take", "arc", "--release-files"]) == 0
    cameras, color, mask = read_release_files(shot / "takes" / "arc" / "release", "arc")
    assert isinstance(cameras, CameraPath)
    assert color.shape[:3] == mask.shape == (3, HEIGHT, WIDTH)
    assert len(read_ply(shot / "takes" / "arc" / "release" / "mesh.ply").points) == WIDTH * HEIGHT
    assert "release files" in capsys.readouterr().out
