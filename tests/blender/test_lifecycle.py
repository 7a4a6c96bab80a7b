# SPDX-License-Identifier: Apache-2.0
"""Disabling the add-on leaves nothing behind; the .blend plays without it."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import addon_utils
import bpy
import numpy as np
from conftest import FOCAL_PX, FRAMES, PACKAGE, exact_display, expected_vertices, write_reconstruction

PLAYBACK = Path(__file__).with_name("playback.py")


def footprint():
    """Everything that an add-on can leave in Blender, by kind."""
    handlers = {
        name: value for name in dir(bpy.app.handlers) if isinstance(value := getattr(bpy.app.handlers, name), list)
    }
    return {
        "handlers": {f"{name} {function}" for name, functions in handlers.items() for function in functions},
        "types": {name for name in dir(bpy.types) if "EX4D" in name},
        "operators": set(dir(bpy.ops.ex4d)),
        "properties": {item.identifier for item in bpy.types.Scene.bl_rna.properties if "ex4d" in item.identifier},
        "attributes": {name for name in dir(bpy.types.Scene) if "ex4d" in name},
        "threads": {thread.name for thread in threading.enumerate() if "ex4d" in thread.name},
    }


def test_disabling_leaves_nothing_behind_and_enabling_brings_the_scene_back(addon, fake, reconstructed, scene):
    addon.session.close()
    enabled = footprint()
    shot_id = scene.ex4d.shot_id
    addon_utils.disable(PACKAGE, default_set=False)
    left = footprint()
    assert left.pop("handlers") == enabled["handlers"]
    assert left == {"types": set(), "operators": set(), "properties": set(), "attributes": set(), "threads": set()}
    for _ in range(3):
        assert addon_utils.enable(PACKAGE, default_set=False) is not None
        addon_utils.disable(PACKAGE, default_set=False)
    assert addon_utils.enable(PACKAGE, default_set=False) is not None
    assert footprint() == enabled
    assert bpy.context.scene.ex4d.shot_id == shot_id
    assert bpy.context.scene.ex4d.mesh is not None


def test_disabling_in_the_middle_of_a_job_ends_the_threads(addon, imported):
    addon.session.call("Reading", sum, [1], on_done=print)
    assert any("ex4d" in thread.name for thread in threading.enumerate())
    addon_utils.disable(PACKAGE, default_set=False)
    try:
        assert not any("ex4d" in thread.name for thread in threading.enumerate())
    finally:
        addon_utils.enable(PACKAGE, default_set=False)


def test_the_saved_file_plays_mesh_and_plate_without_the_addon(
    addon, reconstructed, scene, saved, shot_depth, plate_frames, tmp_path
):
    torn = np.abs(np.diff(shot_depth[:, 1:], axis=2)) > 2
    display = exact_display(shot_depth, FOCAL_PX, torn)
    write_reconstruction(addon.shots.shot_folder(scene), display, plate_frames)
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    bpy.ops.ex4d.add_camera()
    bpy.ops.wm.save_mainfile()
    moved = tmp_path / "moved"  # the whole folder on another machine
    moved.mkdir()
    for name in ("shot.blend", "ex4d", "My plate.avi"):
        shutil.move(str(saved.parent / name), str(moved / name))
    subprocess.run(
        [sys.executable, str(PLAYBACK), str(moved / "shot.blend"), str(tmp_path / "played.npz")],
        env={"BLENDER_USER_RESOURCES": str(tmp_path / "no addon"), "PATH": ""},
        check=True,
        timeout=60,
    )
    with np.load(tmp_path / "played.npz", allow_pickle=False) as played:
        np.testing.assert_allclose(played["vertices"], expected_vertices(display), rtol=1e-6, atol=1e-6)
        assert played["images_found"].all()
        rendered = played["pictures"]  # seen through the source view: the plate itself
    green = (40 * np.arange(FRAMES) + 20)[:, None, None]
    assert torn.any()
    assert np.abs(rendered[..., 1].astype(int) - green).max() <= 2, "each frame shows its own picture of the plate"
    assert np.abs(rendered[..., 2].astype(int) - 90).max() <= 2
