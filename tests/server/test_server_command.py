# SPDX-License-Identifier: Apache-2.0
"""`ex4d server start|stop|status`, run as commands."""

import json
import subprocess
import sys

import psutil
import pytest
from conftest import HERE, PATIENCE_S, is_gone, until

from ex4d.errors import MachineError
from server.runtime import check_curve
from shared_protocol.connection import read_connection
from shared_protocol.launch import recorded_command

COMMAND = [sys.executable, str(HERE / "ex4d_command.py"), "server"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def test_start_twice_look_and_stop(home):
    assert run("status").returncode == 3
    started = run("start", "--json")
    assert started.returncode == 0, started.stderr
    first = json.loads(started.stdout)
    assert first["word"] == "started"
    assert psutil.pid_exists(first["pid"])
    assert subprocess.run([*recorded_command(), "server", "status"], check=False).returncode == 0
    again = json.loads(run("start", "--json").stdout)
    assert (again["word"], again["pid"]) == ("already running", first["pid"])
    status = run("status")
    assert (status.returncode, first["endpoint"] in status.stdout) == (0, True)
    assert run("stop").stdout.strip() == "Stopped"
    until(lambda: is_gone(first["pid"]))
    assert run("status", "--json").stdout.strip() == '{"running": false}'
    assert run("stop").returncode == 0


def test_starting_in_the_same_moment_makes_one_server(home):
    racers = [subprocess.Popen([*COMMAND, "start", "--json"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [json.loads(racer.communicate(timeout=2 * PATIENCE_S)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert len({answer["pid"] for answer in answers}) == 1


def test_a_killed_server_is_replaced(home):
    run("start")
    dead = read_connection()
    psutil.Process(dead.pid).kill()
    until(lambda: is_gone(dead.pid))
    assert run("status").returncode == 3
    assert run("start").returncode == 0
    assert read_connection().boot_id != dead.boot_id
    assert read_connection().server_key == dead.server_key
    assert run("stop").returncode == 0


def test_an_impossible_folder_is_said(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    started = run("start")
    assert started.returncode == 1
    assert str(home) in started.stderr


def test_without_encryption_the_server_refuses(monkeypatch):
    monkeypatch.setattr("zmq.has", lambda capability: False)
    with pytest.raises(MachineError, match="CURVE"):
        check_curve()


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '"ex4d"'])
def test_a_damaged_record_of_the_server_command_counts_as_none(home, text):
    assert recorded_command() is None
    home.mkdir(exist_ok=True)
    (home / "command.json").write_text(text)
    assert recorded_command() is None
