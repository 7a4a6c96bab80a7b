# SPDX-License-Identifier: Apache-2.0
"""The exported camera path projects points where Blender itself does."""

import math

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from conftest import FRAMES
from mathutils import Euler, Matrix, Vector

POINTS = [Vector(point) for point in ((0, 5, 0), (1, 6, 1), (-1, 4, 0.5), (0.3, 9, -1))]


def sample(addon, state, frames, hide=()):
    return addon.path_sampling.sample_camera_path(
        bpy.context, state.root, frames, state.plate_start, state.plate_frames, hide
    )


def largest_error_px(scene, state, sampled, frames):
    """Distance in pixels between our projection of points under the Empty and Blender's, over all frames."""
    worst = 0.0
    to_opencv = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    for index, frame in enumerate(frames):
        scene.frame_set(int(frame // 1), subframe=frame % 1)
        graph = bpy.context.evaluated_depsgraph_get()
        camera = scene.camera.evaluated_get(graph)
        root = state.root.evaluated_get(graph).matrix_world
        for point in POINTS:
            seen = world_to_camera_view(scene, camera, root @ point)
            theirs = np.array([seen.x * sampled.width, (1 - seen.y) * sampled.height])
            ours = sampled.world_to_camera[index] @ [*(to_opencv @ np.array(point)), 1]
            ours = sampled.intrinsics[index] @ ours[:3]
            worst = max(worst, float(np.abs(ours[:2] / ours[2] - theirs).max()))
    return worst


@pytest.fixture
def camera(imported, scene):
    """The artist's camera, moved a little off the source view."""
    bpy.ops.ex4d.add_camera()
    scene.camera.animation_data_clear()
    scene.camera.location = (0.2, -0.5, 0.3)
    return scene.camera


def test_random_lenses_shifts_fits_sizes_and_pixel_aspects_agree_with_blender(addon, imported, scene, camera):
    rng = np.random.default_rng(0)
    for _ in range(60):
        data, render = camera.data, scene.render
        data.lens, data.sensor_width, data.sensor_height = rng.uniform(12, 120), rng.uniform(10, 50), rng.uniform(8, 40)
        data.shift_x, data.shift_y = rng.uniform(-0.3, 0.3, size=2)
        data.sensor_fit = str(rng.choice(["AUTO", "HORIZONTAL", "VERTICAL"]))
        render.resolution_x, render.resolution_y = (4 * int(side) for side in rng.integers(16, 1000, size=2))
        render.resolution_percentage = int(rng.choice([25, 50, 75, 100, 200]))  # world_to_camera_view never truncates
        render.pixel_aspect_x, render.pixel_aspect_y = rng.uniform(1, 2), rng.uniform(1, 2)
        camera.rotation_euler = Euler((math.radians(90) + rng.uniform(-0.2, 0.2), *rng.uniform(-0.3, 0.3, size=2)))
        bpy.context.view_layer.update()
        sampled = sample(addon, imported, [1])
        assert largest_error_px(scene, imported, sampled, [1]) < 0.01


def test_intrinsics_agree_with_blenders_own_camera_matrix(addon, imported, scene, camera):
    rng = np.random.default_rng(1)
    for fit in ("AUTO", "HORIZONTAL", "VERTICAL"):
        for width, height in ((1920, 1080), (1080, 1920), (512, 512), (333, 77)):
            camera.data.sensor_fit = fit
            camera.data.lens, (camera.data.shift_x, camera.data.shift_y) = (
                rng.uniform(15, 90),
                rng.uniform(-0.2, 0.2, 2),
            )
            scene.render.resolution_x, scene.render.resolution_y = width, height
            scene.render.resolution_percentage = 33
            width, height = width * 33 // 100, height * 33 // 100
            scene.render.pixel_aspect_y = 1.5
            graph = bpy.context.evaluated_depsgraph_get()
            graph.update()
            matrix = np.array(
                camera.evaluated_get(graph).calc_matrix_camera(graph, x=width, y=height, scale_x=1.0, scale_y=1.5)
            )
            k = sample(addon, imported, [1]).intrinsics[0]
            expected = [
                [matrix[0, 0] * width / 2, 0, width / 2 * (1 - matrix[0, 2])],
                [0, matrix[1, 1] * height / 2, height / 2 * (1 + matrix[1, 2])],
                [0, 0, 1],
            ]
            np.testing.assert_allclose(k, expected, atol=0.005)


def test_parents_constraints_and_a_moved_scaled_turning_shot_agree_with_blender(addon, imported, scene, camera):
    imported.root.location, imported.root.scale = (3, -2, 1), (1.7, 1.7, 1.7)
    imported.root.rotation_euler = (0.3, 0.2, 0.5)
    imported.root.keyframe_insert("rotation_euler", frame=1)
    imported.root.rotation_euler = (0.3, 0.2, 0.9)
    imported.root.keyframe_insert("rotation_euler", frame=5)
    crane = bpy.data.objects.new("crane", None)
    scene.collection.objects.link(crane)
    crane.parent = imported.root
    for frame, x in ((1, -1.0), (5, 1.0)):
        crane.location = (x, -1, 0.2)
        crane.keyframe_insert("location", frame=frame)
    aim = bpy.data.objects.new("aim", None)
    scene.collection.objects.link(aim)
    aim.parent = imported.root
    aim.location = (0, 5, 0)
    camera.parent = crane
    tracking = camera.constraints.new("TRACK_TO")
    tracking.target, tracking.track_axis, tracking.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"
    frames = [1, 1.25, 2, 2.5, 3.9, 4, 5]
    sampled = sample(addon, imported, frames)
    assert largest_error_px(scene, imported, sampled, frames) < 0.01
    np.testing.assert_allclose(sampled.source_frame, np.array(frames) - 1)
    for pose in sampled.world_to_camera:
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)


def test_an_animated_lens_and_shift_are_sampled_at_every_frame(addon, imported, scene, camera):
    for frame, lens, shift in ((1, 20.0, -0.1), (5, 80.0, 0.2)):
        camera.data.lens, camera.data.shift_y = lens, shift
        camera.data.keyframe_insert("lens", frame=frame)
        camera.data.keyframe_insert("shift_y", frame=frame)
    frames = range(1, FRAMES + 1)
    sampled = sample(addon, imported, frames)
    assert len({round(k[0, 0], 3) for k in sampled.intrinsics}) == FRAMES
    assert largest_error_px(scene, imported, sampled, frames) < 0.01


def test_camera_markers_switch_the_camera(addon, imported, scene, camera):
    other = bpy.data.objects.new("other", camera.data.copy())
    other.data.lens = 123.0
    scene.collection.objects.link(other)
    for frame, bound in ((1, camera), (4, other)):
        marker = scene.timeline_markers.new("cut", frame=frame)
        marker.camera = bound
    sampled = sample(addon, imported, range(1, 6))
    focal = sampled.intrinsics[:, 0, 0]
    np.testing.assert_allclose(focal[3:], 123 / 35 * focal[0])
    np.testing.assert_allclose(focal[:3], focal[0])


def test_sampling_puts_the_frame_and_the_hidden_mesh_back(addon, reconstructed, scene):
    scene.frame_set(3, subframe=0.25)
    sample(addon, reconstructed, range(1, 6), hide=[reconstructed.mesh])
    assert (scene.frame_current, scene.frame_subframe) == (3, 0.25)
    assert not reconstructed.mesh.hide_viewport


@pytest.mark.parametrize(("kind", "word"), [("ORTHO", "orthographic"), ("PANO", "panoramic")])
def test_a_camera_without_perspective_is_refused(addon, imported, scene, camera, kind, word):
    camera.data.type = kind
    with pytest.raises(addon.errors.CameraPathError, match=rf"{word} at frame 1.*Perspective"):
        sample(addon, imported, [1, 2])


def test_a_camera_that_is_not_a_number_is_refused_with_its_frame(addon, imported, scene, camera):
    driver = camera.driver_add("location", 0).driver
    driver.type = "SCRIPTED"
    driver.expression = "sqrt(2 - frame)"
    camera.parent = None
    target = bpy.data.objects.new("broken", None)
    scene.collection.objects.link(target)
    camera.parent = target
    camera.matrix_parent_inverse = Matrix(((math.nan, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    with pytest.raises(addon.errors.CameraPathError, match=r"frame 1.*not a number"):
        sample(addon, imported, [1, 2])


def test_no_camera_and_a_frame_outside_the_plate_are_refused(addon, imported, scene):
    with pytest.raises(addon.errors.CameraPathError, match="covers frames 1 to 5"):
        sample(addon, imported, range(1, 8))
    scene.camera = None
    with pytest.raises(addon.errors.CameraPathError, match="no camera"):
        sample(addon, imported, [1])


def test_an_unevenly_scaled_shot_is_refused(addon, imported, scene):
    imported.root.scale = (1, 2, 1)
    with pytest.raises(addon.errors.CameraPathError, match="scaled unevenly"):
        sample(addon, imported, [1])


def test_the_added_camera_sees_what_the_source_camera_sees(addon, imported, scene):
    source = sample(addon, imported, [1])
    bpy.ops.ex4d.add_camera()
    assert scene.camera is not imported.source_camera
    added = sample(addon, imported, [1])
    np.testing.assert_allclose(added.world_to_camera[0], np.eye(4), atol=1e-7)
    np.testing.assert_allclose(added.intrinsics, source.intrinsics)
    curves = addon.compat.fcurves_of(scene.camera)
    assert {curve.data_path for curve in curves} == {"location", "rotation_euler"}
    assert all(curve.keyframe_points[0].co[0] == 1 for curve in curves)


def test_the_path_survives_its_file(addon, imported, tmp_path):
    sampled = sample(addon, imported, range(1, 6))
    path = addon.path_sampling.write_camera_npz(tmp_path / "new" / "camera.npz", sampled)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["world_to_camera"], sampled.world_to_camera)
        np.testing.assert_array_equal(file["intrinsics"], sampled.intrinsics)
        assert list(file["size"]) == [sampled.width, sampled.height]
        np.testing.assert_array_equal(file["source_frame"], np.arange(5.0))
    assert [item.name for item in path.parent.iterdir()] == ["camera.npz"]
