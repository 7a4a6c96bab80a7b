# SPDX-License-Identifier: Apache-2.0
"""The plate's time as a keyed number: what is shown and what is sent are the same of its frames."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import FOCAL_PX, FRAMES, exact_display, expected_vertices, write_reconstruction

TIMES = {
    "PLAY": [1, 2, 3, 4, 5],
    "FREEZE": [4, 4, 4, 4, 4],
    "REVERSE": [5, 4, 3, 2, 1],
    "HOLD": [1, 2, 2, 2, 3],
    "RAMP": [1, 1, 2, 2, 3],
}
SETTINGS = {"FREEZE": {"frame": 4}, "HOLD": {"frame": 2, "hold": 2}, "RAMP": {"speed": 0.0}}


def key(time, **settings):
    assert bpy.ops.ex4d.key_plate_time(time=time, **{**SETTINGS.get(time, {}), **settings}) == {"FINISHED"}


def shown_by_mesh(state, display, frame):
    """Which of the plate's frames the mesh shows at a scene frame, in the scene's count."""
    bpy.context.scene.frame_set(frame)
    mesh = state.mesh.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    errors = np.abs(expected_vertices(display) - points.reshape(-1, 3)).max(axis=(1, 2))
    assert errors.min() < 1e-5
    return int(errors.argmin()) + 1


def sent(addon, state, frames):
    path = addon.path_sampling.sample_camera_path(
        bpy.context, state.root, frames, state.plate_start, state.plate_frames
    )
    return [int(frame) + state.plate_start for frame in path.source_frame]


@pytest.fixture
def display(reconstructed, shot_depth):
    return exact_display(shot_depth, FOCAL_PX)


@pytest.mark.parametrize("time", TIMES)
def test_mesh_and_take_have_the_same_frame_of_the_plate(addon, reconstructed, display, time):
    key(time)
    frames = range(1, FRAMES + 1)
    assert [shown_by_mesh(reconstructed, display, frame) for frame in frames] == TIMES[time]
    assert sent(addon, reconstructed, frames) == TIMES[time]


def test_what_is_sent_is_what_is_shown_between_keys_of_any_kind(addon, reconstructed, display):
    rng = np.random.default_rng(0)
    frames = range(-3, 12)
    for _ in range(4):
        addon.plate_time.key(reconstructed, list(frames), list(rng.uniform(-2, FRAMES + 4, len(frames))))
        assert [shown_by_mesh(reconstructed, display, frame) for frame in frames] == sent(addon, reconstructed, frames)


def test_the_number_may_be_driven_or_set_without_keys(addon, scene, reconstructed, display):
    key("PLAY")
    addon.compat.remove_fcurve(reconstructed.root, addon.plate_time.DATA_PATH)
    reconstructed.root[addon.plate_time.PROPERTY] = 3.0
    reconstructed.root.update_tag()
    assert shown_by_mesh(reconstructed, display, 5) == 3
    assert sent(addon, reconstructed, [1, 5]) == [3, 3]


def test_the_saved_file_plays_it_without_the_addon(addon, saved, reconstructed, display, tmp_path):
    key("REVERSE")
    bpy.ops.wm.save_mainfile()
    script, out = Path(__file__).parent / "playback.py", tmp_path / "played.npz"
    profile = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "empty")}
    (tmp_path / "empty").mkdir()
    subprocess.run([sys.executable, script, saved, out], env=profile, check=True, timeout=120, capture_output=True)
    with np.load(out, allow_pickle=False) as played:
        vertices, pictures = played["vertices"], played["pictures"]
    np.testing.assert_allclose(vertices, expected_vertices(display)[::-1], rtol=1e-6, atol=1e-5)
    greens = np.median(pictures[..., 1], axis=(1, 2))
    np.testing.assert_allclose(greens, (40 * np.arange(FRAMES) + 20)[::-1], atol=3)


def test_the_source_cameras_background_follows(reconstructed):
    lens = reconstructed.source_camera.data
    background = lens.background_images[0]
    assert background.source == "MOVIE_CLIP"
    key("FREEZE")
    assert (background.source, background.image) == ("IMAGE", reconstructed.shot_image)
    bpy.context.scene.frame_set(2)
    user = lens.evaluated_get(bpy.context.evaluated_depsgraph_get()).background_images[0].image_user
    assert 2 - user.frame_start + 1 + user.frame_offset == 4
    key("CLEAR")
    assert background.source == "MOVIE_CLIP"


def test_a_plate_whose_camera_moved_stands_where_it_was_filmed(addon, scene, reconstructed, shot_depth, plate_frames):
    motion = np.tile(np.eye(4), (FRAMES, 1, 1))
    motion[:, 0, 3] = 0.5 * np.arange(FRAMES)
    display = exact_display(shot_depth, FOCAL_PX) | {"source_camera_to_world": motion}
    folder = addon.shots.shot_folder(scene)
    write_reconstruction(folder, display, plate_frames)
    key("REVERSE")
    addon.reconstruction.show(scene, folder)
    assert addon.session.wait(10)
    for frame in range(1, FRAMES + 1):
        scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        for item in (reconstructed.mesh, reconstructed.source_camera):
            assert abs(item.evaluated_get(graph).location.x - 0.5 * (FRAMES - frame)) < 1e-6
    assert abs(addon.motion.pose_at(reconstructed.source_camera, 1).translation.x) < 1e-6
    key("CLEAR")
    scene.frame_set(FRAMES)
    assert abs(reconstructed.mesh.matrix_basis.translation.x - 0.5 * (FRAMES - 1)) < 1e-6


def test_removing_the_keys_lets_the_plate_play_as_filmed_and_leaves_nothing_over(addon, reconstructed, display):
    def left():
        materials = reconstructed.mesh.data.materials
        users = [node.image_user for node in materials[0].node_tree.nodes if node.bl_idname == "ShaderNodeTexImage"]
        group = reconstructed.mesh.modifiers[0].node_group
        owners = [group, *(m.node_tree for m in materials), reconstructed.mesh, reconstructed.source_camera.data]
        drivers = [len(owner.animation_data.drivers) for owner in owners if owner.animation_data]
        return [(u.frame_start, u.frame_duration, u.frame_offset) for u in users], sum(drivers), len(group.links)

    before = left()
    key("REVERSE")
    assert left() != before
    key("CLEAR")
    assert left() == before
    assert addon.plate_time.PROPERTY not in reconstructed.root
    assert [shown_by_mesh(reconstructed, display, frame) for frame in range(1, FRAMES + 1)] == TIMES["PLAY"]


def test_a_frozen_plate_gives_takes_longer_than_itself_at_their_place(addon, scene, fake, reconstructed, plate_frames):
    scene.frame_start, scene.frame_end = 3, 3 + FRAMES - 1
    bpy.ops.ex4d.add_camera()
    with pytest.raises(RuntimeError, match="or key Plate Time"):
        bpy.ops.ex4d.render_take()
    key("FREEZE", frame=2)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    with np.load(fake.submitted[-1][3]["camera.npz"], allow_pickle=False) as camera:
        assert list(camera["source_frame"]) == [1.0] * FRAMES
    strip = next(strip for strip in addon.compat.all_strips(scene) if strip.name == "take_01")
    assert addon.compat.strip_range(strip) == (3, FRAMES)


def test_no_driver_needs_python(reconstructed):
    key("RAMP")
    data = reconstructed.mesh.data
    owners = [reconstructed.mesh.modifiers[0].node_group, *(m.node_tree for m in data.materials)]
    owners.append(reconstructed.source_camera.data)
    for owner in owners:
        assert all(curve.driver.is_simple_expression for curve in owner.animation_data.drivers)


def test_without_a_mesh_the_button_says_why(addon, fake, imported):
    assert not bpy.ops.ex4d.key_plate_time.poll()
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert bpy.ops.ex4d.key_plate_time.poll()
    bpy.data.objects.remove(imported.mesh)
    assert "mesh was deleted" in addon.operators.grey.no_mesh(bpy.context)
