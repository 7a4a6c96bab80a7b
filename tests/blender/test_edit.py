# SPDX-License-Identifier: Apache-2.0
"""A shot in the edit: its meta strip, the passes, and takes compared with the plate and with each other."""

import json
import shutil
import zipfile

import bpy
import numpy as np
import pytest
from conftest import FRAMES, HEIGHT, WIDTH


@pytest.fixture
def takes(addon, reconstructed):
    """Two takes, rendered one after the other."""
    bpy.ops.ex4d.add_camera()
    for _ in range(2):
        bpy.ops.ex4d.render_take()
        assert addon.session.wait(10)
    return reconstructed


def strip_named(addon, scene, name):
    return next(strip for strip in addon.compat.all_strips(scene) if strip.name == name)


def names(addon, scene):
    return {strip.name for strip in addon.compat.all_strips(scene)}


def load(addon, part):
    bpy.ops.ex4d.load_result(part=part)
    assert addon.session.wait(10)
    return addon.session.current.error


def rendered(scene, frame, path):
    """What the edit shows. float [H, W, 3], row 0 at the bottom"""
    scene.render.use_sequencer = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(path)
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    pixels = np.empty(WIDTH * HEIGHT * 4, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(HEIGHT, WIDTH, 4)[..., :3]


def move_to(strip, frame):
    if hasattr(strip, "content_start"):  # 5.1 deprecated the older name
        strip.content_start = frame
    else:
        strip.frame_start = frame


def test_the_edit_has_one_strip_for_the_shot_and_shows_its_newest_take(addon, scene, takes, tmp_path, plate_frames):
    top = list(addon.compat.sequencer_strips(scene))
    assert [(strip.name, strip.type) for strip in top] == [("My_plate", "META")]
    assert addon.compat.strip_range(top[0]) == (1, FRAMES)
    inside = {strip.name: strip.channel for strip in addon.compat.strips_in(top[0])}
    assert inside == {"My_plate plate": 1, "take_01": 2, "take_02": 3}
    shown = rendered(scene, 3, tmp_path / "shown.png")
    np.testing.assert_allclose(shown.mean(axis=(0, 1)) * 255, (plate_frames[2] // 2).mean(axis=(0, 1)), atol=8)


def test_takes_follow_a_shot_that_was_moved_in_the_edit(addon, scene, takes):
    meta = addon.sequencer.meta_strip(scene, takes.shot_id)
    move_to(meta, 101)
    moved = strip_named(addon, scene, "take_01")
    assert addon.compat.strip_range(moved)[0] == 101
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    assert addon.compat.strip_range(strip_named(addon, scene, "take_03")) == (101, FRAMES)
    assert addon.compat.strip_range(meta) == (101, FRAMES)
    assert addon.compat.strip_range(moved)[0] == 101


def test_the_edit_is_found_again_in_the_saved_file(addon, scene, takes):
    bpy.ops.ex4d.compare_take()
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    scene = bpy.context.scene
    before = names(addon, scene)
    assert addon.sequencer.wipe_strip(scene, scene.ex4d.shot_id) is not None
    assert load(addon, "RESULT") == ""
    assert names(addon, scene) == before
    meta = addon.sequencer.meta_strip(scene, scene.ex4d.shot_id)
    assert addon.compat.strip_range(meta) == (1, FRAMES)


def test_a_shot_that_the_artist_cut_stays_as_it_was_cut(addon, scene, takes):
    meta = addon.sequencer.meta_strip(scene, takes.shot_id)
    addon.compat.set_strip_range(meta, 2, 2)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert addon.compat.strip_range(meta) == (2, 2)


def test_a_meta_strip_that_was_taken_apart_stays_apart(addon, scene, takes):
    addon.sequencer.meta_strip(scene, takes.shot_id).separate()
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    top = {strip.name: strip.type for strip in addon.compat.sequencer_strips(scene)}
    assert set(top) == {"My_plate plate", "take_01", "take_02", "take_03"}


def test_a_take_is_wiped_against_the_plate(addon, scene, takes, tmp_path, plate_frames):
    takes.active_take = 0
    assert bpy.ops.ex4d.compare_take() == {"FINISHED"}
    wipe = addon.sequencer.wipe_strip(scene, takes.shot_id)
    assert addon.compat.strip_range(wipe) == (1, FRAMES)
    assert wipe.name == "take_01 | plate"
    picture = rendered(scene, 3, tmp_path / "wiped.png") * 255
    take, plate = plate_frames[2, 0, 0, 1] // 2, plate_frames[2, 0, 0, 1]
    np.testing.assert_allclose(picture[:, 1, 1], take, atol=8)
    np.testing.assert_allclose(picture[:, -2, 1], plate, atol=8)
    wipe.effect_fader = 1.0
    np.testing.assert_allclose(rendered(scene, 3, tmp_path / "all.png")[:, -2, 1] * 255, take, atol=8)


def test_the_wipe_can_be_keyed(addon, scene, takes, tmp_path):
    takes.active_take = 0
    bpy.ops.ex4d.compare_take()
    wipe = addon.sequencer.wipe_strip(scene, takes.shot_id)
    for frame, place in ((1, 0.0), (FRAMES, 1.0)):
        wipe.effect_fader = place
        wipe.keyframe_insert("effect_fader", frame=frame)
    greens = [rendered(scene, frame, tmp_path / "k.png")[:, WIDTH // 2, 1].mean() for frame in (1, FRAMES)]
    assert greens[0] * 255 == pytest.approx(20, abs=4), "the plate"
    assert greens[1] * 255 == pytest.approx(90, abs=4), "half of the plate's 180: the take"


def test_two_takes_are_wiped_against_each_other_and_the_wipe_goes_again(addon, scene, takes):
    takes.active_take = 1
    bpy.ops.ex4d.compare_take(other="take_01")
    assert addon.sequencer.wipe_strip(scene, takes.shot_id).name == "take_02 | take_01"
    bpy.ops.ex4d.compare_take()
    wipes = [strip for strip in addon.compat.all_strips(scene) if strip.type == "WIPE"]
    assert [strip.name for strip in wipes] == ["take_02 | plate"], "one at a time"
    assert bpy.ops.ex4d.stop_comparing() == {"FINISHED"}
    assert {"take_01", "take_02", "My_plate plate"} <= names(addon, scene)
    assert not bpy.ops.ex4d.stop_comparing.poll()


def test_what_is_not_in_the_edit_is_not_compared(addon, scene, takes):
    home = addon.sequencer.home(scene, takes.shot_id)
    home.remove(strip_named(addon, scene, "take_01"))
    takes.active_take = 0
    with pytest.raises(RuntimeError, match="take_01 is not in the sequencer"):
        bpy.ops.ex4d.compare_take()


def write_depth(folder):
    """A depth pass as it arrives: one file; every pixel 4 shot units away."""
    image = bpy.data.images.new("depth", WIDTH, HEIGHT, float_buffer=True, is_data=True)
    image.pixels.foreach_set([4.0, 4.0, 4.0, 1.0] * (WIDTH * HEIGHT))
    image.file_format, image.filepath_raw = "OPEN_EXR", str(folder / "one.exr")
    image.save()
    bpy.data.images.remove(image)
    with zipfile.ZipFile(folder / "depth.zip", "w") as archive:
        for number in range(1, FRAMES + 1):
            archive.write(folder / "one.exr", f"depth/depth.{number:04d}.exr")
        archive.writestr("depth/depth.json", json.dumps({"nearest": 4.0, "farthest": 4.0}))
        archive.writestr("../outside.exr", "not ours")
        archive.writestr("depth/../../outside.exr", "not ours")


def test_the_depth_comes_as_pictures_and_far_is_white(addon, scene, takes, tmp_path):
    folder = addon.takes.take_folder(scene, "take_02")
    write_depth(folder)
    assert load(addon, "DEPTH") == ""
    strip = strip_named(addon, scene, "take_02 depth")
    assert (strip.type, len(strip.elements), strip.mute) == ("IMAGE", FRAMES, True)
    assert addon.compat.strip_range(strip) == (1, FRAMES)
    assert strip.directory.startswith("//ex4d/My_plate/takes/take_02/depth")
    assert not (folder / "depth.zip").exists()
    assert not list(tmp_path.rglob("outside.exr"))
    strip.mute = False
    np.testing.assert_allclose(rendered(scene, 2, tmp_path / "depth.png"), 1.0, atol=0.02)
    pointer = strip.as_pointer()
    assert load(addon, "DEPTH") == ""
    assert strip_named(addon, scene, "take_02 depth").as_pointer() == pointer, "it is there already"


def test_a_pass_that_was_not_asked_for_says_how_to_get_it(addon, takes):
    assert "Tick Depth Pass and duplicate the take" in load(addon, "DEPTH")
    assert "Tick Clean Plate" in load(addon, "CLEAN")


def test_the_clean_plate_is_a_muted_strip(addon, scene, takes):
    folder = addon.takes.take_folder(scene, "take_02")
    shutil.copyfile(folder / "result.mkv", folder / "clean.mkv")
    assert load(addon, "CLEAN") == ""
    assert strip_named(addon, scene, "take_02 clean plate").mute


def test_the_passes_are_sent_only_when_they_are_wanted(addon, fake, scene, reconstructed):
    assert addon.painting.params_of(reconstructed) == {"engine": "auto", "seed": 0}
    reconstructed.use_depth_pass = reconstructed.use_clean_plate = True
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert fake.submitted[-1][2]["depth_pass"] is True
    assert fake.submitted[-1][2]["clean_plate"] is True
