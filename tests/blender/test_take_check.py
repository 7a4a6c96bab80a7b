# SPDX-License-Identifier: Apache-2.0
"""Check Result: what is sent, what the figures become, and the way to the worst frame."""

import json

import bpy
import pytest
from drawing import draw_panels


@pytest.fixture
def take(addon, scene, reconstructed):
    """A rendered take from scene frame 1 on."""
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    folder = addon.takes.take_folder(scene, "take_01")
    for name in ("color.mkv", "mask.mkv"):
        (folder / name).write_bytes(b"any")
    return folder


def test_a_take_is_measured_and_its_worst_frames_are_one_click_away(addon, fake, scene, take):
    assert bpy.ops.ex4d.check_result() == {"FINISHED"}
    while addon.session.drain():
        assert "ex4d.check_result" not in draw_panels(addon) or addon.session.current.job is None
    assert addon.session.current.error == ""
    _, kind, params, inputs, folder = fake.submitted[-1]
    assert (kind, params, folder) == ("evaluate", {"name": "take_01"}, take)
    assert set(inputs) == {"shot.json", "plate.mkv", "depth.npz", *addon.take_check.TAKE_ROLES}
    said = draw_panels(addon)
    assert {
        "Camera: good, 0.20 px off (4)",
        "Found: fair, 80% of frames (2)",
        "Plate kept: poor, 21 dB (5)",
        "Flicker: cannot be told",
        "Painted: good, 10% (3)",
    } <= set(said)
    assert bpy.ops.ex4d.go_to_frame(frame=4) == {"FINISHED"}
    assert scene.frame_current == 4


def test_the_worst_frame_stands_where_the_take_does(addon, scene, take):
    assert bpy.ops.ex4d.check_result() == {"FINISHED"}
    assert addon.session.wait(10)
    (item,) = scene.ex4d.takes
    assert addon.take_check.scene_frame(scene.ex4d, item, 3) == 4
    (take / "scene.json").write_text(json.dumps({"frame_start": 101}), encoding="utf-8")
    item.check = addon.take_check.read_check(take)
    assert addon.take_check.scene_frame(scene.ex4d, item, 3) == 104


def test_a_check_stays_with_the_file_and_with_undo(addon, scene, take, saved):
    bpy.ops.ex4d.check_result()
    assert addon.session.wait(10)
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(saved))
    assert "Camera: good, 0.20 px off (4)" in draw_panels(addon)


@pytest.mark.parametrize("record", ["[]", "{}", '{"schema": 1, "totals": 3, "summary": {}}', "no json"])
def test_a_check_that_cannot_be_read_says_so(addon, scene, take, record):
    (take / "evaluation.json").write_text(record, encoding="utf-8")
    with pytest.raises(addon.errors.ShotDataError, match="Check the result again"):
        addon.take_check.read_check(take)


def test_missing_files_are_named(addon, scene, take):
    (take / "result.mkv").unlink()
    with pytest.raises(RuntimeError, match=r"result\.mkv is missing"):
        bpy.ops.ex4d.check_result()


def test_what_is_not_rendered_cannot_be_checked(addon, scene, reconstructed):
    assert not bpy.ops.ex4d.check_result.poll()
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.plan_takes(cameras="SCENE")
    assert not bpy.ops.ex4d.check_result.poll()
    scene.ex4d.takes[0].is_planned, scene.ex4d.takes[0].summary = False, addon.take_list.GONE
    assert addon.operators.check.gone(bpy.context) == "The selected take's files are gone"


def test_words_follow_the_better_way(addon):
    words = {question.label: question.word for question in addon.take_check.QUESTIONS}
    assert [words["Camera"](value) for value in (0.5, 0.6, 1.1)] == ["good", "fair", "poor"]
    assert [words["Plate kept"](value) for value in (40, 30, 20)] == ["good", "fair", "poor"]
