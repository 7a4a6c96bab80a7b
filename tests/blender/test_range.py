# SPDX-License-Identifier: Apache-2.0
"""Reconstructing a part of a plate: what is sent, and that everything lies on its own frames."""

import json

import bpy
import numpy as np
import pytest
from conftest import FOCAL_PX, FRAMES, exact_display, write_reconstruction

FIRST, COUNT = 1, 3


@pytest.fixture
def part(addon, imported, fake, scene, shot_depth, plate_frames):
    """Frames 2 to 4 of the plate, reconstructed."""
    used = slice(FIRST, FIRST + COUNT)

    def run(kind, params, inputs, folder):
        files = write_reconstruction(folder, exact_display(shot_depth[used], FOCAL_PX), plate_frames[used])
        record = json.loads(files["shot.json"].read_text(encoding="utf-8"))
        files["shot.json"].write_text(json.dumps(record | {"plate": {"first_frame": FIRST}}), encoding="utf-8")
        return files

    fake._run = run
    imported.use_scene_range = True
    scene.frame_start, scene.frame_end = 1 + FIRST, FIRST + COUNT
    assert bpy.ops.ex4d.reconstruct() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    return imported


def test_the_scenes_range_is_sent_and_becomes_the_plates(part, fake, scene):
    params = fake.submitted[-1][2]
    assert (params["frame_start"], params["frame_count"]) == (FIRST, COUNT)
    assert (part.plate_start, part.plate_frames) == (1 + FIRST, COUNT)
    assert (part.film_start, part.film_frames) == (1, FRAMES)
    assert (scene.frame_start, scene.frame_end) == (1 + FIRST, FIRST + COUNT)
    assert "as Blender read" not in part.shot_notice
    assert part.plate_clip.frame_start == 1, "the file lies where it lay"


def test_handles_are_reconstructed_too_as_far_as_the_plate_goes(addon, imported, fake, scene):
    imported.use_scene_range, imported.handles = True, 1
    scene.frame_start = scene.frame_end = 3
    bpy.ops.ex4d.reconstruct()
    assert [fake.submitted[-1][2][name] for name in ("frame_start", "frame_count")] == [1, 3]
    imported.handles = 3
    fake.cancel(fake.submitted[-1][0])
    addon.session.current.job = None
    bpy.ops.ex4d.reconstruct()
    assert "frame_start" not in fake.submitted[-1][2], "the whole plate"


def test_takes_are_counted_from_the_first_frame_used(addon, part, fake, scene):
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.check_coverage()
    addon.session.drain()
    with np.load(fake.submitted[-1][3]["camera.npz"], allow_pickle=False) as camera:
        assert camera["source_frame"].tolist() == [0, 1, 2]
    scene.frame_end = FRAMES
    assert addon.session.wait(10)
    with pytest.raises(RuntimeError, match="covers frames 2 to 4"):
        bpy.ops.ex4d.render_take()


def test_the_whole_plate_can_be_reconstructed_afterwards(addon, part, fake, scene, shot_depth, plate_frames):
    fake._run = lambda kind, params, inputs, folder: write_reconstruction(
        folder, exact_display(shot_depth, FOCAL_PX), plate_frames
    )
    part.use_scene_range = False
    bpy.ops.ex4d.reconstruct()
    assert "frame_start" not in fake.submitted[-1][2]
    assert addon.session.wait(10)
    assert (part.plate_start, part.plate_frames) == (1, FRAMES)
    assert part.shot_notice == "Audio was ignored."


def test_building_the_mesh_again_finds_the_same_range(addon, part):
    part.use_scene_range = False
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    assert (part.plate_start, part.plate_frames) == (1 + FIRST, COUNT)
    assert "as Blender read" not in part.shot_notice


def test_a_range_outside_the_plate_is_refused(imported, fake, scene):
    imported.use_scene_range = True
    scene.frame_end = FRAMES + 1
    with pytest.raises(RuntimeError, match=f"covers frames 1 to {FRAMES}, the scene 1 to {FRAMES + 1}"):
        bpy.ops.ex4d.reconstruct()


def test_frames_that_only_blender_counted_are_said(addon, imported, fake, scene, shot_depth, plate_frames):
    fake._run = lambda kind, params, inputs, folder: write_reconstruction(
        folder, exact_display(shot_depth[:4], FOCAL_PX), plate_frames[:4]
    )
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert f"The plate has 4 frames, not {FRAMES} as Blender read." in imported.shot_notice
    assert (imported.plate_frames, scene.frame_end) == (4, 4)
