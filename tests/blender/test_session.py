# SPDX-License-Identifier: Apache-2.0
"""Connection, progress, cancel, failures, and what the buttons say while they are grey."""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import bpy
import pytest
from conftest import PACKAGE


def test_the_link_libraries_come_from_the_extension(addon):
    """The environment has neither: an artist's Blender has not either."""
    for name in ("zmq", "msgpack"):
        module = import_module(name)
        assert os.environ["BLENDER_USER_RESOURCES"] in module.__file__
    assert addon.session.BackgroundClient.__module__ == f"{PACKAGE}.shared_protocol.background"


def test_the_reconstruction_is_asked_for_with_the_source_cameras_lens(fake, imported, plate_path):
    imported.source_camera.data.lens, imported.source_camera.data.sensor_width = 35.0, 24.0
    bpy.ops.ex4d.reconstruct()
    _, kind, params, inputs, _ = fake.submitted[-1]
    assert kind == "reconstruct"
    assert params == {
        "depth": "auto",
        "accept_licence": False,
        "convention": "exact",
        "focal_px": pytest.approx(35 / 24 * 12),
        "plate_path": str(plate_path.resolve()),
    }
    assert set(inputs) == {"plate"}


def test_a_depth_file_is_sent_with_its_kind(addon, fake, imported, tmp_path):
    (tmp_path / "depth.npz").write_bytes(b"any")
    imported.depth_source, imported.depth_kind = "file", "inverse"
    with pytest.raises(RuntimeError, match="Choose a depth file"):
        bpy.ops.ex4d.reconstruct()
    imported.depth_file = "//depth.npz"
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert (params["depth"], params["depth_kind"]) == ("file", "inverse")
    assert inputs["depth"] == tmp_path.resolve() / "depth.npz"


def test_one_of_numbered_pictures_stands_for_all_of_them(addon, fake, imported, tmp_path):
    folder = tmp_path / "depth"
    folder.mkdir()
    names = [f"train_z_{number:04d}.exr" for number in range(101, 106)]
    for name in (*names, "train_z.json", "other_z_0101.exr", "train_z_0101.png", "train_z_0101.exr.bak"):
        (folder / name).write_bytes(b"any")
    imported.depth_source, imported.depth_file = "file", str(folder / names[2])
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    inputs = fake.submitted[-1][3]
    del inputs["plate"]
    assert {role: path.name for role, path in inputs.items()} == {
        **{f"depth-{name[8:12]}": name for name in names},
        "depth.json": "train_z.json",
    }


def test_a_z_pass_is_sent_as_numbered_files_whose_kind_nobody_has_to_say(addon, fake, imported, tmp_path):
    names = [f"render_{number:04d}.exr" for number in range(1, 6)]
    for name in names:
        (tmp_path / name).write_bytes(b"any")
    imported.depth_source, imported.depth_file = "blender", str(tmp_path / names[0])
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert params["depth"] == "blender"
    assert "depth_kind" not in params
    assert [path.name for role, path in inputs.items() if role != "plate"] == names


def test_a_plate_of_one_frame_takes_the_picture_that_was_chosen(addon, tmp_path):
    for name in ("z_0001.exr", "z_0002.exr"):
        (tmp_path / name).write_bytes(b"any")
    assert addon.depth_files.depth_inputs(tmp_path / "z_0002.exr", 1) == {"depth": tmp_path / "z_0002.exr"}


def test_more_pictures_than_a_job_takes_are_refused_with_what_to_do(addon, tmp_path, monkeypatch):
    monkeypatch.setattr(addon.depth_files, "LONGEST_SEQUENCE", 3)
    for number in range(4):
        (tmp_path / f"z{number}.png").write_bytes(b"any")
    with pytest.raises(addon.errors.ShotDataError, match="belongs to 4 files, a job takes 3"):
        addon.depth_files.depth_inputs(tmp_path / "z2.png", 2)


def test_a_side_file_is_no_depth_file(addon, tmp_path):
    with pytest.raises(addon.errors.ShotDataError, match="choose the depth file beside it"):
        addon.depth_files.depth_inputs(tmp_path / "depth.json", 5)


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (
            {"source": "file z.mkv", "kind": "metric", "parameters": {"file": "z.mkv", "kind": "inverse"}},
            "z.mkv, Inverse Depth, 0.52 to 85.7 m",
        ),
        ({"source": "a model", "kind": "relative", "parameters": {}}, "a model, 0.52 to 85.7, scale unknown"),
    ],
)
def test_the_panel_says_how_the_depth_was_read_and_how_far_it_reaches(addon, depth, said):
    assert addon.reconstruction.depth_facts(depth, 0.52, 85.66) == said


def test_a_source_lens_that_cannot_be_reconstructed_is_refused(fake, imported):
    lens = imported.source_camera.data
    lens.shift_x = 0.1
    with pytest.raises(RuntimeError, match="shift"):
        bpy.ops.ex4d.reconstruct()
    lens.shift_x = 0
    lens.keyframe_insert("lens", frame=1)
    with pytest.raises(RuntimeError, match="zooming"):
        bpy.ops.ex4d.reconstruct()


def test_progress_is_remembered_until_the_mesh_stands(addon, fake, imported):
    bpy.ops.ex4d.reconstruct()
    stages = []
    while addon.session.drain():
        job = addon.session.current.job
        if job is not None:
            stages.append((job.stage, job.i, job.n))
    assert stages[0] == ("Uploading", 0, 4)
    assert imported.is_reconstructed
    assert imported.depth_notice == "preview relief: no depth model, 3.0 to 9.0, scale unknown"
    assert imported.licence_notice == "Apache-2.0"
    assert imported.shot_notice == "Audio was ignored."


def test_a_cancelled_job_changes_nothing(addon, fake, imported):
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    assert bpy.ops.ex4d.cancel() == {"FINISHED"}
    assert not bpy.ops.ex4d.cancel.poll(), "cancelling twice is grey"
    assert addon.session.wait(10)
    assert addon.session.current.notice == "Reconstruction: cancelled"
    assert addon.session.current.step is addon.session.Step.RECONSTRUCT
    assert addon.session.current.error == ""
    assert not imported.is_reconstructed
    assert bpy.ops.ex4d.reconstruct.poll(), "and the next job can start"


def test_a_failed_job_says_what_to_do(addon, fake, imported):
    errors = import_module(f"{PACKAGE}.shared_protocol.errors")

    def fail(*job):
        raise errors.RemoteError("bad_depth", "The depth file has 3 frames, the plate 5", "Export it again.")

    fake._run = fail
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert addon.session.current.error == "The depth file has 3 frames, the plate 5. Export it again."
    assert not imported.is_reconstructed


def test_one_job_at_a_time(addon, fake, imported):
    bpy.ops.ex4d.reconstruct()
    for operator in (bpy.ops.ex4d.reconstruct, bpy.ops.ex4d.import_plate, bpy.ops.ex4d.connect_server):
        assert not operator.poll()


def test_without_plate_server_or_mesh_the_buttons_are_grey(addon, scene):
    for operator in (bpy.ops.ex4d.reconstruct, bpy.ops.ex4d.add_camera, bpy.ops.ex4d.render_take, bpy.ops.ex4d.cancel):
        assert not operator.poll()
    assert bpy.ops.ex4d.import_plate.poll()
    assert bpy.ops.ex4d.connect_server.poll()


def test_a_result_for_a_file_that_was_closed_is_kept_on_disk(addon, fake, imported, tmp_path):
    bpy.ops.ex4d.reconstruct()
    bpy.ops.wm.read_homefile(use_empty=True)
    assert addon.session.wait(10)
    assert "not open any more" in addon.session.current.notice
    assert (tmp_path / "ex4d" / "My_plate" / "display.npz").is_file()
    assert len(bpy.data.meshes) == 0


def test_an_unsaved_file_keeps_its_shot_in_the_extensions_own_folder(addon, fake, scene, plate_path):
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    folder = addon.shots.shot_folder(scene)
    assert folder.is_relative_to(Path(os.environ["BLENDER_USER_RESOURCES"]).resolve())
    assert (folder / "shot.json").is_file()
    assert scene.ex4d.is_reconstructed


def test_a_shot_made_before_saving_can_be_gathered_beside_the_file(addon, fake, scene, plate_path, tmp_path):
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    with pytest.raises(RuntimeError, match="Save the file first"):
        bpy.ops.ex4d.gather_files()
    (addon.shots.shot_folder(scene) / "plate.zip").write_bytes(b"what a cancelled reconstruction was sent")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "later.blend"))
    bpy.ops.ex4d.gather_files()
    assert addon.session.wait(10)
    name = scene.ex4d.shot_name
    assert scene.ex4d.shot_image.filepath == f"//ex4d/{name}/plate.mkv"
    assert {strip.filepath for strip in addon.compat.all_strips(scene) if strip.type != "META"} == {
        f"//ex4d/{name}/plate.mkv",
        f"//ex4d/{name}/takes/take_01/result.mkv",
    }
    assert addon.shots.shot_folder(scene) == tmp_path.resolve() / "ex4d" / name
    assert not (tmp_path / "ex4d" / name / "plate.zip").exists()
    assert "Save the file once more" in addon.session.current.notice


def test_the_word_about_a_lost_server_goes_when_it_is_back(addon, fake, imported):
    events = import_module(f"{PACKAGE}.shared_protocol.events")
    fake._steps.append(lambda: events.Disconnected("server_lost", "The server is gone", "Wait."))
    addon.session.drain()
    assert addon.session.current.error == "The server is gone. Connect again."
    assert not addon.session.current.is_connected
    fake._steps.append(lambda: events.Connected("here", "1"))
    addon.session.drain()
    assert addon.session.current.error == ""
    assert addon.session.current.is_connected


def test_without_a_server_program_connecting_fails_with_a_sentence_and_at_once(addon):
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.server_command = "/no/such/ex4d"
    try:
        start = time.monotonic()
        assert bpy.ops.ex4d.connect_server() == {"FINISHED"}
        assert time.monotonic() - start < 0.5, "the operator must not wait"
        assert addon.session.wait(30)
    finally:
        preferences.property_unset("server_command")
    assert not addon.session.current.is_connected
    assert "server command cannot be run" in addon.session.current.error


@pytest.fixture
def nothing_known(addon, tmp_path, monkeypatch):
    """A computer on which no server was started yet and no ex4d is on the PATH. Returns the server's state folder."""
    monkeypatch.setenv("EX4D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("text", [sys.executable, f'"{sys.executable}" -m ex4d', "ex4d"])
def test_the_server_command_may_be_a_name_a_path_or_a_line(addon, nothing_known, text):
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.server_command = text
    try:
        words = addon.preferences.server_command(addon.preferences.server_program(bpy.context))
    finally:
        preferences.property_unset("server_command")
    assert words == {"ex4d": ["ex4d"], sys.executable: [sys.executable]}.get(text, [sys.executable, "-m", "ex4d"])


def test_a_preference_that_is_no_command_is_refused(addon):
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.server_command = 'python "-m ex4d'
    try:
        bpy.ops.ex4d.connect_server()
        assert addon.session.wait(10)
    finally:
        preferences.property_unset("server_command")
    assert "Correct it, or leave it empty" in addon.session.current.error
    assert addon.session.current.is_link_error


def test_without_a_preference_the_server_started_last_counts_then_the_one_on_the_path(addon, nothing_known, tmp_path):
    assert addon.preferences.server_command("") is None
    program = tmp_path / "programs" / ("ex4d.exe" if os.name == "nt" else "ex4d")
    program.parent.mkdir()
    program.write_bytes(b"")
    program.chmod(0o755)
    assert addon.preferences.server_command("") == ["ex4d"]
    record = nothing_known / "command.json"
    record.write_text(json.dumps([sys.executable, "-m", "ex4d"]), encoding="utf-8")
    assert addon.preferences.server_command("") == [sys.executable, "-m", "ex4d"]
    record.write_text(json.dumps(["/a/clone/deleted/since/python", "-m", "ex4d"]), encoding="utf-8")
    assert addon.preferences.server_command("") == ["ex4d"]


def test_where_no_program_is_known_connecting_says_how_to_get_one(addon, nothing_known):
    bpy.ops.ex4d.connect_server()
    assert addon.session.wait(10)
    said = addon.session.current.error
    assert said.startswith("No EX-4D server is running. Run `python3 dev.py setup` in the clone, then ")
    assert "server start` once, or name the program in Edit > Preferences > Add-ons > EX-4D Reshoot." in said


def test_an_unexpected_error_reaches_the_panel_instead_of_ending_the_timer(addon, fake, capsys):
    def broken():
        raise ZeroDivisionError("oops")
        yield

    addon.session.start_work("Broken work", broken())
    addon.session.drain()
    assert "Unexpected ZeroDivisionError: oops" in addon.session.current.error
    assert not addon.session.current.is_busy
    assert "Traceback" in capsys.readouterr().err


def test_no_timer_is_left_where_none_would_fire(addon, fake, imported):
    bpy.ops.ex4d.reconstruct()
    assert bpy.app.background
    assert not bpy.app.timers.is_registered(addon.session._tick)
