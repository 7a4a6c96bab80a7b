# SPDX-License-Identifier: Apache-2.0
"""A take: what is sent, and the strip that comes back."""

import bpy
import numpy as np
import pytest
from conftest import FRAMES, HEIGHT, WIDTH


def strips_of(addon, scene):
    """{name: (channel, first frame, frames)}, those in meta strips too but not these."""
    return {
        strip.name: (strip.channel, *addon.compat.strip_range(strip))
        for strip in addon.compat.all_strips(scene)
        if strip.type != "META"
    }


@pytest.fixture
def take(addon, reconstructed):
    """The first take, rendered and loaded."""
    bpy.ops.ex4d.add_camera()
    assert bpy.ops.ex4d.render_take() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    return reconstructed


def test_the_take_is_sent_with_the_shot_and_the_camera(addon, fake, take):
    _, kind, params, inputs, folder = fake.submitted[-1]
    assert kind == "take"
    assert params == {"name": "take_01", "engine": "auto", "raster": "auto", "seed": 0}
    assert set(inputs) == {"shot.json", "plate.mkv", "depth.npz", "camera.npz"}
    assert folder == addon.shots.shot_folder(bpy.context.scene) / "takes" / "take_01"
    with np.load(inputs["camera.npz"], allow_pickle=False) as camera:
        np.testing.assert_allclose(camera["world_to_camera"], np.tile(np.eye(4), (FRAMES, 1, 1)), atol=1e-7)
        assert list(camera["size"]) == [WIDTH, HEIGHT]


def test_the_plate_and_the_result_lie_on_the_plates_frames(addon, scene, take):
    assert strips_of(addon, scene) == {"My_plate plate": (1, 1, FRAMES), "take_01": (2, 1, FRAMES)}
    result = next(strip for strip in addon.compat.all_strips(scene) if strip.name == "take_01")
    assert result.filepath == "//ex4d/My_plate/takes/take_01/result.mkv"


def test_a_take_of_a_part_of_the_plate_starts_where_the_part_does(addon, scene, take):
    scene.frame_start, scene.frame_end = 3, 4
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert strips_of(addon, scene)["take_02"] == (3, 3, 2)


def test_a_plate_at_1001_gets_its_result_at_1001(addon, saved, fake, scene, plate_path):
    bpy.ops.ex4d.import_plate(filepath=str(plate_path), frame_start=1001)
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert strips_of(addon, scene) == {"My_plate plate": (1, 1001, FRAMES), "take_01": (2, 1001, FRAMES)}


def test_loading_again_changes_nothing_where_the_strip_is_right(addon, scene, take):
    before = {strip.name: strip.as_pointer() for strip in addon.compat.all_strips(scene)}
    assert len(before) == 3
    bpy.ops.ex4d.load_result()
    assert addon.session.wait(10)
    assert {strip.name: strip.as_pointer() for strip in addon.compat.all_strips(scene)} == before


def test_loading_again_puts_a_moved_strip_back_and_other_strips_are_left_alone(addon, scene, take):
    strips = addon.compat.sequencer_strips(scene)
    titles = strips.new_movie(
        name="titles", filepath=str(addon.shots.shot_file(scene, "plate.mkv")), channel=3, frame_start=1
    )
    moved = next(strip for strip in addon.compat.all_strips(scene) if strip.name == "take_01")
    if hasattr(moved, "content_start"):  # 5.1 deprecated the older name
        moved.content_start += 10
    else:
        moved.frame_start += 10
    bpy.ops.ex4d.load_result()
    assert addon.session.wait(10)
    found = strips_of(addon, scene)
    assert found["take_01"] == (2, 1, FRAMES)
    assert found["titles"] == (titles.channel, 1, FRAMES)
    assert len(found) == 3


def test_the_next_take_gets_the_next_number_and_an_existing_one_is_not_overwritten(addon, take):
    assert take.take_name == "take_02"
    assert take.last_take == "take_01"
    take.take_name = "take_01"
    with pytest.raises(RuntimeError, match="exists already"):
        bpy.ops.ex4d.render_take()


def test_rendering_the_scene_still_shows_the_scene(scene, take):
    assert not scene.render.use_sequencer


def test_the_artist_is_told_what_was_painted_and_by_what(take):
    assert take.take_coverage == "The plate does not show 10% of the picture, 25% at worst (frame 3)."
    for said in ("Painted by Preview Fill.", "Filled, not generated."):
        assert said in take.take_notice


def test_the_worst_frame_is_named_as_the_timeline_counts(addon, scene, fake, take):
    scene.frame_start = 3
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert "(frame 5)" in take.take_coverage


def test_each_fact_about_a_take_has_a_line_of_its_own(take):
    where, engine, notice, *_ = take.take_notice.splitlines()
    assert where.startswith("take_01 is on channel 2 of the sequencer, in the strip My_plate (Tab opens it).")
    assert engine == "Painted by Preview Fill."
    assert notice == "Filled, not generated."


def test_where_no_sequencer_is_open_the_way_to_one_is_told(addon, scene, take):
    is_told = "add a Video Editing workspace" in take.take_notice
    assert is_told == (bpy.app.version >= (5, 0, 0))


def test_settings_and_what_the_licences_allow_are_told(addon):
    record = {"engine": "wan", "seed": 7, "settings": {"quality": "fp8", "steps": 25}, "commercial_use": True}
    painted = "Painted by Wan2.1 + EX-4D (quality fp8, steps 25, seed 7)."
    assert addon.takes.said_by(record) == [painted, "The licences allow paid work."]
    assert addon.takes.said_by({"commercial_use": None}) == ["Paid work: ask the depth file's maker."]
    forbidden = {"commercial_use": False, "notices": ["Not for paid work: made with DepthCrafter."]}
    assert addon.takes.said_by(forbidden) == forbidden["notices"]


def test_a_take_that_tells_nothing_is_shown_with_nothing(addon):
    assert addon.takes.said_by({}) == []


def test_an_artists_own_edit_keeps_its_settings(addon, scene, reconstructed):
    strips = addon.compat.sequencer_strips(scene)
    strips.new_movie(name="cut", filepath=str(addon.shots.shot_file(scene, "plate.mkv")), channel=1, frame_start=2)
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert scene.render.use_sequencer
    assert strips_of(addon, scene) == {
        "cut": (1, 2, FRAMES),
        "My_plate plate": (1, 1, FRAMES),
        "take_01": (2, 1, FRAMES),
    }


def test_the_sequencers_show_the_scene(scene, take):
    for workspace in bpy.data.workspaces:
        if hasattr(workspace, "sequencer_scene"):
            assert workspace.sequencer_scene is scene


def test_a_result_of_the_wrong_length_is_refused(addon, scene, take):
    with np.load(addon.takes.take_folder(scene, "take_01") / "camera.npz", allow_pickle=False) as file:
        arrays = dict(file)
    arrays["source_frame"] = np.arange(FRAMES + 2.0)
    np.savez(addon.takes.take_folder(scene, "take_01") / "camera.npz", **arrays)
    bpy.ops.ex4d.load_result()
    assert addon.session.wait(10)
    assert f"should fill {FRAMES + 2} frames" in addon.session.current.error


def test_a_missing_take_is_refused_with_what_to_do(addon, take):
    bpy.ops.ex4d.load_result(take="take_77")
    assert addon.session.wait(10)
    assert "Render the take again" in addon.session.current.error


def test_an_orthographic_camera_sends_nothing(addon, fake, scene, reconstructed):
    bpy.ops.ex4d.add_camera()
    scene.camera.data.type = "ORTHO"
    sent = len(fake.submitted)
    with pytest.raises(RuntimeError, match="orthographic"):
        bpy.ops.ex4d.render_take()
    assert len(fake.submitted) == sent
    assert not addon.session.current.is_busy


def test_a_missing_shot_file_is_named(addon, scene, reconstructed):
    addon.shots.shot_file(scene, "depth.npz").unlink()
    with pytest.raises(RuntimeError, match=r"depth\.npz is missing"):
        bpy.ops.ex4d.render_take()


@pytest.mark.parametrize(
    ("name", "expected"), [("take_01", "take_02"), ("take_09", "take_10"), ("v099", "v100"), ("wide", "wide_02")]
)
def test_take_names_count_on(addon, name, expected):
    assert addon.take_list.next_name(name) == expected
