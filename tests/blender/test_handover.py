# SPDX-License-Identifier: Apache-2.0
"""What other programs get is the camera and the mesh that Blender shows."""

import json
import math
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import FOCAL_PX, FRAMES, exact_display, expected_vertices
from mathutils import Euler, Matrix, Vector

SUFFIXES = {"USD": ".usdc", "ABC": ".abc", "FBX": ".fbx", "CHAN": ".chan"}
IMPORTERS = {
    "USD": lambda file: bpy.ops.wm.usd_import(filepath=file),
    "ABC": lambda file: bpy.ops.wm.alembic_import(filepath=file, as_background_job=False),
    "FBX": lambda file: bpy.ops.import_scene.fbx(filepath=file, anim_offset=0.0),
}

READS_ZOOM = {"USD": bpy.app.version >= (4, 5, 0), "ABC": False, "FBX": True}  # Blender's importers; others do


@pytest.fixture
def camera(reconstructed, scene):
    """The artist's camera: moving, turning and zooming, in a shot that stands somewhere else and is scaled."""
    bpy.ops.ex4d.add_camera()
    reconstructed.root.location, reconstructed.root.rotation_euler = (3, -2, 1), (0.3, 0.2, 0.5)
    reconstructed.root.scale = (1.7, 1.7, 1.7)
    scene.render.pixel_aspect_x = 1.0
    for frame, x, lens in ((1, -0.5, 30.0), (FRAMES, 0.7, 60.0)):
        scene.camera.location = (x, 0.2 * x, 0.1)
        scene.camera.rotation_euler = (1.5 + 0.1 * x, 0.2, 0.4 * x)
        scene.camera.data.lens = lens
        scene.camera.keyframe_insert("location", frame=frame)
        scene.camera.keyframe_insert("rotation_euler", frame=frame)
        scene.camera.data.keyframe_insert("lens", frame=frame)
    return scene.camera


def hand_over(tmp_path, **settings):
    assert bpy.ops.ex4d.hand_over(directory=str(tmp_path / "out"), **settings) == {"FINISHED"}
    return tmp_path / "out"


def truth(scene, item):
    """[(world matrix without scale, lens)] of each frame, evaluated."""
    found = []
    for frame in range(1, FRAMES + 1):
        scene.frame_set(frame)
        evaluated = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
        location, rotation, _ = evaluated.matrix_world.decompose()
        found.append((Matrix.LocRotScale(location, rotation, None), evaluated.data.lens))
    return found


def test_the_chan_file_holds_the_evaluated_camera(scene, camera, tmp_path):
    folder = hand_over(tmp_path, formats={"CHAN"})
    lines = (folder / "My_plate_camera.chan").read_text().splitlines()
    to_z_up = Matrix.Rotation(math.pi / 2, 4, "X")
    size = scene.render.resolution_x, scene.render.resolution_y
    for frame, (line, (pose, lens)) in enumerate(zip(lines, truth(scene, camera), strict=True), start=1):
        number, *values = line.split("\t")
        x, y, z, rx, ry, rz, view_deg = map(float, values)
        assert int(number) == frame
        rotation = Euler([math.radians(angle) for angle in (rx, ry, rz)], "ZXY").to_matrix().to_4x4()
        again = to_z_up @ Matrix.Translation((x, y, z)) @ rotation
        np.testing.assert_allclose(again, pose, atol=2e-6)
        height_mm = camera.data.sensor_width * size[1] / size[0]
        assert view_deg == pytest.approx(math.degrees(2 * math.atan(height_mm / 2 / lens)), abs=1e-4)


@pytest.mark.parametrize("kind", IMPORTERS)
def test_camera_and_mesh_come_back(addon, scene, camera, shot_depth, tmp_path, kind):
    if not addon.handover.has_format(kind):
        pytest.skip("this Blender was built without it")
    expected_camera = truth(scene, camera)
    root = np.array(scene.ex4d.root.matrix_world)
    file = hand_over(tmp_path, formats={kind}) / f"My_plate_camera{SUFFIXES[kind]}"
    display = exact_display(shot_depth, FOCAL_PX)
    bpy.ops.wm.read_homefile(use_empty=True)
    other = bpy.context.scene
    other.render.fps = 24
    assert IMPORTERS[kind](str(file)) == {"FINISHED"}
    found = next(item for item in other.objects if item.type == "CAMERA")
    for frame, ((again, lens), (pose, expected_lens)) in enumerate(
        zip(truth(other, found), expected_camera, strict=True), start=1
    ):
        np.testing.assert_allclose(again, pose, atol=2e-5, err_msg=f"frame {frame}")
        if READS_ZOOM[kind] or frame == 1:
            assert lens == pytest.approx(expected_lens, rel=1e-4)
    if kind == "FBX":
        return
    mesh = next(item for item in other.objects if item.type == "MESH")
    for frame in range(1, FRAMES + 1):
        other.frame_set(frame)
        evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
        points = np.array([evaluated.matrix_world @ vertex.co for vertex in evaluated.data.vertices])
        expected = expected_vertices(display)[frame - 1] @ root[:3, :3].T + root[:3, 3]
        np.testing.assert_allclose(points, expected, rtol=1e-5, atol=1e-3)


def test_the_page_beside_them_tells_the_rest(scene, camera, reconstructed, tmp_path):
    camera.data.shift_x = 0.1
    bpy.ops.ex4d.key_plate_time(time="REVERSE")
    folder = hand_over(tmp_path, formats={"CHAN"})
    page = json.loads((folder / "My_plate_camera.json").read_text())
    assert (page["frame_start"], page["frame_end"], page["fps"], page["size"]) == (1, FRAMES, 24.0, [12, 8])
    assert page["film_back_mm"] == pytest.approx([36.0, 24.0])
    assert page["lens_mm"][0] == pytest.approx(30.0)
    assert page["principal_point_px"][0] == pytest.approx([6 - 1.2, 4])
    assert page["plate_frame"] == [5, 4, 3, 2, 1]
    assert page["take"] is None


def test_a_takes_own_camera_goes_into_its_folder_whatever_the_scenes_does_now(addon, scene, camera, fake):
    expected = truth(scene, camera)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    camera.animation_data_clear()
    camera.location = Vector((9, 9, 9))
    scene.frame_start, scene.frame_end = 2, 3
    assert bpy.ops.ex4d.hand_over(formats={"CHAN"}) == {"FINISHED"}
    folder = addon.takes.take_folder(scene, "take_01") / "handover"
    lines = (folder / "take_01.chan").read_text().splitlines()
    assert len(lines) == FRAMES
    for line, (pose, _) in zip(lines, expected, strict=True):
        x, y, z = map(float, line.split("\t")[1:4])
        np.testing.assert_allclose((x, -z, y), pose.translation, atol=1e-5)
    assert json.loads((folder / "take_01.json").read_text())["take"]["engine"] == "preview"
    assert "take_01.chan, take_01.json lie in" in addon.session.current.notice


def test_the_scene_is_left_as_it_was(scene, camera, reconstructed, tmp_path):
    def left():
        blocks = (bpy.data.objects, bpy.data.cameras, bpy.data.actions, bpy.data.meshes)
        names = [item.name for item in bpy.context.selected_objects]
        active = bpy.context.view_layer.objects.active
        frames = scene.frame_start, scene.frame_end, scene.frame_current
        return [len(block) for block in blocks], names, active, frames, reconstructed.mesh.hide_viewport

    reconstructed.mesh.hide_viewport = True
    scene.frame_set(3)
    before = left()
    hand_over(tmp_path, camera="SCENE", formats={"FBX", "CHAN"})
    assert left() == before


def test_a_folder_that_cannot_be_written_is_told(camera, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RuntimeError, match="cannot be written"):
        hand_over(tmp_path, formats={"CHAN"})


def test_names_and_folders_may_hold_any_letters(camera, tmp_path):
    folder = tmp_path / "Übergabe für 合成"
    assert bpy.ops.ex4d.hand_over(directory=str(folder), formats={"FBX", "CHAN"}) == {"FINISHED"}
    assert {Path(file).suffix for file in folder.iterdir()} == {".fbx", ".chan", ".json"}
