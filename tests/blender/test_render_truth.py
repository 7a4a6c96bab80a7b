# SPDX-License-Identifier: Apache-2.0
"""examples/render_truth.py in Blender: exact depth and cameras of a scene whose answers are known."""

import importlib.util
import json
from pathlib import Path

import bpy
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WIDTH, HEIGHT = 48, 32
CARD_M, WALL_M, ASIDE_M = 3.0, 6.0, 0.5


@pytest.fixture
def render_truth():
    spec = importlib.util.spec_from_file_location("render_truth", EXAMPLES / "render_truth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scene():
    """A card before a wall, above them nothing; a still camera at the origin and one that moves to the right."""
    bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.render.resolution_x, scene.render.resolution_y = 2 * WIDTH, 2 * HEIGHT
    scene.render.resolution_percentage = 50
    bpy.ops.mesh.primitive_plane_add(size=1, location=(0, CARD_M, 0), rotation=(np.pi / 2, 0, 0))
    bpy.ops.mesh.primitive_plane_add(size=20, location=(0, WALL_M, -10), rotation=(np.pi / 2, 0, 0))
    for name in ("film", "second"):
        lens = bpy.data.cameras.new(name)
        lens.lens, lens.clip_end = 36.0, 80.0
        camera = bpy.data.objects.new(name, lens)
        camera.rotation_euler = (np.pi / 2, 0, 0)
        scene.collection.objects.link(camera)
    scene.camera = bpy.data.objects["film"]
    bpy.data.cameras["second"].shift_x = 0.125
    second = bpy.data.objects["second"]
    for frame, aside in ((5, 0.0), (6, ASIDE_M)):
        second.location.x = aside
        second.keyframe_insert("location", frame=frame)
    return scene


def test_depth_and_cameras_are_those_of_the_scene(render_truth, scene, tmp_path):
    render_truth.render_truth("second", tmp_path, range(5, 7), every=1)
    depth = np.load(tmp_path / "depth.npz", allow_pickle=False)["depth"]
    assert depth.shape == (2, HEIGHT, WIDTH)
    assert depth[0, HEIGHT // 2 + 2, WIDTH // 2] == pytest.approx(CARD_M, rel=1e-5)
    assert depth[0, HEIGHT - 1, 0] == pytest.approx(WALL_M, rel=1e-5)
    assert depth[0, 0, 0] == 80  # nothing: the clip end
    # The card's edges lie at 0.5 / 3 of the focal length, 48 px for 36 mm on 36 mm: 8 px from the middle.
    card = np.flatnonzero(np.isclose(depth[0, HEIGHT // 2 + 2], CARD_M, rtol=1e-5))
    assert (card[0], card[-1]) == (WIDTH // 2 - 8, WIDTH // 2 + 7)

    cameras = np.load(tmp_path / "second_camera.npz", allow_pickle=False)
    assert cameras["size"].tolist() == [WIDTH, HEIGHT]
    expected = np.eye(4)
    assert np.allclose(cameras["world_to_camera"][0], expected, atol=1e-6)
    expected[0, 3] = -ASIDE_M
    assert np.allclose(cameras["world_to_camera"][1], expected, atol=1e-6)
    assert np.allclose(cameras["intrinsics"][1], [[48, 0, WIDTH / 2 - 6], [0, 48, HEIGHT / 2], [0, 0, 1]], atol=1e-4)
    # In the second view the card moves by 48 * 0.5 / 3 px for the place and by 6 px for the shift.
    truth = np.load(tmp_path / "truth_depth.npz", allow_pickle=False)["depth"]
    card = np.flatnonzero(np.isclose(truth[1, HEIGHT // 2 + 2], CARD_M, rtol=1e-5))
    assert (card[0], card[-1]) == (WIDTH // 2 - 8 - 8 - 6, WIDTH // 2 + 7 - 8 - 6)

    assert not (tmp_path / "source_camera.npz").exists()
    assert json.loads((tmp_path / "camera.json").read_text())["focal_px"] == pytest.approx(48)
    for folder in ("plate", "truth"):
        assert sorted(file.name for file in (tmp_path / folder).iterdir()) == ["0000.png", "0001.png"]


def test_a_camera_that_is_not_there_is_named(render_truth, scene, tmp_path):
    with pytest.raises(SystemExit, match=r"no camera 'third'\. The scene has film, second"):
        render_truth.render_truth("third", tmp_path, range(5, 6))
