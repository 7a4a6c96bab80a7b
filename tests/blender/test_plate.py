# SPDX-License-Identifier: Apache-2.0
"""Importing a plate."""

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from conftest import FRAMES, HEIGHT, WIDTH
from drawing import draw_panels
from mathutils import Vector
from movies import write_avi


def test_the_scene_takes_the_plates_size_rate_and_range(imported, scene):
    assert (scene.render.resolution_x, scene.render.resolution_y) == (WIDTH, HEIGHT)
    assert (scene.render.fps, scene.render.fps_base) == (24, 1.0)
    assert (scene.frame_start, scene.frame_end) == (1, FRAMES)
    assert (imported.plate_width, imported.plate_height, imported.plate_frames) == (WIDTH, HEIGHT, FRAMES)


def test_everything_hangs_under_one_empty(imported, scene):
    assert imported.root.name == "EX-4D My_plate"
    assert imported.root.type == "EMPTY"
    ours = {item for item in scene.objects if item is not imported.root}
    assert ours == set(imported.root.children_recursive)


def test_the_shot_stands_at_eye_height(imported):
    assert imported.root.location.z == pytest.approx(1.6)


def test_a_startup_files_cube_stays_below_the_picture(addon, saved, scene, plate_path):
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    assert "Before the plate" not in scene.ex4d.plate_notice


def test_what_stands_before_the_plate_is_named_and_left_alone(addon, saved, scene, plate_path):
    bpy.ops.mesh.primitive_cube_add(size=2, location=(0.5, 4, 1))
    cube = bpy.context.object
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    assert scene.ex4d.plate_notice.splitlines()[-1].startswith(f"Before the plate: {cube.name}. Hide or move")
    assert cube.visible_get()


def test_the_source_camera_shows_the_plate_behind_the_scene(imported, scene):
    background = imported.source_camera.data.background_images[0]
    assert scene.camera is imported.source_camera
    assert background.clip is imported.plate_clip
    assert imported.source_camera.data.show_background_images


@pytest.mark.parametrize("lens", [50.0, 18.0])
def test_the_image_plane_fills_the_picture_of_the_source_camera(imported, scene, lens):
    imported.source_camera.data.lens = lens
    graph = bpy.context.evaluated_depsgraph_get()
    graph.update()
    plane = imported.plate_plane.evaluated_get(graph)
    corners = [plane.matrix_world @ vertex.co for vertex in plane.data.vertices]
    seen = [world_to_camera_view(scene, imported.source_camera.evaluated_get(graph), corner) for corner in corners]
    for found, (x, y) in zip(seen, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
        assert abs(found.x - x) < 1e-5
        assert abs(found.y - y) < 1e-5


def test_the_source_camera_looks_along_the_shots_forward_axis(imported):
    bpy.context.view_layer.update()
    forward = imported.source_camera.matrix_world.to_3x3() @ Vector((0, 0, -1))
    assert (forward - Vector((0, 1, 0))).length < 1e-6


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(24.0, (24, 1.0)), (23.976, (24, 1.001)), (29.97, (30, 1.001)), (59.94, (60, 1.001)), (25.0, (25, 1.0))],
)
def test_frame_rates_become_blenders_own(addon, fps, expected):
    assert addon.scene_match.scene_rate(fps) == expected


def test_an_odd_frame_rate_is_kept(addon):
    whole, base = addon.scene_match.scene_rate(12.5)
    assert abs(whole / base - 12.5) < 1e-6


@pytest.mark.parametrize(("width", "height"), [(7, 13), (31, 9), (1, 1)])
def test_odd_and_portrait_plates_fill_the_picture(addon, saved, scene, tmp_path, width, height):
    path = write_avi(tmp_path / "odd.avi", np.full((2, height, width, 3), 90, dtype=np.uint8), (25, 1))
    bpy.ops.ex4d.import_plate(filepath=str(path))
    state = scene.ex4d
    assert (state.plate_width, state.plate_height, state.plate_frames) == (width, height, 2)
    graph = bpy.context.evaluated_depsgraph_get()
    graph.update()
    plane = state.plate_plane.evaluated_get(graph)
    seen = [world_to_camera_view(scene, scene.camera, plane.matrix_world @ vertex.co) for vertex in plane.data.vertices]
    for found, (x, y) in zip(seen, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
        assert abs(found.x - x) + abs(found.y - y) < 1e-5


def test_a_plate_of_one_frame_is_a_plate(addon, saved, scene, tmp_path):
    path = write_avi(tmp_path / "one.avi", np.zeros((1, 8, 8, 3), dtype=np.uint8), (24, 1))
    bpy.ops.ex4d.import_plate(filepath=str(path))
    assert (scene.frame_start, scene.frame_end, scene.ex4d.plate_frames) == (1, 1, 1)


def test_a_folder_is_no_choice(addon, tmp_path):
    with pytest.raises(RuntimeError, match=r"^Error: Choose a movie file, or pictures\.$"):
        bpy.ops.ex4d.import_plate(filepath=f"{tmp_path}/")


def test_a_missing_file_is_refused(addon, tmp_path):
    with pytest.raises(RuntimeError, match="There is no file"):
        bpy.ops.ex4d.import_plate(filepath=str(tmp_path / "none.mp4"))


def test_a_text_file_is_refused_and_leaves_nothing(addon, tmp_path):
    for name in ("text.mp4", "text.mov"):
        (tmp_path / name).write_text("no movie", encoding="utf-8")
        with pytest.raises(RuntimeError, match="Choose a movie file"):
            bpy.ops.ex4d.import_plate(filepath=str(tmp_path / name))
    assert len(bpy.data.movieclips) == 0
    assert bpy.context.scene.ex4d.shot_id == ""


def test_importing_again_makes_a_second_shot_and_keeps_the_first(imported, scene, plate_path):
    first = imported.root
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    assert imported.root is not first
    assert imported.root.name == "EX-4D My_plate_02"
    assert first.name in scene.objects


@pytest.fixture
def elsewhere(addon, saved, scene):
    """A scene of another size and rate, which is to stay as it is."""
    scene.render.resolution_x, scene.render.resolution_y, scene.render.fps = 1920, 800, 30
    scene.view_settings.view_transform = "Raw"
    return scene


def test_the_scene_may_keep_its_size_and_rate_and_be_matched_later(elsewhere, plate_path):
    render = elsewhere.render
    bpy.ops.ex4d.import_plate(filepath=str(plate_path), match_scene=False)
    assert (render.resolution_x, render.resolution_y, render.fps) == (1920, 800, 30)
    assert elsewhere.view_settings.view_transform == "Raw"
    assert bpy.ops.ex4d.match_scene() == {"FINISHED"}
    assert (render.resolution_x, render.resolution_y, render.fps) == (WIDTH, HEIGHT, 24)
    assert elsewhere.view_settings.view_transform == "Standard"
    assert not bpy.ops.ex4d.match_scene.poll()


@pytest.mark.parametrize(
    ("name", "value"), [("resolution_x", 99), ("resolution_percentage", 50), ("fps", 30), ("pixel_aspect_x", 2.0)]
)
def test_a_scene_that_drifts_from_its_plate_is_offered_the_way_back(addon, imported, scene, name, value):
    assert "ex4d.match_scene" not in draw_panels(addon)
    setattr(scene.render, name, value)
    assert "ex4d.match_scene" in draw_panels(addon)


def test_paths_are_stored_relative_to_a_saved_file(imported):
    assert imported.plate_clip.filepath == "//My plate.avi"
    texture = imported.plate_plane.data.materials[0].node_tree.nodes["Image Texture"]
    assert texture.image.filepath == "//My plate.avi"
    assert texture.image_user.frame_duration == FRAMES
