# SPDX-License-Identifier: Apache-2.0
"""The coverage strip: what is estimated while the camera is edited, against what is sampled and against geometry."""

import time

import bpy
import numpy as np
import pytest
from conftest import FRAMES, HEIGHT, WIDTH, exact_display


def path_of(addon, poses, intrinsics, size, source_frame=None):
    frames = np.zeros(len(poses)) if source_frame is None else source_frame
    return addon.path_sampling.SampledPath(np.array(poses), np.array([intrinsics] * len(poses)), *size, frames)


@pytest.fixture
def camera(reconstructed, scene):
    bpy.ops.ex4d.add_camera()
    return scene.camera


@pytest.fixture
def wall(addon, tmp_path):
    """Samples of a flat wall at distance 4, 240 x 160 pixels, focal length 240."""
    np.savez(tmp_path / "display.npz", **exact_display(np.full((2, 160, 240), 4.0, dtype=np.float32), 240.0))
    return addon.coverage_estimate.read_samples(tmp_path / "display.npz")


def test_a_shifted_camera_misses_the_part_that_lies_beside_the_plate(addon, wall):
    intrinsics = np.array([[240.0, 0, 120], [0, 240, 80], [0, 0, 1]])
    poses = []
    for aside in (0.0, 0.5, 1.0, 2.0, 9.0):
        pose = np.eye(4)
        pose[0, 3] = -aside
        poses.append(pose)
    found = addon.coverage_estimate.unseen_shares(wall, path_of(addon, poses, intrinsics, (240, 160)))
    np.testing.assert_allclose(found, [0, 0.125, 0.25, 0.5, 1], atol=0.02)


def test_a_zoomed_or_near_camera_sees_no_gaps_and_a_wide_one_sees_the_border(addon, wall):
    for zoom, expected in ((8.0, 0.0), (2.0, 0.0), (0.5, 0.75)):
        intrinsics = np.array([[240.0 * zoom, 0, 120], [0, 240 * zoom, 80], [0, 0, 1]])
        found = addon.coverage_estimate.unseen_shares(wall, path_of(addon, [np.eye(4)], intrinsics, (240, 160)))
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_curves_tell_the_path_that_is_sent(addon, scene, reconstructed, camera):
    reconstructed.root.location, reconstructed.root.rotation_euler = (3, -2, 1), (0.3, 0.2, 0.5)
    dolly = bpy.data.objects.new("dolly", None)
    scene.collection.objects.link(dolly)
    dolly.location, dolly.parent = (0.2, 0.1, 0), reconstructed.root
    camera.parent = dolly
    camera.matrix_parent_inverse = dolly.matrix_basis.inverted()
    bpy.ops.ex4d.add_move(move="ORBIT", angle=0.3)
    bpy.ops.ex4d.add_move(move="HANDHELD")
    bpy.ops.ex4d.key_plate_time(time="REVERSE")
    camera.data.keyframe_insert("lens", frame=1)
    camera.data.lens = 50
    camera.data.keyframe_insert("lens", frame=5)
    frames = range(1, FRAMES + 1)
    args = reconstructed.root, frames, reconstructed.plate_start, reconstructed.plate_frames
    sent, read = addon.path_sampling.sample_camera_path(bpy.context, *args), addon.quiet_path.quiet_path(scene, frames)
    for name in ("world_to_camera", "intrinsics", "source_frame"):
        np.testing.assert_allclose(getattr(read, name), getattr(sent, name), atol=2e-5, err_msg=name)
    assert (read.width, read.height) == (WIDTH, HEIGHT)


def test_changes_without_keys_stay(addon, scene, reconstructed, camera):
    camera.location.x = 0.123
    assert addon.coverage_strip.look(scene)
    assert addon.session.wait(10)
    assert camera.location.x == pytest.approx(0.123)


def test_the_strip_is_looked_at_again_only_when_the_path_changed(addon, scene, reconstructed, camera):
    assert addon.coverage_strip.look(scene)
    assert addon.session.current.activity == "", "it keeps no button grey"
    assert addon.session.wait(10)
    assert addon.coverage_strip.said(reconstructed) == "About 0% unseen."
    scene.frame_set(3)
    assert not addon.coverage_strip.look(scene)
    bpy.ops.ex4d.add_move(move="PAN")
    assert addon.coverage_strip.look(scene)
    assert addon.session.wait(10)
    assert addon.coverage_strip.said(reconstructed).endswith(f"on frame {FRAMES}.")
    reconstructed.use_coverage_strip = False
    assert not addon.coverage_strip.look(scene)
    assert addon.coverage_strip.said(reconstructed) == ""


def test_what_curves_do_not_tell_is_said(addon, scene, reconstructed, camera):
    camera.constraints.new("TRACK_TO")
    assert not addon.coverage_strip.look(scene)
    assert addon.coverage_strip.said(reconstructed) == f"'{camera.name}' has constraints: Check Coverage measures it."
    camera.constraints.clear()
    assert addon.coverage_strip.look(scene)
    assert addon.session.wait(10)
    assert "unseen" in addon.coverage_strip.said(reconstructed)


def test_a_missing_file_disturbs_nobody(addon, scene, reconstructed, camera):
    addon.shots.shot_file(scene, "display.npz").unlink()
    addon.coverage_strip._samples = None
    assert addon.coverage_strip.look(scene)
    assert addon.session.wait(10)
    assert addon.session.current.error == ""


def test_colours_go_from_green_to_red_without_gaps_in_time(addon):
    strip = addon.coverage_strip.Strip("id", b"", np.array([1, 5, 9]), np.array([0.0, 0.2, 1.0]))
    assert addon.coverage_strip.spans(strip) == [(0.5, 3.0, 0.0), (3.0, 7.0, 0.2), (7.0, 9.5, 1.0)]
    greens = [addon.coverage_strip.colour_of(share)[1] for share in (0.1, 0.2, 0.4, 0.9)]
    assert greens == sorted(greens, reverse=True)


def test_an_edit_costs_the_main_thread_little_and_the_background_less_than_200_ms(addon, scene, reconstructed, camera):
    """A plate of 512 x 512 and 49 frames; time of the processor, as the machine has other work."""
    rng = np.random.default_rng(0)
    samples = addon.coverage_estimate.PlateSamples(
        rng.random((3, 171 * 171), dtype=np.float32),
        1 + rng.random((49, 171 * 171), dtype=np.float32),
        171,
        170.0,
        None,
    )
    intrinsics = np.array([[500.0, 0, 256], [0, 500, 256], [0, 0, 1]])
    path = path_of(addon, [np.eye(4)] * 49, intrinsics, (512, 512), np.arange(49.0))
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        addon.coverage_estimate.unseen_shares(samples, path)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.2
    start = time.thread_time()
    addon.quiet_path.quiet_path(scene, range(1, 50))
    assert time.thread_time() - start < 0.1
