# SPDX-License-Identifier: Apache-2.0
"""Checking a camera before its take: what is sent, what is told, and that takes are left alone."""

import bpy
import numpy as np
import pytest
from conftest import FRAMES

CHECKED = (
    "Frames 1 to 5\n"
    "Needs painting of 15% of the picture, 30% at worst. Most is missing on frame 2. Mean parallax: 7.2 degrees."
)


def check(addon):
    assert bpy.ops.ex4d.check_coverage() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""


def test_the_check_is_sent_with_the_shot_and_the_camera_into_a_folder_of_its_own(addon, fake, scene, reconstructed):
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.check_coverage()
    addon.session.drain()
    _, kind, params, inputs, folder = fake.submitted[-1]
    assert kind == "render"
    assert params == {"name": "coverage", "raster": "auto"}
    assert set(inputs) == {"shot.json", "plate.mkv", "depth.npz", "camera.npz"}
    assert folder == addon.shots.shot_folder(scene) / "takes" / ".coverage"
    with np.load(inputs["camera.npz"], allow_pickle=False) as camera:
        np.testing.assert_allclose(camera["world_to_camera"], np.tile(np.eye(4), (FRAMES, 1, 1)), atol=1e-7)


def test_verdict_worst_frame_and_parallax_are_told(addon, reconstructed):
    check(addon)
    assert reconstructed.coverage_check == CHECKED


def test_the_worst_frame_is_named_as_the_timeline_counts(addon, scene, reconstructed):
    scene.frame_start = 3
    check(addon)
    assert reconstructed.coverage_check.startswith("Frames 3 to 5\n")
    assert "Most is missing on frame 4." in reconstructed.coverage_check


def test_a_check_leaves_no_files_and_no_take(addon, scene, reconstructed):
    check(addon)
    assert list(addon.shots.takes_folder(scene).iterdir()) == []
    assert (reconstructed.take_name, reconstructed.last_take) == ("take_01", "")
    assert len(addon.compat.sequencer_strips(scene)) == 0


def test_a_take_may_exist_before_and_be_rendered_after_a_check(addon, scene, reconstructed):
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    record = addon.takes.take_folder(scene, "take_01") / "take.json"
    before = record.read_bytes()
    reconstructed.take_name = "take_01"
    check(addon)
    assert record.read_bytes() == before
    assert reconstructed.last_take == "take_01"
    reconstructed.take_name = "take_02"
    assert bpy.ops.ex4d.render_take() == {"FINISHED"}
    assert addon.session.wait(10)
    assert reconstructed.last_take == "take_02"
    assert reconstructed.coverage_check == "", "the take tells its own"


def test_another_reconstruction_makes_the_check_old_news(addon, reconstructed):
    check(addon)
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert reconstructed.coverage_check == ""


def test_a_cancelled_check_changes_nothing(addon, reconstructed):
    check(addon)
    bpy.ops.ex4d.check_coverage()
    addon.session.drain()
    assert not bpy.ops.ex4d.render_take.poll()
    assert bpy.ops.ex4d.cancel() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.notice == "Coverage check: cancelled"
    assert addon.session.current.step is addon.session.Step.COVERAGE
    assert reconstructed.coverage_check == CHECKED
    assert bpy.ops.ex4d.check_coverage.poll()


def test_an_orthographic_camera_is_refused(addon, fake, scene, reconstructed):
    bpy.ops.ex4d.add_camera()
    scene.camera.data.type = "ORTHO"
    sent = len(fake.submitted)
    with pytest.raises(RuntimeError, match="orthographic"):
        bpy.ops.ex4d.check_coverage()
    assert len(fake.submitted) == sent


def test_without_mesh_or_server_the_button_is_grey(addon, fake, imported):
    assert not bpy.ops.ex4d.check_coverage.poll()
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert bpy.ops.ex4d.check_coverage.poll()
    addon.session.current.is_connected = False
    assert not bpy.ops.ex4d.check_coverage.poll()


def test_the_result_for_a_file_that_was_closed_is_dropped(addon, reconstructed):
    bpy.ops.ex4d.check_coverage()
    bpy.ops.wm.read_homefile(use_empty=True)
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    assert bpy.context.scene.ex4d.coverage_check == ""


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, ""),
        ({"unseen": {}}, ""),
        ({"unseen": {"mean": 0.5}}, "The plate does not show 50% of the picture."),
        (
            {"unseen": {"mean": 0.3, "worst": 0.5, "worst_frame": 2}, "verdict": "Needs painting of 30%."},
            "Needs painting of 30%. Most is missing on frame 1003.",
        ),
        ({"unseen": {"mean": 0.0, "worst": 0.0, "worst_frame": 0}, "verdict": "Good: 0%."}, "Good: 0%."),
        ({"verdict": "Good: 1%.", "parallax_deg": {"mean": 0.44}}, "Good: 1%. Mean parallax: 0.4 degrees."),
    ],
)
def test_what_a_record_tells_is_told(addon, record, said):
    assert addon.coverage.coverage_of(record, 1001) == said
