# SPDX-License-Identifier: Apache-2.0
"""What `ex4d doctor` says of the server."""

import os
import socket
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest
from conftest import HERE

from server import doctor
from server.devices import Gpu
from server.runtime import Home

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows keeps rights elsewhere")


def found(what):
    return next(finding for finding in doctor.findings() if finding.what == what)


def test_the_doctor_of_ex4d_finds_it():
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    value = project["entry-points"]["ex4d.findings"]["server"]
    assert EntryPoint("server", value, "ex4d.findings").load() is doctor.findings


def test_where_no_server_ever_ran_nothing_is_wrong_and_nothing_is_made(home):
    assert found("server folder").ok
    assert found("server keys").ok
    assert found("server").found.startswith("not running")
    assert not home.exists()


def test_a_running_server_is_named(server):
    server.start()
    assert f"pid {server.process.pid}" in found("server").found
    assert found("server keys").ok
    assert found("server folder").ok


def test_the_room_for_the_cache_is_told_with_what_the_cache_holds(home, monkeypatch):
    finding = found("server disk")
    assert finding.found.endswith("GB free, 0.0 GB in the cache")
    monkeypatch.setattr(doctor, "LEAST_ROOM", 1e18)
    finding = found("server disk")
    assert (finding.ok, finding.required) == (False, False)
    Home(home).create()
    with (home / "artifacts" / ("0" * 64)).open("wb") as file:
        file.truncate(300_000_000)
    assert found("server disk").found.endswith("0.3 GB in the cache")


@posix_only
def test_rights_of_others_on_keys_and_folder_are_found(home):
    Home(home).create()
    keys = home / "keys.json"
    keys.touch(0o644)
    keys.chmod(0o644)
    home.chmod(0o755)
    assert not found("server keys").ok
    assert f"chmod 600 {keys}" in found("server keys").cure
    assert f"chmod 700 {home}" in found("server folder").cure


def test_a_port_that_another_program_has_is_found(home, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(doctor, "PORT", other.getsockname()[1])
        finding = found(f"port {doctor.PORT} for other machines")
        assert (finding.ok, finding.required) == (False, False)
        assert f"--listen IP:{doctor.PORT + 1}" in finding.cure
    assert found(f"port {doctor.PORT} for other machines").ok


@posix_only
def test_other_programs_on_the_gpu_are_named_and_our_workers_are_not(server, tmp_path, monkeypatch):
    server.start()
    program = tmp_path / "nvidia-smi"  # answers as the real one does
    rows = f"{server.process.pid}, 900, python\n4242, 5120, /opt/other renderer/render\n"
    program.write_text(f"#!{sys.executable}\nprint({rows!r}, end='')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor, "find_gpus", lambda: [Gpu("0", "GPU-1", "Card", 6020, 24576)])
    finding = found("other programs on the GPU")
    assert not finding.ok
    assert finding.found == "render (pid 4242, 5120 MB) (GPU 0: 6020 of 24576 MB used)"
