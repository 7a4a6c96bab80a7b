# SPDX-License-Identifier: Apache-2.0
"""Where jobs run: what is said when they cannot run on Ray, and what becomes of a node's worker without its server."""

import importlib.util
import subprocess
import sys

import psutil
import pytest
from conftest import HERE, PATIENCE_S, is_gone, until

from ex4d.errors import InputError
from ex4d.ray_cluster import Cluster

EX4D = [sys.executable, str(HERE / "ex4d_command.py")]


def start(*options):
    return subprocess.run([*EX4D, "server", "start", *options], capture_output=True, text=True, check=False)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_a_missing_ray_is_named_with_what_installs_it(home):
    refused = start("--executor", "ray", "--address", "127.0.0.1:1")
    assert (refused.returncode, "pip install 'ex4d[ray]'" in refused.stderr) == (1, True)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_cluster_that_is_not_there_is_said_at_once(home):
    refused = start("--executor", "ray", "--address", "127.0.0.1:1")
    assert (refused.returncode, "No Ray cluster answers at 127.0.0.1:1" in refused.stderr) == (1, True)


@pytest.mark.parametrize("options", [("--executor", "ray"), ("--address", "127.0.0.1:1")])
def test_ray_and_its_address_belong_together(home, options):
    refused = start(*options)
    assert (refused.returncode, "belong together" in refused.stderr) == (1, True)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "auto", ":6379", "head:ray"])
def test_an_address_that_is_no_clusters_is_refused(address):
    with pytest.raises(InputError, match="HOST:PORT"):
        Cluster(address)


def test_a_nodes_worker_ends_when_its_server_is_not_heard(home, tmp_path, monkeypatch):
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    code = "import time; from server.ray_host import RayHost; RayHost('runners:run_job', 1.0); time.sleep(600)"
    host = subprocess.Popen([sys.executable, "-c", code])
    (worker,) = until(lambda: psutil.Process(host.pid).children(), "the worker's start")
    assert host.wait(PATIENCE_S) == 0
    until(lambda: is_gone(worker.pid), "the worker's end")
    assert not list((tmp_path / "node").iterdir())


def test_what_a_killed_nodes_worker_left_is_dropped(home, tmp_path, monkeypatch):
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    code = "import time; from server.ray_host import RayHost; RayHost('runners:run_job', {}); time.sleep(600)"
    host = subprocess.Popen([sys.executable, "-c", code.format(60.0)])
    until(lambda: list((tmp_path / "node").glob("*/worker.log")), "the worker's start")
    host.kill()
    host.wait()
    assert subprocess.run([sys.executable, "-c", code.format(0.1)], check=True).returncode == 0
    assert not list((tmp_path / "node").iterdir())
