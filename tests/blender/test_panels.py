# SPDX-License-Identifier: Apache-2.0
"""The panels draw in every state, with icons, properties and operators that this Blender has."""

from functools import partial
from importlib import import_module

import bpy
import pytest
from conftest import PACKAGE
from drawing import draw_panels


@pytest.fixture
def drawn(addon):
    """A function that draws all panels and returns their texts."""
    return partial(draw_panels, addon)


def test_an_empty_scene_offers_the_first_step(drawn, scene):
    assert "ex4d.import_plate" in drawn()


def test_every_state_of_the_job_can_be_drawn(addon, drawn, fake, imported, scene):
    assert any("12 x 8, 5 frames, 24 fps" in text for text in drawn())
    assert "The lens is a guess" in " ".join(drawn())
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    said = drawn()
    assert said.index("Uploading") < said.index("ex4d.cancel") < said.index("ex4d.add_camera")
    assert "ex4d.reconstruct" not in said, "its progress stands in its place"
    assert "ex4d.render_take" in said
    while addon.session.drain():
        drawn()
    said = " ".join(drawn())
    assert "preview relief: no depth model" in said
    assert "Licence: Apache-2.0" in said
    assert "Scene set from the plate" not in said, "old news"
    bpy.ops.ex4d.check_coverage()
    while addon.session.drain():
        said = drawn()
        assert "ex4d.check_coverage" not in said, "its progress stands in its place"
        assert "ex4d.render_take" in said
    said = " ".join(drawn())
    assert said.index("Frames 1 to 5") < said.index("Most is missing on frame 2") < said.index("ex4d.render_take")
    bpy.ops.ex4d.render_take()
    said = drawn()
    assert "ex4d.render_take" in said, "the next take need not wait"
    assert said.index("take_01") < said.index("ex4d.cancel_take"), "it can be stopped where it is listed"
    while addon.session.drain():
        drawn()
    assert "ex4d.cancel_take" not in drawn()
    said = " ".join(drawn())
    assert "take_01 is on channel 2 of the sequencer" in said
    assert "does not show 10% of the picture" in said


def test_a_failure_is_told_under_the_button_that_caused_it(addon, drawn, fake, imported):
    fake._run = None  # a job without files
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    said = drawn()
    wrong = next(index for index, text in enumerate(said) if "holds no shot" in " ".join(said[index:]))
    assert said.index("ex4d.reconstruct") < said.index("ex4d.add_camera")
    assert wrong < said.index("ex4d.add_camera")
    bpy.ops.ex4d.reconstruct()
    assert "holds no shot" not in " ".join(drawn()), "pressing the button again clears it"


@pytest.mark.parametrize(("eta_s", "said"), [(None, "Painting"), (0.4, "Painting"), (12.3, "Painting, 12 s left")])
def test_the_time_left_is_told_from_one_second_on(addon, eta_s, said):
    addon.session.current.is_connected = True
    job = addon.session.RunningJob("id", "take_01", print, stage="Painting", eta_s=eta_s)
    assert addon.panels.parts.job_text(job) == said


def test_bytes_are_told_as_a_share(addon):
    addon.session.current.is_connected = True
    job = addon.session.RunningJob("id", "take_01", print, stage="Hashing", i=5 << 20, n=20 << 20, message="5/20")
    assert addon.panels.parts.job_text(job) == "Hashing 25%"


def test_a_lost_server_offers_the_way_back_while_a_job_waits(addon, drawn, fake, imported):
    events = import_module(f"{PACKAGE}.shared_protocol.events")
    bpy.ops.ex4d.reconstruct()
    fake._steps.clear()
    fake._steps.append(lambda: events.Disconnected("server_lost", "The server is gone", "Connect again."))
    addon.session.drain()
    said = " ".join(drawn())
    assert "The server is gone. The job goes on by itself if the server runs again within a minute." in said
    assert "Connect to the Server" in said
    assert "Preferences" not in said, "the program is known"
    assert "Waiting for the server" in said
    assert bpy.ops.ex4d.connect_server.poll()
    client = addon.session.current.client
    addon.session.connect(addon.session.Server(command=["another", "server"]))
    assert addon.session.current.client is client, "the job waits in the client that sent it"
    addon.session.drain()
    assert addon.session.current.is_connected
    assert not bpy.ops.ex4d.connect_server.poll()
    assert "The server is gone" not in " ".join(drawn())


def test_where_no_server_is_known_the_preferences_are_one_click_away(addon, drawn):
    events = import_module(f"{PACKAGE}.shared_protocol.events")
    addon.session._handle(events.Disconnected("not_running", "No EX-4D server is running", ""))
    said = drawn()
    assert "Edit > Preferences > Add-ons > EX-4D Reshoot" in " ".join(said)
    assert "Preferences" in said
    assert bpy.types.PREFERENCES_OT_addon_show.is_registered


def test_undoing_the_import_takes_its_notice_along(drawn, imported):
    assert "Scene set from the plate" in " ".join(drawn())
    imported.shot_id = ""  # as undo does with all of the scene's properties
    assert "Scene set from the plate" not in " ".join(drawn())


def test_the_licences_tick_is_drawn_under_the_depth_source_when_it_is_needed(drawn, imported):
    assert "accept_licence" not in drawn()
    imported.depth_source = "depthcrafter"
    said = drawn()
    assert said.index("depth_source") < said.index("accept_licence") < said.index("ex4d.reconstruct")


def test_long_texts_are_broken_between_words(addon):
    def fits(line):
        return len(line) <= 12

    assert addon.panels.parts.lines_of("a word and an unbreakablelongword end", fits) == [
        "a word and",
        "an",
        "unbreakablelongword",
        "end",
    ]
    assert addon.panels.parts.lines_of("", fits) == [""]


def test_a_sentence_says_why_a_button_is_grey(addon, fake, imported):
    context = bpy.context
    grey = addon.operators.grey
    assert grey.no_shot(context) is None
    assert grey.no_reconstruction(context) == "Reconstruct the shot first"
    bpy.data.objects.remove(imported.root)
    assert "Empty was deleted" in grey.no_shot(context)
    bpy.context.scene.ex4d.shot_id = ""
    assert grey.no_shot(context) == "Import a plate first"
    addon.session.current.is_connected = False
    assert grey.no_server(context) == "Connect to the server first"
