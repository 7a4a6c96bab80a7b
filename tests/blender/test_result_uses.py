# SPDX-License-Identifier: Apache-2.0
"""A take in the scene itself: behind the camera, in the compositor, on the mesh."""

import shutil

import bpy
import numpy as np
import pytest
from conftest import FRAMES, HEIGHT, WIDTH


@pytest.fixture
def take(addon, scene, reconstructed):
    """A take of a camera that moves to the right."""
    bpy.ops.ex4d.add_camera()
    for frame, x in ((1, 0.4), (FRAMES, 0.8)):
        scene.camera.location.x = x
        scene.camera.keyframe_insert("location", frame=frame)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    return reconstructed


def use(addon, way):
    assert bpy.ops.ex4d.use_result(use=way) == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""


def test_the_result_stands_behind_what_the_camera_sees(addon, scene, take):
    for _ in range(2):  # a second time replaces the first
        use(addon, "BACKGROUND")
    data = scene.camera.data
    (background,) = data.background_images
    assert data.show_background_images
    assert background.image.filepath == "//ex4d/My_plate/takes/take_01/result.mkv"
    user = background.image_user
    assert (user.frame_start, user.frame_duration, user.use_auto_refresh) == (1, FRAMES, True)
    assert take.source_camera.data.background_images[0].clip == take.plate_clip, "the plate's own stays"


def test_the_plates_own_camera_gets_no_take_behind_it(addon, scene, take):
    scene.camera = take.source_camera
    with pytest.raises(RuntimeError, match="the one that filmed the plate"):
        bpy.ops.ex4d.use_result(use="BACKGROUND")


def test_the_compositor_gets_a_node_for_each_part_and_the_render_stays(addon, scene, take):
    folder = addon.takes.take_folder(scene, "take_01")
    for name in ("mask.mkv", "color.mkv", "clean.mkv"):
        shutil.copyfile(folder / "result.mkv", folder / name)
    for _ in range(2):
        use(addon, "COMPOSITOR")
    tree = addon.compat.compositor_tree(scene)
    ours = [node for node in tree.nodes if node.get("ex4d_take") == "take_01"]
    images = {node.label: node for node in ours if node.bl_idname == "CompositorNodeImage"}
    assert set(images) == {"Result", "Matte", "Mesh", "Clean Plate"}
    assert (images["Result"].frame_start, images["Result"].frame_duration) == (1, FRAMES)
    assert images["Matte"].image.filepath.endswith("mask.mkv")
    assert not any(output.is_linked for node in images.values() for output in node.outputs)
    layers = next(node for node in tree.nodes if node.bl_idname == "CompositorNodeRLayers")
    assert layers.outputs["Image"].is_linked, "what is rendered still shows the scene"


def projected(scene, state):
    """Texture coordinates of the evaluated mesh's corners, and the vertices they are of."""
    mesh = state.mesh.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    uv = np.empty(2 * len(mesh.loops), dtype=np.float32)
    mesh.attributes["EX-4D Projection"].data.foreach_get("vector", uv)
    corners = np.empty(len(mesh.loops), dtype=np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    return uv.reshape(-1, 2), points.reshape(-1, 3)[corners]


def test_the_result_lies_on_the_mesh_as_its_camera_saw_it(addon, scene, take):
    scene.camera.location.x = 5  # what became of the artist's camera does not matter
    scene.camera.keyframe_insert("location", frame=1)
    use(addon, "TEXTURE")
    state = take
    with np.load(addon.takes.take_folder(scene, "take_01") / "camera.npz", allow_pickle=False) as file:
        poses, intrinsics = file["world_to_camera"], file["intrinsics"]
    for frame in (1, FRAMES):
        scene.frame_set(frame)
        uv, points = projected(scene, state)
        opencv = points[:, [0, 2, 1]] * [1, -1, 1]  # the mesh lies in the Empty's axes: x right, y away, z up
        seen = (opencv @ poses[frame - 1][:3, :3].T + poses[frame - 1][:3, 3]) @ intrinsics[frame - 1].T
        pixels = seen[:, :2] / seen[:, 2:]
        expected = np.column_stack([pixels[:, 0] / WIDTH, 1 - pixels[:, 1] / HEIGHT])
        inside = ((expected > 0) & (expected < 1)).all(axis=1) & (seen[:, 2] > 0)
        assert inside.sum() > 100
        np.testing.assert_allclose(uv[inside], expected[inside], atol=2e-3)


def test_the_mesh_shows_the_take_and_then_the_plate_again(addon, scene, take):
    before = [slot.material for slot in take.mesh.material_slots]
    materials = len(bpy.data.materials)
    for _ in range(2):
        use(addon, "TEXTURE")
    for slot in take.mesh.material_slots:
        assert slot.link == "OBJECT"
        images = {
            node.image.filepath
            for node in slot.material.node_tree.nodes
            if node.bl_idname == "ShaderNodeTexImage" and node.image
        }
        assert "//ex4d/My_plate/takes/take_01/result.mkv" in images
    assert len([item for item in scene.objects if item.get("ex4d_take")]) == 1, "one camera for the take"
    assert len(bpy.data.materials) == materials + len(before)
    use(addon, "PLATE")
    assert [slot.material for slot in take.mesh.material_slots] == before
    assert len(bpy.data.materials) == materials
    assert "EX-4D Projection" not in take.mesh.modifiers


def test_without_a_mesh_nothing_is_projected(addon, scene, take):
    bpy.data.objects.remove(take.mesh)
    with pytest.raises(RuntimeError, match="mesh was deleted"):
        bpy.ops.ex4d.use_result(use="TEXTURE")
