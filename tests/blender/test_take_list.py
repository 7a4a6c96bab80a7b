# SPDX-License-Identifier: Apache-2.0
"""The list of a shot's takes: what it shows, keeps and finds again."""

import json
import shutil

import bpy
import pytest


@pytest.fixture
def takes(addon, reconstructed):
    """Two takes, rendered one after the other."""
    bpy.ops.ex4d.add_camera()
    for _ in range(2):
        assert bpy.ops.ex4d.render_take() == {"FINISHED"}
        assert addon.session.wait(10)
        assert addon.session.current.error == ""
    return reconstructed


def listed(state):
    return {item.name: (item.summary, item.notes) for item in state.takes}


def refresh(addon):
    assert bpy.ops.ex4d.refresh_takes() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""


def test_each_take_has_a_line_and_the_last_one_is_selected(takes):
    assert listed(takes) == {"take_01": ("10% Preview Fill", ""), "take_02": ("10% Preview Fill", "")}
    assert takes.active_take == 1


def test_notes_stay_when_the_list_is_brought_up_to_date(addon, scene, takes):
    takes.takes[0].notes = "best so far"
    record = addon.takes.take_folder(scene, "take_01") / "take.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps(content | {"engine": "wan", "unseen": {}}), encoding="utf-8")
    refresh(addon)
    assert listed(takes)["take_01"] == ("Wan2.1 + EX-4D", "best so far")
    assert takes.active_take == 1
    assert addon.session.current.notice == "2 takes lie beside the shot."


def test_takes_from_elsewhere_are_found_and_lost_ones_are_said(addon, scene, takes):
    folder = addon.shots.takes_folder(scene)
    shutil.copytree(folder / "take_01", folder / "from_the_farm")
    shutil.rmtree(folder / "take_02")
    (folder / "broken").mkdir()
    (folder / "broken" / "take.json").write_text("[]", encoding="utf-8")
    (folder / ".coverage").mkdir()
    (folder / ".coverage" / "take.json").write_text("{}", encoding="utf-8")
    refresh(addon)
    summaries = {name: summary for name, (summary, _) in listed(takes).items()}
    assert summaries == {
        "take_01": "10% Preview Fill",
        "take_02": "files are gone",
        "broken": "cannot be read",
        "from_the_farm": "10% Preview Fill",
    }


def test_the_selected_take_is_loaded_again(addon, scene, takes):
    takes.active_take = 0
    for strip in list(addon.compat.sequencer_strips(scene)):
        addon.compat.sequencer_strips(scene).remove(strip)
    assert addon.compat.all_strips(scene) == []
    bpy.ops.ex4d.load_result()
    assert addon.session.wait(10)
    names = {strip.name for strip in addon.compat.all_strips(scene)}
    assert names == {"My_plate", "My_plate plate", "take_01"}
    assert takes.last_take == "take_01"


def test_the_passes_come_as_muted_strips_over_the_take(addon, scene, takes):
    folder = addon.takes.take_folder(scene, "take_02")
    for name in ("mask.mkv", "color.mkv"):
        shutil.copyfile(folder / "result.mkv", folder / name)
    for part in ("MATTE", "MESH"):
        bpy.ops.ex4d.load_result(part=part)
        assert addon.session.wait(10)
        assert addon.session.current.error == ""
    strips = {strip.name: (strip.channel, strip.mute) for strip in addon.compat.all_strips(scene)}
    assert strips["take_02 matte"] == (4, True)
    assert strips["take_02 mesh"] == (5, True)
    assert not strips["take_02"][1]
    assert addon.session.current.notice == "take_02 mesh is on channel 5, muted so that the take shows."
    (folder / "mask.mkv").unlink()
    bpy.ops.ex4d.load_result(part="MATTE")
    assert addon.session.wait(10)
    assert "holds no mask.mkv" in addon.session.current.error


def test_without_takes_loading_says_what_to_do(addon, reconstructed):
    assert not bpy.ops.ex4d.load_result.poll()
    assert "Render a take first" in addon.operators.grey.no_take(bpy.context)
    refresh(addon)
    assert listed(reconstructed) == {}
    assert addon.session.current.notice == "0 takes lie beside the shot."


def test_another_plate_has_takes_of_its_own(takes, plate_path):
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    assert len(takes.takes) == 0
