# SPDX-License-Identifier: Apache-2.0
"""Choosing a server: this computer's or a paired one, a real server process standing for the other computer."""

import json
import os
import subprocess
from importlib import import_module

import bpy
import pytest
from conftest import PACKAGE, REPOSITORY
from drawing import draw_menu, draw_panels
from test_end_to_end import COMMAND, PATIENCE_S


class OtherComputer:
    """A server with a state folder of its own."""

    def __init__(self, home):
        self.home = home

    def __call__(self, *words):
        """Run `ex4d server ...` there; return what it says."""
        run = subprocess.run(
            [*COMMAND, "server", *words, "--json"],
            cwd=REPOSITORY,
            env={**os.environ, "EX4D_HOME": str(self.home)},
            check=True,
            timeout=60,
            capture_output=True,
        )
        return json.loads(run.stdout)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    computer = OtherComputer(tmp_path_factory.mktemp("other"))
    computer("start")
    yield computer
    computer("stop")


@pytest.fixture
def artist(addon, tmp_path, monkeypatch):
    """The artist's own state folder: no server was ever started or paired with here."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("EX4D_HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(addon.servers, "known", [])
    return addon


def press(addon, button, **properties):
    assert button(**properties) == {"FINISHED"}
    assert addon.session.wait(PATIENCE_S)


@pytest.fixture
def paired(artist, other, scene):
    """The artist has just paired with the other computer."""
    press(artist, bpy.ops.ex4d.pair_server, line=other("pair")["text"])
    assert artist.session.current.error == ""
    return artist


def test_pairing_takes_one_line_and_the_file_holds_no_secret(paired, scene, tmp_path):
    name = scene.ex4d.server
    assert name.startswith("127.0.0.1_")
    assert paired.session.current.is_connected
    assert {"Connected", name} <= set(draw_panels(paired))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"), compress=False)
    connection = json.loads((tmp_path / "home" / "servers" / f"{name}.json").read_text(encoding="utf-8"))
    saved = (tmp_path / "shot.blend").read_bytes()
    assert name.encode() in saved
    for secret in ("client_secret", "client_key", "server_key"):
        assert connection[secret].encode() not in saved


def test_a_shot_is_reconstructed_on_the_paired_server(paired, imported):
    press(paired, bpy.ops.ex4d.use_server, name=next(iter(paired.servers.known)))
    imported.depth_source = "preview"
    press(paired, bpy.ops.ex4d.reconstruct)
    assert paired.session.current.error == ""
    assert imported.is_reconstructed


def test_the_menu_offers_this_computer_and_the_paired_ones(paired, scene):
    name = scene.ex4d.server
    press(paired, bpy.ops.ex4d.choose_server)  # without a window no menu opens
    offered = ["This Computer", name, "ex4d.pair_server"]
    assert draw_menu(paired.panels.EX4D_MT_servers) == [*offered, f"Forget {name}"]
    press(paired, bpy.ops.ex4d.use_server, name="")
    assert not paired.session.current.is_connected
    assert "No EX-4D server is running" in paired.session.current.error
    press(paired, bpy.ops.ex4d.use_server, name=name)
    assert paired.session.current.is_connected
    assert paired.session.current.error == ""


def test_a_server_is_forgotten(paired, scene, tmp_path):
    file = tmp_path / "home" / "servers" / f"{scene.ex4d.server}.json"
    assert file.exists()
    press(paired, bpy.ops.ex4d.forget_server)
    assert not file.exists()
    assert (scene.ex4d.server, paired.session.current.is_connected, paired.session.current.error) == ("", False, "")
    assert draw_menu(paired.panels.EX4D_MT_servers) == ["This Computer", "ex4d.pair_server"]


def test_only_a_paired_server_is_forgotten(artist, scene, tmp_path):
    kept = tmp_path / "home" / "keys.json"
    kept.write_text("{}", encoding="utf-8")
    (tmp_path / "home" / "servers").mkdir()
    scene.ex4d.server = "../keys"  # a file from elsewhere
    press(artist, bpy.ops.ex4d.forget_server)
    assert kept.exists()
    assert scene.ex4d.server == ""


def test_a_server_with_jobs_under_way_is_not_forgotten(paired, imported, monkeypatch):
    bpy.context.scene.ex4d.server = paired.session.current.server.name
    monkeypatch.setitem(paired.session.current.followed, "a take", print)
    assert not bpy.ops.ex4d.forget_server.poll()


def test_a_removed_client_is_told_to_pair_again(paired, other, scene):
    for client in other("clients")["clients"]:
        other("clients", "--remove", client["name"])
    paired.session.close()
    press(paired, bpy.ops.ex4d.connect_server)
    assert not paired.session.current.is_connected
    said = " ".join(draw_panels(paired))
    assert "does not let this computer in any more. Ask its user for a new pairing line" in said


def test_a_client_removed_while_connected_hears_so_with_its_next_job(paired, other, imported):
    bpy.context.scene.ex4d.server = paired.session.current.server.name
    for client in other("clients")["clients"]:
        other("clients", "--remove", client["name"])
    press(paired, bpy.ops.ex4d.reconstruct)
    assert "does not let this computer in any more" in paired.session.current.error
    assert not paired.session.current.is_connected
    assert "Connect to the Server" in draw_panels(paired)


def test_a_server_that_is_gone_says_where_to_look(paired, other, scene):
    other("stop")
    try:
        paired.session.close()
        press(paired, bpy.ops.ex4d.connect_server)
    finally:
        other("start")
    assert not paired.session.current.is_connected
    assert "See whether that computer is on" in paired.session.current.error


@pytest.mark.parametrize("line", ["", "ex4d/127.0.0.1:1/AAAA", "ex4d/here/A/B"])
def test_a_torn_pairing_line_changes_nothing(artist, scene, line):
    press(artist, bpy.ops.ex4d.pair_server, line=line)
    assert "Copy the whole line" in artist.session.current.error
    assert "Copy the whole line" in " ".join(draw_panels(artist))
    assert scene.ex4d.server == ""


def test_a_file_from_elsewhere_may_name_a_server_unknown_here(artist, scene):
    scene.ex4d.server = "render01_5555"
    press(artist, bpy.ops.ex4d.connect_server)
    assert "This computer is not paired with render01_5555" in " ".join(draw_panels(artist))
    assert not artist.session.current.is_connecting


def test_another_computer_is_asked_only_where_blender_may_go_online(artist, scene, tmp_path):
    zmq = import_module("zmq")
    connection = import_module(f"{PACKAGE}.shared_protocol.connection")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    known = connection.Connection("tcp://192.0.2.7:5555", public, public, secret)
    (tmp_path / "home" / "servers").mkdir()
    (tmp_path / "home" / "servers" / "far.json").write_text(known.to_json(), encoding="utf-8")
    scene.ex4d.server = "far"
    assert not bpy.app.online_access
    press(artist, bpy.ops.ex4d.connect_server)
    assert "Allow Online Access" in artist.session.current.error
    press(artist, bpy.ops.ex4d.pair_server, line=f"ex4d server join ex4d/192.0.2.7:5555/{'A' * 52}/code")
    assert "Allow Online Access" in artist.session.current.error


def test_scenes_with_different_servers_do_not_mix_them_up(artist, fake, imported):
    imported.server = "render01"
    assert artist.operators.grey.no_server(bpy.context).startswith("Connected to This Computer, but this scene uses")
    assert not bpy.ops.ex4d.reconstruct.poll()
    assert bpy.ops.ex4d.connect_server.poll()
    imported.server = ""
    bpy.ops.ex4d.reconstruct()
    imported.server = "render01"
    fake._steps.clear()
    artist.session.current.is_connected = False
    assert not bpy.ops.ex4d.connect_server.poll(), "the job waits for its own server"
