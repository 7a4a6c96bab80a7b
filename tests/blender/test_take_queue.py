# SPDX-License-Identifier: Apache-2.0
"""Several takes on their way at once: planned, sent with one click, each with its own status and cancel."""

import json
from importlib import import_module

import bpy
import numpy as np
import pytest
from conftest import FRAMES, PACKAGE
from drawing import draw_panels


@pytest.fixture
def cameras(scene, reconstructed):
    """Two cameras at different places, both selected."""
    found = []
    for x in (0.25, 0.5):
        bpy.ops.ex4d.add_camera()
        scene.camera.location.x += x
        scene.camera.keyframe_insert("location", frame=1)
        scene.camera.name = f"cam {x}"
        found.append(scene.camera)
    for item in scene.objects:
        item.select_set(item in found)
    return found


def path_of(addon, scene, name):
    with np.load(addon.takes.take_folder(scene, name) / "camera.npz", allow_pickle=False) as file:
        return dict(file)


def sent_jobs(fake):
    return {job[2]["name"]: job for job in fake.submitted if job[1] == "take"}


def states(addon, state):
    return {item.name: addon.panels.result.status_of(state, item) for item in state.takes}


def drain_until(addon, test):
    for _ in range(200):
        if test():
            return
        addon.session.drain()
    raise AssertionError("it did not come to that")


def test_a_take_for_each_selected_camera_goes_out_with_one_click(addon, fake, scene, reconstructed, cameras):
    state = reconstructed
    state.seed = 5
    assert bpy.ops.ex4d.plan_takes(cameras="SELECTED") == {"FINISHED"}
    assert states(addon, state) == {"take_01": "planned, cam 0.25", "take_02": "planned, cam 0.5"}
    assert state.take_name == "take_03"
    state.takes[1].seed = 6
    assert not sent_jobs(fake), "planning sends nothing"
    assert bpy.ops.ex4d.render_planned() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    jobs = sent_jobs(fake)
    assert {name: job[2]["seed"] for name, job in jobs.items()} == {"take_01": 5, "take_02": 6}
    x = [path_of(addon, scene, name)["world_to_camera"][0, 0, 3] for name in jobs]
    np.testing.assert_allclose(x, [-0.25, -0.5], atol=1e-6)
    assert states(addon, state) == {"take_01": "10% Preview Fill", "take_02": "10% Preview Fill"}
    channels = {strip.name: strip.channel for strip in addon.compat.all_strips(scene)}
    assert channels["take_01"] < channels["take_02"], "versions are stacked"


def test_each_take_says_where_it_stands_and_is_stopped_by_itself(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    bpy.ops.ex4d.render_planned()
    seen, both = set(), []

    def both_are_sent():
        seen.add(states(addon, reconstructed)["take_01"])
        both.append(draw_panels(addon).count("ex4d.cancel_take"))
        return len(sent_jobs(fake)) == 2

    drain_until(addon, both_are_sent)
    assert {"Sending", "Uploading"} & seen
    assert max(both) >= 2, "one for each, and one for the selected take"
    assert bpy.ops.ex4d.cancel_take(take="take_02") == {"FINISHED"}
    assert states(addon, reconstructed)["take_02"] == "Cancelling..."
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {"take_01": "10% Preview Fill", "take_02": "planned, cam 0.5"}
    assert not (addon.takes.take_folder(scene, "take_02") / "job.json").exists()
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert states(addon, reconstructed)["take_02"] == "10% Preview Fill"


def test_a_take_is_stopped_before_its_camera_is_written(addon, fake, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    bpy.ops.ex4d.cancel_take()
    assert addon.session.wait(10)
    assert sent_jobs(fake) == {}
    assert states(addon, reconstructed) == {"take_01": "planned"}


def test_one_that_fails_says_why_and_holds_up_nobody(addon, fake, scene, reconstructed, cameras):
    errors = import_module(f"{PACKAGE}.shared_protocol.errors")
    run = fake._run

    def sometimes(kind, params, inputs, folder):
        if params["name"] == "take_01":
            raise errors.LinkError("The GPU ran out of memory.", "Choose fewer frames.")
        return run(kind, params, inputs, folder)

    fake._run = sometimes
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {"take_01": "failed", "take_02": "10% Preview Fill"}
    reconstructed.active_take = 0
    assert "ran out of memory. Choose fewer frames." in " ".join(draw_panels(addon))
    fake._run = run
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert states(addon, reconstructed)["take_01"] == "10% Preview Fill"


def test_a_camera_that_cannot_be_sent_fails_alone(addon, fake, scene, reconstructed, cameras):
    cameras[0].data.type = "ORTHO"
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {"take_01": "failed", "take_02": "10% Preview Fill"}
    assert "orthographic" in addon.take_queue.sent_take(reconstructed, "take_01").failure


def test_a_camera_that_was_deleted_is_not_replaced_in_silence(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    scene.collection.objects.unlink(cameras[0])  # as X in the viewport does: the take still knows it
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {"take_01": "failed", "take_02": "10% Preview Fill"}
    assert "camera cam 0.25 was deleted" in addon.take_queue.sent_take(reconstructed, "take_01").failure


def test_a_duplicate_has_settings_and_camera_of_its_model(addon, reconstructed, cameras):
    state = reconstructed
    state.engine, state.quality, state.prompt, state.seed = "wan", "draft", "a street", 9
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    state.active_take = 0
    assert bpy.ops.ex4d.duplicate_take() == {"FINISHED"}
    copy = addon.take_list.selected(state)
    assert (copy.name, copy.camera, copy.is_planned) == ("take_03", cameras[0], True)
    assert (copy.engine, copy.quality, copy.prompt, copy.seed) == ("wan", "draft", "a street", 9)
    copy.seed = 10
    assert state.takes[0].seed == 9
    assert state.take_name == "take_04"


def test_a_duplicate_of_a_shot_take_has_its_very_path(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    scene.camera.location.y += 1
    scene.camera.keyframe_insert("location", frame=1)
    bpy.ops.ex4d.duplicate_take()
    copy = addon.take_list.selected(reconstructed)
    assert (copy.name, copy.path_of) == ("take_02", "take_01")
    copy.seed = 3
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    first, second = (path_of(addon, scene, name) for name in ("take_01", "take_02"))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)
    assert sent_jobs(fake)["take_02"][2]["seed"] == 3


def test_takes_of_other_files_are_duplicated_with_what_their_record_says(addon, scene, reconstructed):
    folder = addon.takes.take_folder(scene, "farm")
    folder.mkdir(parents=True)
    settings = {"quality": "fp8", "steps": 12, "erosion_px": None, "prompt": "a garden", "negative_prompt": "people"}
    record = {"schema": 1, "engine": "wan", "seed": 2**40, "settings": settings}
    (folder / "take.json").write_text(json.dumps(record), encoding="utf-8")
    bpy.ops.ex4d.refresh_takes()
    assert addon.session.wait(10)
    bpy.ops.ex4d.duplicate_take()
    copy = addon.take_list.selected(reconstructed)
    assert addon.painting.params_of(copy) == {
        "engine": "wan",
        "seed": 0,
        "quality": "fp8",
        "steps": 12,
        "prompt": "a garden",
        "negative_prompt": "people",
    }


def test_a_planned_take_keeps_the_frames_it_was_planned_for(addon, fake, scene, reconstructed, cameras):
    scene.frame_start, scene.frame_end = 2, 3
    bpy.ops.ex4d.plan_takes()
    scene.frame_start, scene.frame_end = 1, FRAMES
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    strips = {strip.name: addon.compat.strip_range(strip) for strip in addon.compat.all_strips(scene)}
    assert strips["take_01"] == (2, 2)


def test_only_planned_lines_and_lost_ones_can_be_taken_out(addon, scene, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    assert not bpy.ops.ex4d.remove_take.poll(), "it is under way"
    assert addon.session.wait(10)
    assert not bpy.ops.ex4d.remove_take.poll(), "its files are there"
    bpy.ops.ex4d.plan_takes()
    assert bpy.ops.ex4d.remove_take() == {"FINISHED"}
    assert [item.name for item in reconstructed.takes] == ["take_01"]


def test_what_would_take_the_shot_away_waits_for_the_takes(addon, fake, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    drain_until(addon, lambda: sent_jobs(fake))
    assert "Takes are under way" in addon.operators.grey.busy(bpy.context)
    assert not bpy.ops.ex4d.reconstruct.poll()
    assert not bpy.ops.ex4d.gather_files.poll()
    for operator in (bpy.ops.ex4d.render_take, bpy.ops.ex4d.check_coverage, bpy.ops.ex4d.plan_takes):
        assert operator.poll()


def test_a_line_that_undo_took_away_comes_back_with_the_result(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    drain_until(addon, lambda: sent_jobs(fake))
    reconstructed.takes.clear()  # as undo does
    drawn = draw_panels(addon)
    line = next(index for index, text in enumerate(drawn) if text.startswith("take_01: "))
    assert drawn[line + 1] == "ex4d.cancel_take", "it can still be stopped"
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {"take_01": "10% Preview Fill"}


def test_a_take_without_a_line_can_be_stopped(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    drain_until(addon, lambda: sent_jobs(fake))
    reconstructed.takes.clear()
    assert bpy.ops.ex4d.cancel_take(take="take_01") == {"FINISHED"}
    assert addon.session.wait(10)
    assert states(addon, reconstructed) == {}
    assert not (addon.takes.take_folder(scene, "take_01") / "take.json").exists()


def test_another_session_picks_the_jobs_up_again(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    bpy.ops.ex4d.render_planned()
    drain_until(addon, lambda: len(sent_jobs(fake)) == 2)
    before = sent_jobs(fake)
    bpy.ops.wm.save_mainfile()
    addon.session.close()  # Blender ends
    addon.take_queue.sent.clear()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    state = bpy.context.scene.ex4d
    assert states(addon, state) == {"take_01": "planned, cam 0.25", "take_02": "planned, cam 0.5"}
    again = type(fake)(fake._run)
    addon.session.current.client, addon.session.current.is_connected = again, True
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    after = sent_jobs(again)
    assert {name: job[:4] for name, job in after.items()} == {name: job[:4] for name, job in before.items()}
    assert states(addon, state) == {"take_01": "10% Preview Fill", "take_02": "10% Preview Fill"}
    assert addon.session.wait(1)
    assert len(again.submitted) == 2, "once is enough"
    assert not list(addon.shots.takes_folder(bpy.context.scene).glob("*/job.json"))


def test_jobs_of_another_server_are_left_to_it(addon, fake, scene, reconstructed, cameras):
    bpy.ops.ex4d.render_take()
    drain_until(addon, lambda: sent_jobs(fake))
    addon.session.close()
    addon.take_queue.sent.clear()
    again = type(fake)(fake._run)
    addon.session.current.client, addon.session.current.is_connected = again, True
    addon.session.current.server = addon.session.Server(name="studio")
    assert addon.session.wait(10)
    assert again.submitted == []


def test_of_a_planned_take_the_scenes_camera_is_handed_over(addon, fake, scene, reconstructed, cameras, tmp_path):
    bpy.ops.ex4d.plan_takes()
    assert bpy.ops.ex4d.hand_over(formats={"CHAN"}, directory=str(tmp_path / "over")) == {"FINISHED"}
    assert (tmp_path / "over" / "My_plate_camera.chan").exists()


def test_two_takes_of_one_name_are_refused(addon, fake, reconstructed, cameras):
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    reconstructed.takes[1].name = "take_01"
    reconstructed.take_name = "take_01"
    with pytest.raises(RuntimeError, match="is planned already"):
        bpy.ops.ex4d.render_take()
    bpy.ops.ex4d.render_planned()
    assert addon.session.wait(10)
    assert "Two takes are called take_01" in addon.take_queue.sent_take(reconstructed, "take_01").failure
    assert sent_jobs(fake) == {}


def test_no_selected_camera_is_said(addon, scene, reconstructed):
    for item in scene.objects:
        item.select_set(False)
    with pytest.raises(RuntimeError, match="No camera is selected"):
        bpy.ops.ex4d.plan_takes(cameras="SELECTED")
