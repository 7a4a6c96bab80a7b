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
    assert addon.coverage_strip.said(reconstructed).endswith(("on frame 4.", "on frame 5."))  # it counts in few pixels
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
    assert addon.coverage_drawing.spans(strip) == [(0.5, 3.0, 0.0), (3.0, 7.0, 0.2), (7.0, 9.5, 1.0)]
    greens = [addon.coverage_drawing.colour_of(share)[1] for share in (0.1, 0.2, 0.4, 0.9)]
    assert greens == sorted(greens, reverse=True)


@pytest.fixture
def blocks(addon, tmp_path):
    """A function that returns samples of blocks before a far wall, 240 x 160 pixels, focal length 240.

    Things at depth z move by 240 / z pixels when the camera moves by one.
    """

    def samples(*blocks):
        depth = np.full((1, 160, 240), 12.0, dtype=np.float32)
        for columns, rows, z in blocks:
            depth[0, rows, columns] = z
        steps = [np.abs(np.diff(1 / depth, axis=axis)) > 0.01 for axis in (1, 2)]
        torn = steps[0][:, :, 1:] | steps[0][:, :, :-1] | steps[1][:, 1:] | steps[1][:, :-1]
        np.savez(tmp_path / "display.npz", **exact_display(depth, 240.0, torn))
        return addon.coverage_estimate.read_samples(tmp_path / "display.npz")

    return samples


@pytest.mark.parametrize("aside", [0.75, -0.75])
def test_what_opens_beside_things_is_missing(addon, blocks, aside):
    """A block in the middle (moves by 60) and a nearer wall on the right (by 30) before the far wall (by 15)."""
    samples = blocks((slice(180, 240), slice(0, 160), 6.0), (slice(90, 130), slice(40, 120), 3.0))
    pose = np.eye(4)
    pose[0, 3] = aside
    intrinsics = np.array([[240.0, 0, 120], [0, 240, 80], [0, 0, 1]])
    still, moved = addon.coverage_estimate.unseen_shares(
        samples, path_of(addon, [np.eye(4), pose], intrinsics, (240, 160))
    )
    assert still == 0
    # 45 beside the block; then 15 at the left edge and 15 between the walls, or 30 at the right edge.
    assert moved == pytest.approx((45 * 80 + 30 * 160) / (240 * 160), abs=0.01)


def test_what_only_hides_is_missing_too(addon, blocks):
    """A block at the left edge: from far left, the mesh behind its edge stands before all of the wall in its rows."""
    samples = blocks((slice(0, 40), slice(40, 120), 3.0))
    pose = np.eye(4)
    pose[0, 3] = 3.0
    intrinsics = np.array([[240.0, 0, 120], [0, 240, 80], [0, 0, 1]])
    (found,) = addon.coverage_estimate.unseen_shares(samples, path_of(addon, [pose], intrinsics, (240, 160)))
    assert found == pytest.approx((80 * 240 + 80 * 60) / (240 * 160), abs=0.03)


def test_an_edit_costs_the_background_less_than_200_ms(addon, tmp_path):
    """A plate of 512 x 512 and 49 frames full of edges; time of the processor, as the machine has other work."""
    rng = np.random.default_rng(0)
    depth = (3 + 9 * rng.random((49, 32, 32), dtype=np.float32)).repeat(16, 1).repeat(16, 2)
    torn = np.zeros((49, 511, 511), dtype=bool)
    torn[:, 15::16] = torn[:, :, 15::16] = True
    np.savez(tmp_path / "display.npz", **exact_display(depth, 500.0, torn))
    samples = addon.coverage_estimate.read_samples(tmp_path / "display.npz")
    intrinsics = np.array([[500.0, 0, 256], [0, 500, 256], [0, 0, 1]])
    poses = np.array([np.eye(4)] * 33)
    poses[:, 0, 3] = np.linspace(0, 1, 33)
    path = path_of(addon, poses, intrinsics, (512, 512), np.arange(33.0))
    seconds = []
    for _ in range(5):
        start = time.thread_time()
        shares = addon.coverage_estimate.unseen_shares(samples, path)
        seconds.append(time.thread_time() - start)
    assert shares[0] == 0
    assert shares[-1] > 0.2
    assert min(seconds) < 0.2


def test_a_look_that_is_shared_over_ticks_sees_the_same_path(addon, scene, reconstructed, camera, monkeypatch):
    bpy.ops.ex4d.add_move(move="ORBIT", angle=0.3)
    strip = addon.coverage_strip
    monkeypatch.setattr(strip, "READ_FRAMES", 2)
    reading, turns = strip.Reading(scene), 0
    while (path := reading.advance(scene, 0)) is None:
        turns += 1
    assert turns == 2, "5 frames, 2 at a time"
    whole = addon.quiet_path.quiet_path(scene, range(1, FRAMES + 1))
    for name in ("world_to_camera", "intrinsics", "source_frame"):
        np.testing.assert_array_equal(getattr(path, name), getattr(whole, name))


def test_a_change_while_the_curves_are_read_is_looked_at_as_well(addon, scene, reconstructed, camera, monkeypatch):
    strip = addon.coverage_strip
    monkeypatch.setattr(strip, "READ_S", 0)
    monkeypatch.setattr(strip, "READ_FRAMES", 2)
    assert strip._tick() == strip.NEXT_S
    camera.location.x = 1.0
    strip.touch()
    while (waits := strip._tick()) == strip.NEXT_S:
        pass
    assert waits == strip.PAUSE_S, "again after a pause"
    assert addon.session.wait(10)
    while strip._tick() is not None:
        pass
    assert addon.session.wait(10)
    assert not strip.look(scene), "what is shown is of the camera as it stands"
