# SPDX-License-Identifier: Apache-2.0
"""The depth watertight mesh of one frame, in both conventions."""

import numpy as np
import pytest

from ex4d.camera import pinhole_intrinsics
from ex4d.errors import CameraError, DepthError, ShapeError, StorageError
from ex4d.mesh import CARD_FACTOR, card_depth, check_depth, far_depth, surface_depth, watertight_mesh
from ex4d.ply import vertex_colors, write_ply

INTRINSICS = pinhole_intrinsics(50, 14, 11)


def rough_depth(seed=0, height=11, width=14):
    """Smooth hills with a step, so that some faces are cut and some are not. float32 [H, W]"""
    y, x = np.mgrid[:height, :width]
    depth = 3 + np.sin(x / 3 + seed) + np.cos(y / 2)
    depth[height // 3 : height // 2 + 1, width // 3 : width // 2 + 2] = 1.2
    return depth.astype(np.float32)


def smallest_angles_deg(points, faces):
    """The release's test, corner by corner. Returns: [F]"""
    angles = []
    for face in faces:
        for corner in range(3):
            a, b, c = (points[face[(corner + k) % 3]] for k in range(3))
            p, q = b - a, c - a
            angles.append(
                np.degrees(np.arccos(np.clip(p @ q / (np.linalg.norm(p) * np.linalg.norm(q) + 1e-12), -1, 1)))
            )
    return np.reshape(angles, (-1, 3)).min(axis=1)


def test_reference_vertices_are_the_releases_rays_times_depth_with_the_border_at_100():
    depth = rough_depth()
    points = watertight_mesh(depth, INTRINSICS, "reference").points
    for j, i in [(0, 0), (0, 5), (10, 13), (4, 13), (5, 6), (1, 1), (9, 12)]:
        border = j in (0, 10) or i in (0, 13)
        z = 100 if border else depth[j, i]
        np.testing.assert_allclose(points[j, i], z * np.array([(i - 7) / 50, (j - 5.5) / 50, 1]), rtol=1e-6)
    assert depth[0, 0] != 100  # the caller's array stays as it was


def test_faces_come_in_the_releases_order_with_its_diagonals_and_closing_quad():
    faces = watertight_mesh(rough_depth(height=2, width=3), INTRINSICS, "reference").faces
    assert faces.tolist() == [[3, 0, 1], [4, 1, 2], [3, 1, 4], [4, 2, 5], [2, 0, 5], [5, 0, 3]]
    assert faces.dtype == np.int32


@pytest.mark.parametrize("seed", range(5))
def test_reference_cuts_every_face_with_a_corner_below_two_and_a_half_degrees_and_blackens_its_vertices(seed):
    mesh = watertight_mesh(rough_depth(seed), INTRINSICS, "reference")
    faces = mesh.faces
    kept = smallest_angles_deg(mesh.points.reshape(-1, 3).astype(np.float64), faces) >= 2.5
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(
        np.concatenate([mesh.visible[..., 0].ravel(), mesh.visible[..., 1].ravel()]), kept[:-2]
    )
    alpha = np.ones(mesh.depth.size)
    alpha[faces[~kept]] = 0
    np.testing.assert_array_equal(mesh.vertex_alpha.ravel(), alpha)


def test_a_cut_closing_quad_blackens_the_corners_in_reference():
    narrow = np.full((2, 40), 100, dtype=np.float32)
    alpha = watertight_mesh(narrow, pinhole_intrinsics(50, 40, 2), "reference").vertex_alpha
    assert alpha[:, [0, -1]].tolist() == [[0, 0], [0, 0]]
    assert alpha[:, 1:-1].all()


def test_exact_vertices_lie_on_pixel_centres_the_pictures_edge_and_a_skirt_at_far_depth():
    depth = rough_depth()
    mesh = watertight_mesh(depth, INTRINSICS, "exact")
    assert mesh.u[:4].tolist() == [0, 0, 0.5, 1.5]
    assert mesh.u[-3:].tolist() == [13.5, 14, 14]
    assert mesh.v[-3:].tolist() == [10.5, 11, 11]
    np.testing.assert_array_equal(mesh.depth[2:-2, 2:-2], surface_depth(depth, INTRINSICS, far_depth(depth)))
    np.testing.assert_array_equal(mesh.depth[1, 1:-1], mesh.depth[2, 1:-1])
    outer = np.ones(mesh.depth.shape, bool)
    outer[1:-1, 1:-1] = False
    assert (mesh.depth[outer] == np.float32(far_depth(depth))).all()
    assert (mesh.points[5, 2] == mesh.depth[5, 2] * np.array([(0.5 - 7) / 50, (3.5 - 5.5) / 50, 1], "f4")).all()


def test_the_skirt_never_shows_the_plate():
    visible = watertight_mesh(np.full((5, 6), 2, np.float32), INTRINSICS, "exact").visible
    assert not visible[[0, -1]].any()
    assert not visible[:, [0, -1]].any()
    assert visible[1:-1, 1:-1].all()


def test_a_depth_step_is_torn_and_flat_parts_are_not():
    depth = np.full((12, 12), 8, np.float32)
    depth[:, 6:] = 2
    torn = ~watertight_mesh(depth, INTRINSICS, "exact").visible[2:-2, 2:-2]
    assert torn[:, 5].all()
    assert not np.delete(torn, 5, axis=1).any()


def test_far_ground_stays_whole_in_exact_where_the_release_dissolves_it_and_a_box_on_it_is_still_torn_off():
    rows = (np.arange(128) + 0.5 - 40) / 120
    depth = np.repeat(np.where(rows > 0, 1.5 / np.maximum(rows, 1e-9), 250)[:, None], 96, axis=1).clip(max=250)
    depth[20:80, 40:60] = 3
    depth = depth.astype(np.float32)
    intrinsics = np.array([[120, 0, 48], [0, 120, 40], [0, 0, 1]], dtype=np.float64)
    exact = watertight_mesh(depth, intrinsics, "exact").visible[2:-2, 2:-2]
    release = watertight_mesh(depth, intrinsics, "reference").visible
    assert exact[42:, :35].all()
    assert (~release[42:-1, 1:35]).any(axis=(1, 2)).sum() >= 3
    assert not exact[25:75, 39].any()
    assert not exact[25:75, 59].any()


def test_the_sky_and_what_lies_beyond_it_stand_on_a_far_card_that_is_whole():
    depth = np.full((40, 50), 4, np.float32)
    depth[:20] = np.random.default_rng(0).uniform(5e3, 1e6, (20, 50))  # disparities that end in noise
    sky = np.zeros(depth.shape, bool)
    sky[20:25] = True  # whatever their depth says
    mesh = watertight_mesh(depth, INTRINSICS, "exact", far_depth(depth, sky), sky)
    card = card_depth(far_depth(depth, sky))
    assert card == np.float32(CARD_FACTOR * 4)
    np.testing.assert_array_equal(mesh.depth[2:27, 2:-2], card)
    assert mesh.visible[1:26, 1:-1].all()
    assert not mesh.visible[26, 2:-2].any()
    assert (mesh.depth[27:-2, 2:-2] == 4).all()


def test_without_sky_or_very_far_things_nothing_moves_to_the_card():
    depth = np.linspace(2, 40, 24 * 24).reshape(24, 24).astype(np.float32)
    np.testing.assert_array_equal(surface_depth(depth, INTRINSICS, far_depth(depth)), depth)
    assert card_depth(far_depth(depth)) == depth.max()
    everywhere = np.ones(depth.shape, bool)
    assert np.isfinite(far_depth(depth, everywhere))
    assert np.ptp(surface_depth(depth, INTRINSICS, far_depth(depth, everywhere), everywhere)) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_tiny_plates_have_an_exact_mesh_and_a_clear_answer_in_reference(size):
    depth = np.full(size, 2, np.float32)
    assert watertight_mesh(depth, INTRINSICS, "exact").depth.shape == (size[0] + 4, size[1] + 4)
    if min(size) < 2:
        with pytest.raises(ShapeError, match="2 x 2 pixels or more"):
            watertight_mesh(depth, INTRINSICS, "reference")
    else:
        assert watertight_mesh(depth, INTRINSICS, "reference").visible.all()


@pytest.mark.parametrize(
    ("depth", "error", "complaint"),
    [
        (np.ones((2, 3, 4), np.float32), ShapeError, r"depth, frame 7 must be \[H, W\]"),
        (np.ones((0, 4), np.float32), ShapeError, "at least one pixel"),
        (np.ones((3, 4), np.int32), ShapeError, "floating point, got int32"),
        (np.array([[1, np.nan], [np.inf, 2]], np.float32), DepthError, "2 NaN or infinite, 0 zero or negative of 4"),
        (np.array([[1, 0], [-1, 2]], np.float32), DepthError, "frame 7 .* 0 NaN or infinite, 2 zero or negative"),
    ],
)
def test_depth_that_is_none_is_refused(depth, error, complaint):
    with pytest.raises(error, match=complaint):
        check_depth(depth, 7)


def test_other_bad_input_of_a_mesh_is_refused():
    depth = np.ones((4, 4), np.float32)
    with pytest.raises(CameraError, match="pixel convention must be one of exact, reference, got 'both'"):
        watertight_mesh(depth, INTRINSICS, "both")
    with pytest.raises(CameraError, match="focal lengths must be above 0"):
        watertight_mesh(depth, np.diag([0.0, 1, 1]), "exact")
    for far in (0, -1, np.nan, np.inf):
        with pytest.raises(DepthError, match="far must be a depth above 0"):
            watertight_mesh(depth, INTRINSICS, "exact", far=far)
    with pytest.raises(ShapeError, match=r"sky must be bool \[4, 4\] like the depth, got bool \[4, 5\]"):
        watertight_mesh(depth, INTRINSICS, "exact", sky=np.zeros((4, 5), bool))
    with pytest.raises(ShapeError, match="got float32"):
        watertight_mesh(depth, INTRINSICS, "exact", sky=depth)


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_a_ply_holds_every_vertex_and_face_with_cut_vertices_black(tmp_path, convention):
    mesh = watertight_mesh(rough_depth(), INTRINSICS, convention)
    plate = np.random.default_rng(0).integers(1, 256, (11, 14, 3), dtype=np.uint8)
    write_ply(tmp_path / "mesh.ply", mesh, plate)
    header, body = (tmp_path / "mesh.ply").read_bytes().split(b"end_header\n", 1)
    count, faces = mesh.depth.size, mesh.faces
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert f"element vertex {count}\n".encode() in header
    assert f"element face {len(faces)}\n".encode() in header
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], count)
    triangles = np.frombuffer(body, [("n", "u1"), ("index", "<i4", 3)], offset=vertices.nbytes)
    np.testing.assert_array_equal(vertices["xyz"], mesh.points.reshape(-1, 3))
    np.testing.assert_array_equal(triangles["index"], faces)
    assert (triangles["n"] == 3).all()
    black = (vertices["rgb"] == 0).all(axis=1)
    np.testing.assert_array_equal(black, mesh.vertex_alpha.ravel() == 0)
    inside = vertex_colors(mesh, plate) if convention == "reference" else vertex_colors(mesh, plate)[2:-2, 2:-2]
    shown = inside.any(axis=2)
    np.testing.assert_array_equal(inside[shown], plate[shown])


def test_a_ply_into_a_file_instead_of_a_folder_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    mesh = watertight_mesh(rough_depth(), INTRINSICS, "exact")
    with pytest.raises(StorageError):
        write_ply(tmp_path / "file" / "mesh.ply", mesh, np.zeros((11, 14, 3), np.uint8))
