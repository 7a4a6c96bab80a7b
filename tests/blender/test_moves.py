# SPDX-License-Identifier: Apache-2.0
"""Camera moves: ordinary keyframes that follow the library's own moves."""

import json
import math
import os
import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import FRAMES, REPOSITORY

PYTHON = Path(os.environ.get("EX4D_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
LENGTH, SUBJECT = 49, 4.0
ASKED = {
    "orbit": "orbit:angle=30,rise=10",
    "dolly": "dolly:distance=0.3,ease=in",
    "truck": "truck:distance=-0.2,ease=out",
    "pedestal": "pedestal:distance=0.2,ease=linear",
    "pan": "pan:angle=-15",
    "tilt": "tilt:angle=10",
    "crane": "crane:distance=0.3",
    "dolly-zoom": "dolly-zoom:distance=0.3",
    "spiral": "spiral:distance=0.15,turns=1",
}
ASK_LIBRARY = """
import json, sys
import numpy as np
from ex4d.camera import pinhole_intrinsics
from ex4d.trajectory import MOVES, camera_move
moves, length, subject = json.loads(sys.argv[1])
lens = pinhole_intrinsics(100.0, 12, 8)
paths = {name: camera_move(move, np.full((8, 12), subject), lens, 12, 8, length) for name, move in moves.items()}
answer = {name: [path.world_to_camera.tolist(), path.intrinsics[:, 0, 0].tolist()] for name, path in paths.items()}
print(json.dumps({"paths": answer, "names": list(MOVES)}))
"""


@pytest.fixture(scope="module")
def library():
    """The library's own camera paths of those moves, asked of its own Python."""
    asked = json.dumps([ASKED, LENGTH, SUBJECT])
    done = subprocess.run(
        [PYTHON, "-c", ASK_LIBRARY, asked], cwd=REPOSITORY, check=True, timeout=60, capture_output=True
    )
    return json.loads(done.stdout)


@pytest.fixture
def camera(scene):
    """A camera of the artist's, under an Empty that is moved and scaled, looking along +Y as a source camera does."""
    root = bpy.data.objects.new("root", None)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    for item in (root, camera):
        scene.collection.objects.link(item)
    root.location, root.rotation_euler, root.scale = (1, 2, 3), (0, 0, 0.7), (2, 2, 2)
    camera.parent, camera.rotation_euler = root, (math.pi / 2, 0, 0)
    camera.data.dof.use_dof, camera.data.dof.focus_distance = True, 2 * SUBJECT
    scene.camera, scene.frame_start, scene.frame_end = camera, 11, 10 + LENGTH
    bpy.context.view_layer.update()
    return camera


def arguments_of(name):
    """The operator's, from the library's words."""
    given = dict(part.split("=") for part in ASKED[name].partition(":")[2].split(","))
    found = {"move": name.upper().replace("-", "_"), "ease": given.pop("ease", "smooth").upper()}
    for key, text in given.items():
        value = float(text)
        found[key] = math.radians(value) if key in ("angle", "rise") else 100 * value if key == "distance" else value
    return found


def sampled(addon, scene, camera):
    """(world_to_camera [N, 4, 4] in the units of the camera's parent, focal lengths [N])"""
    poses, lenses = [], []
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        to_scene = np.array(camera.parent.matrix_world, dtype=np.float64)
        poses.append(addon.cameras.world_to_camera(np.array(camera.matrix_world, dtype=np.float64), to_scene))
        lenses.append(camera.data.lens)
    return np.array(poses), np.array(lenses)


@pytest.mark.parametrize("name", ASKED)
def test_a_move_follows_the_librarys(addon, scene, camera, library, name):
    assert bpy.ops.ex4d.add_move(**arguments_of(name)) == {"FINISHED"}
    poses, lenses = sampled(addon, scene, camera)
    expected, focal = library["paths"][name]
    np.testing.assert_allclose(poses, expected, atol=2e-4 * SUBJECT)
    np.testing.assert_allclose(lenses / lenses[0], np.array(focal) / focal[0], rtol=1e-4)


def test_the_library_of_moves_is_whole(addon, library):
    offered = {identifier.lower().replace("_", "-") for identifier, *_ in addon.operators.move.MOVE_ITEMS}
    assert offered == {*library["names"]} - {"reference"}


@pytest.mark.parametrize(("name", "most"), [("dolly", 2), ("pan", 2), ("orbit", 5), ("crane", 5)])
def test_a_move_is_a_few_keys_that_an_artist_can_edit(addon, camera, name, most):
    bpy.ops.ex4d.add_move(**arguments_of(name))
    curves = addon.compat.fcurves_of(camera)
    assert {curve.data_path for curve in curves} == {"location", "rotation_euler"}
    for curve in curves:
        assert len(curve.keyframe_points) == most
        assert {point.interpolation for point in curve.keyframe_points} == {"BEZIER"}


def test_usual_amounts_are_the_moves_own(addon, scene, camera):
    bpy.ops.ex4d.add_move(move="PAN")
    scene.frame_set(scene.frame_end)
    assert math.degrees(camera.rotation_euler.z) == pytest.approx(-15, abs=1e-3)


def test_keys_outside_the_move_stay(addon, scene, camera):
    camera.location.x = 1
    for frame in (1, 20, 200):
        camera.keyframe_insert("location", frame=frame)
    bpy.ops.ex4d.add_move(move="DOLLY", frame_start=11, frame_end=30)
    curve = next(curve for curve in addon.compat.fcurves_of(camera) if curve.data_path == "location")
    assert [point.co[0] for point in curve.keyframe_points] == [1, 11, 30, 200]


def test_a_move_turns_round_the_subject_that_was_chosen(scene, camera):
    target = bpy.data.objects.new("actor", None)
    scene.collection.objects.link(target)
    target.location = (4, 9, 2)
    scene.ex4d.move_target = target
    scene.frame_set(scene.frame_start)
    before = camera.matrix_world.inverted() @ target.matrix_world.translation
    bpy.ops.ex4d.add_move(move="ORBIT", angle=math.radians(90))
    for frame in (scene.frame_start + 20, scene.frame_end):
        scene.frame_set(frame)
        seen = camera.matrix_world.inverted() @ target.matrix_world.translation
        assert (seen - before).length < 2e-3 * before.length


def test_without_a_target_it_turns_round_the_plates_subject(addon, scene, reconstructed, shot_depth):
    assert reconstructed.subject_distance == pytest.approx(
        addon.display_arrays.subject_distance(shot_depth[0]), rel=1e-5
    )
    bpy.ops.ex4d.add_camera()
    stand, _ = addon.keyframes.stand_of(bpy.context, scene.camera, None, 1)
    assert stand.distance == pytest.approx(reconstructed.subject_distance, rel=1e-5)


def test_quaternions_are_keyed_as_quaternions(addon, scene, camera, library):
    camera.rotation_mode = "QUATERNION"
    camera.rotation_quaternion = (math.cos(math.pi / 4), math.sin(math.pi / 4), 0, 0)
    bpy.ops.ex4d.add_move(**arguments_of("orbit"))
    np.testing.assert_allclose(sampled(addon, scene, camera)[0], library["paths"]["orbit"][0], atol=3e-3 * SUBJECT)


def test_a_handheld_sway_lies_on_top_of_a_move_and_begins_still(addon, scene, camera):
    bpy.ops.ex4d.add_move(move="DOLLY")
    steady = sampled(addon, scene, camera)[0]
    bpy.ops.ex4d.add_move(move="HANDHELD")
    swaying = sampled(addon, scene, camera)[0]
    np.testing.assert_allclose(swaying[0], steady[0], atol=1e-5)
    apart = np.abs(swaying - steady)
    assert 1e-3 < apart[:, :3, :3].max() < 0.03
    assert 1e-3 < apart[:, :3, 3].max() < 0.2
    before = sum(len(curve.modifiers) for curve in addon.compat.fcurves_of(camera))
    bpy.ops.ex4d.add_move(move="HANDHELD", seed=3)
    assert sum(len(curve.modifiers) for curve in addon.compat.fcurves_of(camera)) == before
    assert np.abs(sampled(addon, scene, camera)[0] - swaying).max() > 1e-3


def test_the_plates_own_camera_is_left_alone(addon, imported):
    assert not bpy.ops.ex4d.add_move.poll()
    assert "filmed the plate" in addon.operators.grey.plates_own_camera(bpy.context)
    bpy.ops.ex4d.add_camera()
    assert bpy.ops.ex4d.add_move.poll()
    assert bpy.ops.ex4d.add_move(move="ORBIT") == {"FINISHED"}
    assert bpy.context.scene.frame_end == FRAMES


def test_a_move_that_cannot_be_is_refused(scene, camera):
    with pytest.raises(RuntimeError, match="below 100 %"):
        bpy.ops.ex4d.add_move(move="DOLLY_ZOOM", distance=100)
    with pytest.raises(RuntimeError, match="at least two frames"):
        bpy.ops.ex4d.add_move(move="PAN", frame_start=5, frame_end=5)
    camera.rotation_mode = "AXIS_ANGLE"
    with pytest.raises(RuntimeError, match="rotation mode"):
        bpy.ops.ex4d.add_move(move="PAN")
