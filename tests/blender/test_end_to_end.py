# SPDX-License-Identifier: Apache-2.0
"""The artist's whole job with the real parts: bpy, the installed zip, a server process, a worker process."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import PACKAGE, REPOSITORY
from movies import write_avi, write_png16
from pictures import write_picture, write_sequence
from solving import solve

PYTHON = Path(os.environ.get("EX4D_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
COMMAND = [str(PYTHON), "-m", "ex4d"]
WIDTH, HEIGHT, FRAMES = 64, 48, 6
PATIENCE_S = 120


@pytest.fixture(scope="module")
def server_command():
    """The server of this profile's own state folder; stopped at the end."""
    assert PYTHON.is_file(), f"{PYTHON} is missing: name the library's Python in EX4D_PYTHON"
    yield " ".join(f'"{word}"' for word in COMMAND)
    subprocess.run([*COMMAND, "server", "stop"], cwd=REPOSITORY, check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture
def connected(addon, server_command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.server_command = server_command
    assert bpy.ops.ex4d.connect_server() == {"FINISHED"}
    assert addon.session.wait(PATIENCE_S)
    preferences.property_unset("server_command")
    assert addon.session.current.error == ""
    assert addon.session.current.is_connected
    return addon


@pytest.fixture
def real_plate(tmp_path):
    """A wall with a pattern, a near block moving over it, and both depths."""
    rng = np.random.default_rng(5)
    texture = rng.integers(0, 255, size=(HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frames = np.tile(texture, (FRAMES, 1, 1, 1))
    depth = np.full((FRAMES, HEIGHT, WIDTH), 6.0, dtype=np.float32)
    for frame in range(FRAMES):
        block = (slice(12, 36), slice(10 + 3 * frame, 30 + 3 * frame))
        frames[frame][block] = (230, 40, 20)
        depth[frame][block] = 3.0
    np.savez(tmp_path / "depth.npz", depth=depth)
    return write_avi(tmp_path / "plate.avi", frames, (24, 1)), tmp_path / "depth.npz", depth


def positions(item, frame):
    bpy.context.scene.frame_set(frame)
    mesh = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    return points.reshape(-1, 3)


def finish(addon):
    """Wait for the job; return the longest time the main thread was held, in seconds."""
    longest, deadline = 0.0, time.monotonic() + PATIENCE_S
    while True:
        start = time.perf_counter()
        going_on = addon.session.drain()
        longest = max(longest, time.perf_counter() - start)
        if not going_on:
            break
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.02)
    assert addon.session.current.error == ""
    return longest


def test_a_plate_becomes_a_strip(connected, saved, scene, real_plate, tmp_path):
    addon, state = connected, scene.ex4d
    plate, depth_file, depth = real_plate
    bpy.ops.ex4d.import_plate(filepath=str(plate))
    state.source_camera.data.lens = 40.0
    state.depth_source, state.depth_file, state.mesh_stride = "file", str(depth_file), "FULL"
    bpy.ops.ex4d.reconstruct()
    assert finish(addon) < 1.0, "the main thread must stay free"

    # The mesh: every pixel's vertex lies on its ray at the depth that the file gave.
    focal = 40 / 36 * WIDTH
    x, y = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / focal, (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / focal
    for frame in range(FRAMES):
        found = positions(state.mesh, 1 + frame).reshape(HEIGHT + 4, WIDTH + 4, 3)[2:-2, 2:-2]
        z = depth[frame]
        np.testing.assert_allclose(found, np.stack([z * x, z, -z * y[:, None]], axis=-1), rtol=1e-5, atol=1e-5)
    assert state.depth_notice == "depth.npz, Z Depth, 3.0 to 6.0 m"
    assert state.licence_notice
    shot = json.loads((saved.parent / "ex4d" / "plate" / "shot.json").read_text(encoding="utf-8"))
    assert shot["plate"]["path"] == str(plate.resolve())

    bpy.ops.ex4d.add_camera()
    scene.camera.location.x = 0.6
    scene.camera.keyframe_insert("location", frame=FRAMES)
    bpy.ops.ex4d.check_coverage()
    assert finish(addon) < 1.0, "the main thread must stay free"
    checked = state.coverage_check
    assert checked.startswith(f"Frames 1 to {FRAMES}\n")
    assert re.search(rf"Most is missing on frame {FRAMES}\. Mean parallax: \d+\.\d degrees\.$", checked)
    assert list((saved.parent / "ex4d" / "plate" / "takes").iterdir()) == []

    needs = [text for text, _ in addon.estimates.said(scene)]
    assert needs[0] == "No take with these settings was measured on this server yet."
    assert needs[1] == "Preview Fill: no GPU memory."
    bpy.ops.ex4d.render_take()
    finish(addon)
    needs = [text for text, _ in addon.estimates.said(scene)]
    assert re.match(r"About \d+ s, from the last take with these settings on this server\.", needs[0])
    assert state.take_coverage == checked.partition("\n")[2], "the check foretold the take"
    strips = {strip.name: strip for strip in addon.compat.all_strips(scene)}
    assert set(strips) == {"plate", "plate plate", "take_01"}
    assert strips["take_01"].channel > strips["plate plate"].channel
    for strip in strips.values():
        assert addon.compat.strip_range(strip) == (1, FRAMES)

    folder = saved.parent / "ex4d" / "plate" / "takes" / "take_01"
    record = json.loads((folder / "take.json").read_text(encoding="utf-8"))
    assert 0 < record["unseen"]["mean"] < 0.5
    for name in ("camera.npz", "color.mkv", "mask.mkv", "result.mkv", "result.mp4"):
        assert (folder / name).stat().st_size > 0

    bpy.ops.ex4d.check_result()
    finish(addon)
    found = {finding.question.label: finding for finding in addon.take_check.findings(state.takes[0])}
    assert found["Painted"].value == pytest.approx(record["unseen"]["mean"])
    assert found["Painted"].worst_frame == record["unseen"]["worst_frame"]
    assert found["Plate kept"].word == "good"
    assert (folder / "evaluation.html").stat().st_size > 0
    bpy.ops.wm.save_mainfile()


MAKE_PLATE_WITH_SOUND = """
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ex4d.audio import Audio
from ex4d.video import write_video
frames = np.full((6, 48, 64, 3), 90, np.uint8)
frames[:, ::3, ::2] = 140
for n in range(6):
    frames[n, 12:36, 4 + 8 * n : 16 + 8 * n] = (230, 40, 20)
sound = (8000 * np.sin(np.arange(12000) * 0.06)).astype(np.int16)[:, None]
write_video(Path(sys.argv[1]), frames, Fraction(24), "ffv1", audio=Audio(sound, 48000, "mono"))
depth = np.where((frames == (230, 40, 20)).all(axis=3), 3.0, 6.0).astype(np.float32)
np.savez(sys.argv[2], depth=depth)
"""


def test_the_passes_and_the_sound_come_along(connected, saved, scene, tmp_path):
    addon, state = connected, scene.ex4d
    files = str(tmp_path / "plate.mkv"), str(tmp_path / "depth.npz")
    subprocess.run([PYTHON, "-c", MAKE_PLATE_WITH_SOUND, *files], cwd=REPOSITORY, check=True, timeout=60)
    bpy.ops.ex4d.import_plate(filepath=files[0])
    state.depth_source, state.depth_file = "file", files[1]
    bpy.ops.ex4d.reconstruct()
    finish(addon)
    bpy.ops.ex4d.add_camera()
    scene.camera.location.x = 0.4
    scene.camera.keyframe_insert("location", frame=1)
    state.engine, state.use_depth_pass, state.use_clean_plate = "preview", True, True
    bpy.ops.ex4d.render_take()
    finish(addon)
    for part in ("DEPTH", "CLEAN", "MATTE", "MESH"):
        bpy.ops.ex4d.load_result(part=part)
        finish(addon)
    strips = {strip.name: strip for strip in addon.compat.all_strips(scene)}
    passes = {f"take_01 {name}" for name in ("depth", "clean plate", "matte", "mesh")}
    assert passes < set(strips)
    assert all(strips[name].mute for name in passes)
    assert len(strips["take_01 depth"].elements) == FRAMES
    told = json.loads((addon.takes.take_folder(scene, "take_01") / "depth" / "depth.json").read_text(encoding="utf-8"))
    assert told["nearest"] == pytest.approx(3.0, rel=0.02)
    if bpy.app.build_options.audaspace:
        sound = strips["plate plate sound"]
        assert addon.compat.strip_range(sound) == (1, FRAMES)
        assert sound.channel < strips["plate plate"].channel < strips["take_01"].channel
    bpy.ops.ex4d.use_result(use="COMPOSITOR")
    finish(addon)
    nodes = [node for node in addon.compat.compositor_tree(scene).nodes if node.bl_idname == "CompositorNodeImage"]
    assert {node.label for node in nodes} == {"Result", "Matte", "Mesh", "Depth", "Clean Plate"}
    depth = next(node.image for node in nodes if node.label == "Depth")
    assert (depth.source, depth.colorspace_settings.name) == ("SEQUENCE", "Non-Color")


def test_takes_go_on_while_blender_is_closed(connected, saved, scene, real_plate):
    addon, state = connected, scene.ex4d
    plate, depth_file, _ = real_plate
    bpy.ops.ex4d.import_plate(filepath=str(plate))
    state.depth_source, state.depth_file = "file", str(depth_file)
    bpy.ops.ex4d.reconstruct()
    finish(addon)
    cameras = []
    for x in (0.3, 0.6):
        bpy.ops.ex4d.add_camera()
        scene.camera.location.x = x
        scene.camera.keyframe_insert("location", frame=1)
        cameras.append(scene.camera)
    for camera in cameras:
        camera.select_set(True)
    state.engine = "preview"
    bpy.ops.ex4d.plan_takes(cameras="SELECTED")
    bpy.ops.ex4d.render_planned()
    folders = [addon.takes.take_folder(scene, name) for name in ("take_01", "take_02")]
    deadline = time.monotonic() + PATIENCE_S
    while len(addon.session.current.followed) < len(folders):
        assert time.monotonic() < deadline
        addon.session.drain()
    bpy.ops.wm.save_mainfile()
    addon.session.close()
    addon.take_queue.sent.clear()
    assert not any((folder / "take.json").exists() for folder in folders)
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    bpy.ops.ex4d.connect_server()
    finish(addon)
    state = bpy.context.scene.ex4d
    assert {item.name: item.is_planned for item in state.takes} == {"take_01": False, "take_02": False}
    unseen = [json.loads((folder / "take.json").read_text(encoding="utf-8"))["unseen"]["mean"] for folder in folders]
    assert unseen[0] < unseen[1]
    for folder in folders:
        assert not (folder / "job.json").exists()
        assert (folder / "result.mkv").stat().st_size > 0


def test_a_moving_plate_stands_still_and_its_own_view_misses_nothing(connected, saved, scene, real_plate):
    plate, depth_file, _ = real_plate
    clip = bpy.data.movieclips.load(str(plate))
    solve(clip, center=(3.0, -2.0))
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    state = scene.ex4d
    state.depth_source, state.depth_file, state.mesh_stride = "file", str(depth_file), "FULL"
    bpy.ops.ex4d.reconstruct()
    finish(connected)
    assert "in the solve's unit" in state.depth_notice
    assert any("lens comes from the source camera" in line for line in state.shot_notice.splitlines())
    found = connected.solve.read_solve(clip, range(FRAMES)).cameras.world_to_camera
    for frame in (0, FRAMES - 1):
        scene.frame_set(1 + frame)
        pose = connected.cameras.world_to_camera(
            np.array(state.source_camera.matrix_world, dtype=np.float64),
            np.array(state.root.matrix_world, dtype=np.float64),
        )
        np.testing.assert_allclose(pose, found[frame], atol=1e-5)
    assert np.linalg.norm(np.linalg.inv(found[-1])[:3, 3]) > 0.1, "it travels"

    bpy.ops.ex4d.add_camera(follow=True)
    bpy.ops.ex4d.check_coverage()
    finish(connected)
    assert "Mean parallax: 0.0 degrees." in state.coverage_check
    assert "0%" in state.coverage_check
    bpy.ops.ex4d.add_camera()
    bpy.ops.ex4d.check_coverage()
    finish(connected)
    assert "Mean parallax: 0.0 degrees." not in state.coverage_check


def test_the_tracked_source_takes_the_solve(connected, saved, scene, real_plate):
    clip = bpy.data.movieclips.load(str(real_plate[0]))
    solve(clip)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    scene.ex4d.depth_source = "tracked"
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    said = connected.session.current.error
    assert "Tracked camera" in said, "it came as far as the packages or the footage allow"


def test_the_preview_relief_says_what_it_is(connected, saved, scene, real_plate):
    bpy.ops.ex4d.import_plate(filepath=str(real_plate[0]))
    scene.ex4d.depth_source = "preview"
    bpy.ops.ex4d.reconstruct()
    finish(connected)
    assert "preview" in scene.ex4d.depth_notice
    assert "no depth model" in f"{scene.ex4d.depth_notice} {scene.ex4d.shot_notice}"


def test_a_part_of_a_sequence_of_exr_pictures_becomes_a_mesh_on_its_own_frames(connected, saved, scene, tmp_path):
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    folder = write_sequence(tmp_path / "plate", frames, 1001, ".exr")
    scene.render.fps, scene.render.fps_base = 24, 1.001
    bpy.ops.ex4d.import_plate(filepath=str(folder / "plate.1001.exr"))
    assert connected.session.wait(PATIENCE_S)
    state = scene.ex4d
    state.depth_source, state.use_scene_range, state.handles = "preview", True, 1
    scene.frame_start, scene.frame_end = 1003, 1004
    bpy.ops.ex4d.reconstruct()
    finish(connected)
    assert (state.plate_start, state.plate_frames) == (1002, 4)
    plate = json.loads(connected.shots.shot_file(scene, "shot.json").read_text(encoding="utf-8"))["plate"]
    assert (plate["first_frame"], plate["first_number"], plate["fps"]) == (1, 1002, "24000/1001")
    assert "scene-linear" in state.shot_notice
    linear = frames[1, :2, :3] / 255  # what write_sequence puts into an EXR
    display = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image = state.shot_image
    pixels = np.array(image.pixels[:]).reshape(HEIGHT, WIDTH, 4)[::-1, :, :3]
    np.testing.assert_allclose(pixels[:2, :3], display, atol=0.012)  # 8 bits, and half floats in the EXR


def test_the_lens_of_a_bent_clip_is_undone(connected, saved, scene, real_plate):
    clip = bpy.data.movieclips.load(str(real_plate[0]))
    lens = clip.tracking.camera
    lens.distortion_model, lens.division_k1, lens.pixel_aspect = "DIVISION", 0.1, 1.5
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    scene.ex4d.depth_source = "preview"
    bpy.ops.ex4d.reconstruct()
    finish(connected)
    state = scene.ex4d
    assert "distortion (division) was undone, by up to" in state.shot_notice
    assert "64 x 48 became 64 x 32" in state.shot_notice
    assert (state.plate_width, state.plate_height, *state.shot_image.size) == (64, 32, 64, 32)
    assert state.is_undistorted


def test_a_picture_of_another_size_is_named(connected, saved, scene, tmp_path):
    frames = np.full((3, HEIGHT, WIDTH, 3), 90, np.uint8)
    folder = write_sequence(tmp_path / "plate", frames)
    write_picture(folder / "plate.1002.png", frames[0, :-1])
    bpy.ops.ex4d.import_plate(filepath=str(folder / "plate.1001.png"))
    assert connected.session.wait(PATIENCE_S)
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    said = connected.session.current.error
    assert said.startswith("Frame 1002, 'plate.1002.png', is 64 x 47 pixels, frame 1001 is 64 x 48")


def test_depth_may_be_a_numbered_sequence_of_pictures(connected, saved, scene, real_plate, tmp_path):
    plate, _, depth = real_plate
    (tmp_path / "z").mkdir()
    for number, plane in enumerate(depth, start=101):
        write_png16(tmp_path / "z" / f"z_{number}.png", np.round(plane * 1000).astype(np.uint16))
    (tmp_path / "z" / "z.json").write_text('{"kind": "z", "scale": 65.535}', encoding="utf-8")  # millimetres
    bpy.ops.ex4d.import_plate(filepath=str(plate))
    scene.ex4d.depth_source, scene.ex4d.depth_file = "file", str(tmp_path / "z" / "z_103.png")
    scene.ex4d.depth_kind = "inverse"
    bpy.ops.ex4d.reconstruct()
    finish(connected)
    assert scene.ex4d.depth_notice == "z_101.png, Z Depth, 3.0 to 6.0 m"
    assert scene.ex4d.depth_kind == "z", "what the pictures say of themselves counts"
    with np.load(connected.shots.shot_file(scene, "depth.npz"), allow_pickle=False) as file:
        np.testing.assert_allclose(file["depth"].astype(np.float32), depth, rtol=1e-3)


def test_a_depth_file_that_does_not_fit_fails_with_the_reason_and_loses_nothing(connected, saved, scene, real_plate):
    plate, depth_file, depth = real_plate
    np.savez(depth_file, depth=depth[:3])
    bpy.ops.ex4d.import_plate(filepath=str(plate))
    scene.ex4d.depth_source, scene.ex4d.depth_file = "file", str(depth_file)
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    assert "depth.npz" in connected.session.current.error
    assert not scene.ex4d.is_reconstructed
    assert bpy.ops.ex4d.reconstruct.poll()


def test_a_research_only_model_starts_once_its_licence_is_accepted(connected, saved, scene, real_plate):
    current, state = connected.session.current, scene.ex4d
    bpy.ops.ex4d.import_plate(filepath=str(real_plate[0]))
    state.depth_source = "depthcrafter"
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    assert current.failed_code == connected.reconstruction.LICENCE_REFUSED
    assert "may not be used for paid work" in current.error
    state.accept_licence = True
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    assert current.failed_code == "machine", "here it has no weights"
    assert "DepthCrafter" in current.error


def test_a_model_that_the_machine_lacks_says_what_to_install(connected, saved, scene, real_plate):
    bpy.ops.ex4d.import_plate(filepath=str(real_plate[0]))
    scene.ex4d.depth_source = "transformers"
    bpy.ops.ex4d.reconstruct()
    assert connected.session.wait(PATIENCE_S)
    assert connected.session.current.failed_code == "machine"
    assert "Depth Anything V2 Small" in connected.session.current.error


def test_a_real_job_can_be_cancelled(connected, saved, scene, real_plate):
    bpy.ops.ex4d.import_plate(filepath=str(real_plate[0]))
    scene.ex4d.depth_source = "preview"
    bpy.ops.ex4d.reconstruct()
    bpy.ops.ex4d.cancel()
    assert connected.session.wait(PATIENCE_S)
    assert connected.session.current.notice == "Reconstruction: cancelled"
    assert not scene.ex4d.is_reconstructed


def test_the_server_started_last_is_started_again_without_any_setting(connected):
    subprocess.run([*COMMAND, "server", "stop"], cwd=REPOSITORY, check=True, timeout=60, stdout=subprocess.DEVNULL)
    connected.session.close()
    assert bpy.context.preferences.addons[PACKAGE].preferences.server_command == ""
    bpy.ops.ex4d.connect_server()
    assert connected.session.wait(PATIENCE_S)
    assert connected.session.current.error == ""
    assert connected.session.current.is_connected
