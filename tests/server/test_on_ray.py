# SPDX-License-Identifier: Apache-2.0
"""Jobs on a Ray cluster: the same results as here, and the same promises when workers, servers or the cluster die."""

import importlib.util
import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import psutil
import pytest
from conftest import HERE, PATIENCE_S, is_gone, until
from ray_node import RayCluster

from ex4d.video import write_video

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'ex4d[ray]'"
)
EX4D = [sys.executable, str(HERE / "ex4d_command.py")]


@pytest.fixture
def open_cluster():
    """One that lets everybody in."""
    cluster = RayCluster(RAY_AUTH_MODE="disabled")
    yield cluster
    cluster.close()


def on(cluster, *options):
    """The server's options for jobs on this cluster."""
    return ("--executor", "ray", "--address", cluster.address, *options)


def done(server, kind, inputs):
    """Have a job done by a server that is started anew. Returns: the names of its events, role -> sha256"""
    follower = server.follower()
    files = {role: (follower.client.upload(path), path.name) for role, path in inputs.items()}
    job_id = follower.submit(kind, {}, files)
    end = follower.wait(job_id)
    assert end.name == "done", end
    return follower.names(job_id), {output.role: output.artifact.sha256 for output in end.outputs}


def on_a_farm(folder, kind, inputs):
    """Have the same done by `ex4d run`."""
    files = {role: {"path": str(path)} for role, path in inputs.items()}
    (folder / "job.json").write_text(json.dumps({"schema": 1, "kind": kind, "params": {}, "inputs": files}))
    command = [*EX4D, "run", str(folder / "job.json"), "--out", str(folder / kind), "--force", "--progress", "jsonl"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = [json.loads(line)["t"] for line in told if line.startswith("{")]
    outputs = json.loads((folder / kind / "result.json").read_text())["outputs"]
    return [name for name in names if name != "progress"], {role: each["sha256"] for role, each in outputs.items()}


def stop(server):
    server.process.terminate()
    server.process.wait(PATIENCE_S)


def test_a_job_is_the_same_here_on_a_cluster_and_on_a_farm(server, ray_cluster, tmp_path):
    random = np.random.default_rng(0)
    write_video(tmp_path / "plate.mkv", random.integers(0, 256, (4, 360, 480, 3), np.uint8), Fraction(24), "ffv1")
    np.save(tmp_path / "depth.npy", random.uniform(2, 8, (4, 360, 480)))  # 5.5 MB: two chunks
    inputs = {"plate": tmp_path / "plate.mkv", "depth": tmp_path / "depth.npy"}
    here = on_a_farm(tmp_path, "reconstruct", inputs)
    for way in ((), on(ray_cluster), on(ray_cluster, "--no-shared-folder")):
        server.start("--job-runner", "ex4d.jobs:run_job", *way)
        names, outputs = done(server, "reconstruct", inputs)
        assert (names[1:], outputs) == here, way
        asking = server.follower().client
        (job, *_) = asking.jobs()
        assert f"job {job.job_id} done" in asking.log(job.job_id)
        stop(server)


def test_workers_die_and_stop_as_here(server, ray_cluster, tmp_path):
    server.start(*on(ray_cluster, "--cancel-s", "0.5"))
    follower = server.follower()
    crashed = follower.submit("die", {"marks": str(tmp_path / "crashed"), "times": 1})
    poison = follower.submit("die", {"marks": str(tmp_path / "poison"), "times": 9})
    assert follower.wait(crashed).attempt == 2
    (requeued,) = [event for event in follower.events(crashed) if event.name == "requeued"]
    assert "exit code 9" in requeued.note
    assert (follower.wait(poison).error.code, (tmp_path / "poison").read_text()) == ("worker_lost", "xx")

    stepping = follower.submit("paint", {"n": 100_000})
    follower.wait(stepping, lambda message: getattr(message, "preview", None))
    follower.client.cancel(stepping)
    assert follower.wait(stepping).name == "cancelled"
    deaf = follower.submit("deaf", {"s": 600})
    follower.wait(deaf, lambda message: getattr(message, "stage", "") == "Not listening")
    follower.client.cancel(deaf)
    assert follower.wait(deaf).name == "cancelled"
    assert follower.wait(follower.submit("steps", {"n": 2, "marks": str(tmp_path / "idle")})).name == "done"
    idle = int((tmp_path / "idle").read_text())
    psutil.Process(idle).kill()
    until(lambda: is_gone(idle), "the idle worker's end")
    assert follower.wait(follower.submit("steps", {"n": 3})).attempt == 1


def test_each_worker_has_its_gpus_and_nothing_outlives_the_server(server, ray_cluster, tmp_path):
    server.start(*on(ray_cluster, "--idle-s", "0.5"))
    (tmp_path / "told").mkdir()
    follower = server.follower()
    params = {"folder": str(tmp_path / "told"), "fellows": 2}
    jobs = [follower.submit("device", {**params, "n": n}) for n in range(2)]
    assert [follower.wait(job).name for job in jobs] == ["done", "done"]
    assert sorted(path.name for path in (tmp_path / "told").iterdir()) == ["0", "1"]
    until(lambda: not _ours(), "the end of idle workers")

    job = follower.submit("steps", {"n": 100_000, "marks": str(tmp_path / "marks")})
    follower.wait_progress(job, 1)
    worker = psutil.Process(int((tmp_path / "marks").read_text()))
    assert worker.parent().name().startswith("ray::")
    server.kill()
    until(lambda: is_gone(worker.pid) and not _ours(), "the end of the workers")
    server.start(*on(ray_cluster))
    after = server.follower()
    after.client.subscribe(job)
    after.wait_progress(job, 1)
    stop(server)
    until(lambda: not _ours(), "the end of the workers")


def test_a_cluster_that_lets_everybody_in_is_refused_and_one_that_is_gone_waited_for(server, home, open_cluster):
    start = [*EX4D, "server", "start", "--executor", "ray", "--address", open_cluster.address]
    refused = subprocess.run(start, capture_output=True, text=True, check=False)
    assert (refused.returncode, "does not ask for a token" in refused.stderr) == (1, True)
    server.start(*on(open_cluster, "--allow-open-cluster"))
    follower = server.follower()
    job = follower.submit("steps", {"n": 200})
    follower.wait_progress(job, 1)
    open_cluster.kill()
    follower.wait(job, lambda message: getattr(message, "name", "") == "requeued")
    until(lambda: "No Ray cluster" in follower.client.status().workers[0].device, "the server's notice of it")
    open_cluster.start()
    assert follower.wait(job).attempt == 2
    assert server.process.poll() is None


def test_a_token_that_is_not_the_clusters_is_refused(home, ray_cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    start = [*EX4D, "server", "start", "--executor", "ray", "--address", ray_cluster.address]
    refused = subprocess.run(start, capture_output=True, text=True, check=False)
    assert (refused.returncode, "does not take our token" in refused.stderr) == (1, True)


def _ours() -> list[str]:
    """What runs of ours on the nodes of this machine's clusters."""
    names = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith("ray::RayHost") or "server.ray_bridge" in line:
            names.append(line)
    return names
