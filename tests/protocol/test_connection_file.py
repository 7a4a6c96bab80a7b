# SPDX-License-Identifier: Apache-2.0
"""Finding the server: the state folder and the connection file."""

import json

import pytest

from shared_protocol.connection import Connection, home_folder, read_connection
from shared_protocol.errors import BadConnectionFile, NotRunning

CONNECTION = Connection("tcp://127.0.0.1:5", "s" * 40, "c" * 40, "x" * 40, "boot", 12)


def test_the_state_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("EX4D_HOME", str(tmp_path / "a"))
    assert home_folder() == tmp_path / "a"


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [("linux", "XDG_STATE_HOME", ""), ("win32", "LOCALAPPDATA", "")],
)
def test_the_state_folder_follows_the_platform(monkeypatch, tmp_path, platform, variable, tail):
    monkeypatch.delenv("EX4D_HOME", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert home_folder() == tmp_path / "ex4d"


def test_a_connection_survives_its_file(tmp_path):
    path = tmp_path / "server.json"
    path.write_text(CONNECTION.to_json())
    assert read_connection(path) == CONNECTION


def test_the_secret_does_not_show():
    assert "x" * 40 not in repr(CONNECTION)


def test_no_file_means_no_server(tmp_path):
    with pytest.raises(NotRunning, match="No EX-4D server"):
        read_connection(tmp_path / "server.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "not of a kind"),
        ({"endpoint": None}, "endpoint"),
        ({"server_key": "short"}, "server_key"),
        ({"pid": "12"}, "pid"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, says):
    path = tmp_path / "server.json"
    path.write_text(json.dumps({**json.loads(CONNECTION.to_json()), **change}))
    with pytest.raises(BadConnectionFile, match=says):
        read_connection(path)
    path.write_text("{ half")
    with pytest.raises(BadConnectionFile, match="cannot be read"):
        read_connection(path)
