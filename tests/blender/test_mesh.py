# SPDX-License-Identifier: Apache-2.0
"""The DW-Mesh that Blender shows is the one that was reconstructed."""

import bpy
import numpy as np
import pytest
from conftest import FOCAL_PX, FRAMES, HEIGHT, WIDTH, exact_display, expected_vertices, write_reconstruction


def evaluated(item, frame, subframe=0.0):
    """(vertices [V, 3] under the Empty, material index [F]) at a scene frame."""
    bpy.context.scene.frame_set(frame, subframe=subframe)
    mesh = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    slots = np.empty(len(mesh.polygons), dtype=np.int32)
    mesh.polygons.foreach_get("material_index", slots)
    return points.reshape(-1, 3), slots


@pytest.fixture
def display(imported, shot_depth):
    return exact_display(shot_depth, FOCAL_PX)


def test_every_frame_has_exactly_the_reconstructed_vertices(reconstructed, display):
    expected = expected_vertices(display)
    for frame in range(FRAMES):
        points, _ = evaluated(reconstructed.mesh, reconstructed.plate_start + frame)
        np.testing.assert_allclose(points, expected[frame], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("detail", "stride"), [("HALF", 2), ("QUARTER", 4)])
def test_a_coarser_mesh_keeps_every_nth_vertex_and_the_borders(addon, reconstructed, display, detail, stride):
    reconstructed.mesh_stride = detail
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    height, width = HEIGHT + 4, WIDTH + 4
    rows = sorted({0, 1, *range(2, height - 2, stride), height - 2, height - 1})
    columns = sorted({0, 1, *range(2, width - 2, stride), width - 2, width - 1})
    expected = expected_vertices(display).reshape(FRAMES, height, width, 3)[:, rows][:, :, columns]
    for frame in range(FRAMES):
        points, _ = evaluated(reconstructed.mesh, 1 + frame)
        np.testing.assert_allclose(points, expected[frame].reshape(-1, 3), rtol=1e-6, atol=1e-6)


def test_before_and_after_the_plate_the_mesh_rests_and_between_frames_it_waits(reconstructed, display):
    expected = expected_vertices(display)
    for frame, subframe, shown in ((-3, 0, 0), (FRAMES + 20, 0, FRAMES - 1), (2, 0.5, 1), (2, 0.99, 1), (3, 0.5, 2)):
        points, _ = evaluated(reconstructed.mesh, frame, subframe)
        np.testing.assert_allclose(points, expected[shown], rtol=1e-6, atol=1e-6)


def test_a_plate_that_starts_later_moves_the_mesh_with_it(addon, saved, fake, scene, plate_path, display):
    bpy.ops.ex4d.import_plate(filepath=str(plate_path), frame_start=1001)
    scene.ex4d.mesh_stride = "FULL"
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    points, _ = evaluated(scene.ex4d.mesh, 1003)
    np.testing.assert_allclose(points, expected_vertices(display)[2], rtol=1e-6, atol=1e-6)


def test_only_the_border_of_a_whole_plate_is_unseen(reconstructed):
    _, slots = evaluated(reconstructed.mesh, 1)
    cells = slots[:-1].reshape(HEIGHT + 3, WIDTH + 3)
    assert slots[-1] == 1, "the closing quad shows nothing"
    assert (cells[1:-1, 1:-1] == 0).all()
    assert (cells[[0, -1]] == 1).all()
    assert (cells[:, [0, -1]] == 1).all()


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_face_that_holds_a_cut_one_is_unseen_in_every_detail(addon, tmp_path, stride):
    height, width = 24, 40
    occluded = np.zeros((1, height - 1, width - 1), dtype=bool)
    occluded[0, 9, 17] = True  # its middle lies at 18, 10
    depth = np.ones((1, height, width), dtype=np.float32)
    np.savez(tmp_path / "display.npz", **exact_display(depth, 30.0, occluded))
    arrays = addon.display_arrays.read_display(tmp_path / "display.npz", stride)
    pixels = arrays.rays[:, ::2] * [30, -30] + [width / 2, height / 2]
    low, high = pixels[arrays.quads].min(axis=1), pixels[arrays.quads].max(axis=1)
    holds = (low < [17.6, 9.6]).all(axis=1) & (high > [18.4, 10.4]).all(axis=1)
    inside = (low > 0).all(axis=1) & (high < [width, height]).all(axis=1)
    np.testing.assert_array_equal(arrays.cut[0][inside], holds[inside])
    assert holds[inside].sum() == 1


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_without_a_skirt_the_border_shows_the_plate(addon, tmp_path, stride):
    """The reference convention's mesh: vertices on whole pixels, no rings around them."""
    arrays = exact_display(np.ones((1, 9, 14), dtype=np.float32), 30.0)
    arrays |= {"u": np.arange(14.0), "v": np.arange(9.0), "depth": arrays["depth"][:, 2:-2, 2:-2]}
    arrays |= {"convention": np.array("reference"), "texture_offset": np.array(0.5)}
    arrays["occluded"] = np.packbits(np.zeros((1, 8 * 13), dtype=bool), axis=1)
    np.savez(tmp_path / "display.npz", **arrays)
    found = addon.display_arrays.read_display(tmp_path / "display.npz", stride)
    assert not found.cut.any()
    np.testing.assert_allclose(found.corner_uv.reshape(-1, 2).min(axis=0), [0.5 / 14, 0.5 / 9], rtol=1e-6)


def test_a_cut_face_is_unseen_on_its_frame_only(addon, tmp_path, fake, imported, shot_depth, plate_frames):
    occluded = np.zeros((FRAMES, HEIGHT - 1, WIDTH - 1), dtype=bool)
    occluded[2, 3, 4] = True
    folder = addon.shots.shot_folder(bpy.context.scene)
    write_reconstruction(folder, exact_display(shot_depth, FOCAL_PX, occluded), plate_frames)
    imported.mesh_stride = "FULL"
    addon.reconstruction.show(bpy.context.scene, folder)
    assert addon.session.wait(10)
    for frame in range(FRAMES):
        _, slots = evaluated(imported.mesh, 1 + frame)
        inner = slots[:-1].reshape(HEIGHT + 3, WIDTH + 3)[2:-2, 2:-2]
        assert inner.sum() == (1 if frame == 2 else 0)
        assert inner[3, 4] == (1 if frame == 2 else 0)


def test_the_hiding_faces_can_be_left_out_to_look_in_from_outside(addon, reconstructed):
    _, shown = evaluated(reconstructed.mesh, 1)
    reconstructed.unseen = "OPEN"
    points, opened = evaluated(reconstructed.mesh, 1)
    assert len(opened) == (shown == 0).sum()
    assert points[:, 1].max() < 100, "the skirt is gone"
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    assert len(evaluated(reconstructed.mesh, 1)[1]) == len(opened), "a mesh built again looks the same"
    reconstructed.unseen = "WARNING"
    assert len(evaluated(reconstructed.mesh, 1)[1]) == len(shown)


def test_without_a_mesh_the_choice_waits(imported):
    imported.unseen = "WARNING"
    imported.unseen = "OPEN"


def test_texture_coordinates_put_each_pixel_on_its_own_ray(addon, reconstructed, display):
    mesh = reconstructed.mesh.data
    uv = np.empty(2 * len(mesh.loops), dtype=np.float32)
    mesh.uv_layers["plate"].data.foreach_get("uv", uv)
    vertices = np.empty(len(mesh.loops), dtype=np.int32)
    mesh.loops.foreach_get("vertex_index", vertices)
    rows, columns = np.divmod(vertices, WIDTH + 4)
    np.testing.assert_allclose(uv.reshape(-1, 2)[:, 0], display["u"][columns] / WIDTH, atol=1e-6)
    np.testing.assert_allclose(uv.reshape(-1, 2)[:, 1], 1 - display["v"][rows] / HEIGHT, atol=1e-6)


def test_building_again_replaces_the_mesh_and_leaves_nothing_over(addon, reconstructed):
    before = [len(block) for block in (bpy.data.meshes, bpy.data.materials, bpy.data.node_groups, bpy.data.objects)]
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    after = [len(block) for block in (bpy.data.meshes, bpy.data.materials, bpy.data.node_groups, bpy.data.objects)]
    assert after == before


def test_a_source_lens_changed_since_the_reconstruction_is_set_back_and_said(addon, reconstructed):
    assert "source lens" not in reconstructed.shot_notice
    reconstructed.source_camera.data.lens = 85.0
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    assert abs(reconstructed.source_camera.data.lens - 35.0) < 1e-4
    assert "source lens is 35 mm again" in reconstructed.shot_notice


def test_a_mesh_that_vanishes_while_it_is_built_is_built_again(addon, reconstructed, display):
    """The artist's undo replaces or removes data-blocks between two slices."""
    folder = addon.shots.shot_folder(bpy.context.scene)
    arrays = addon.display_arrays.read_display(folder / "display.npz", 1)
    builder = addon.display_mesh.MeshBuilder(arrays, "built twice")
    for _ in range(3):
        assert builder.step() is None
    bpy.data.meshes.remove(bpy.data.meshes["built twice"])
    while (mesh := builder.step()) is None:
        pass
    assert sum(attribute.name.startswith("cut_") for attribute in mesh.attributes) == FRAMES


def test_a_damaged_mesh_file_is_refused_with_what_to_do(addon, tmp_path, shot_depth):
    path = tmp_path / "display.npz"
    whole = exact_display(shot_depth, FOCAL_PX)
    np.savez(path, **whole)
    truncated = path.read_bytes()[:-300]
    for content in (b"no zip", b"", truncated):
        path.write_bytes(content)
        with pytest.raises(addon.errors.ShotDataError, match="Reconstruct the shot again"):
            addon.display_arrays.read_display(path, 1)
    for name in ("depth", "occluded", "u"):
        np.savez(path, **(whole | {name: whole[name][:2]}))
        with pytest.raises(addon.errors.ShotDataError, match="Reconstruct the shot again"):
            addon.display_arrays.read_display(path, 1)
    with pytest.raises(addon.errors.ShotDataError, match="is gone"):
        addon.display_arrays.read_display(tmp_path / "none.npz", 1)


def test_a_shot_of_a_newer_version_is_refused_with_what_to_do(addon, reconstructed):
    path = addon.shots.shot_file(bpy.context.scene, "shot.json")
    for content, said in (('{"schema": 2}', "Install a newer extension"), ("{", "Reconstruct the shot again")):
        path.write_text(content, encoding="utf-8")
        bpy.ops.ex4d.show_mesh()
        assert addon.session.wait(10)
        assert said in addon.session.current.error
