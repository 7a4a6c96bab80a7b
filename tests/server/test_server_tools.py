# SPDX-License-Identifier: Apache-2.0
"""`ex4d server jobs|cancel|logs|metrics|pair|join|clients`, run as commands against a real server."""

import json
import subprocess
import sys

import pytest
from conftest import HERE, PATIENCE_S

from server.metrics import prometheus_text

COMMAND = [sys.executable, str(HERE / "ex4d_command.py"), "server"]


def run(*arguments, env=None):
    finished = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False, env=env
    )
    return finished.returncode, finished.stdout, finished.stderr


@pytest.fixture
def working(server):
    """A server with one running and one done job."""
    server.start()
    follower = server.follower()
    done = follower.submit("steps", {"n": 1})
    follower.wait(done)
    running = follower.submit("steps", {"n": 100_000})
    follower.wait_progress(running)
    return done, running


def test_jobs_are_listed_and_stopped(working):
    done, running = working
    code, text, _ = run("jobs")
    assert code == 0
    assert text.splitlines()[0].startswith(f"{running[:12]}  running")
    assert f"{done[:12]}  done" in text
    assert {job["job_id"] for job in json.loads(run("jobs", "--json")[1])} == {done, running}
    assert run("cancel", running[:8])[1].strip() == "The job is being stopped"
    code, _, error = run("cancel", "zzz")
    assert (code, "0 jobs begin with zzz" in error) == (1, True)


def test_a_waiting_job_is_put_first(working, server):
    follower = server.follower()
    first, second = (follower.submit("steps", {"n": 1, "id": n}) for n in range(2))
    assert run("prioritise", second, "5")[1].strip() == "1 jobs run before it"
    assert [job["job_id"] for job in json.loads(run("jobs", "--json")[1])][1:3] == [second, first]
    assert run("prioritise", second, "500")[0] == 1


def test_logs_are_shown(working):
    done, _ = working
    code, text, _ = run("logs", "-n", "3")
    assert (code, len(text.splitlines())) == (0, 4)
    code, text, _ = run("logs", done[:10])
    assert (code, f"job {done} done" in text) == (0, True)
    assert run("logs", "../../keys")[0] == 1
    assert run("logs", "f" * 32)[0] == 1


def test_numbers_for_monitoring(working):
    values = json.loads(run("metrics", "--json")[1])
    assert (values["jobs"]["done"], values["jobs"]["running"]) == (1, 1)
    assert values["job_seconds"]["steps"]["jobs"] == 1
    assert values["server_memory_mb"] > 10
    assert values["disk_free_mb"] > 0
    lines = run("metrics")[1].splitlines()
    assert 'ex4d_jobs{name="done"} 1' in lines
    assert 'ex4d_job_seconds_jobs{name="steps"} 1' in lines
    assert all(line.startswith("ex4d_") for line in lines)


def test_names_and_numbers_become_lines():
    values = {"uptime_s": 2.5, "jobs": {"done": 3}, "gpus": {"gpu0": {"memory_used_mb": 7}}}
    assert prometheus_text(values).splitlines() == [
        "ex4d_uptime_s 2.5",
        'ex4d_jobs{name="done"} 3',
        'ex4d_gpus_memory_used_mb{name="gpu0"} 7',
    ]


def test_another_machine_is_paired_looked_at_and_refused_again(working, monkeypatch, tmp_path):
    code, text, _ = run("pair")
    assert (code, "listens on its own machine only" in text) == (0, True)
    line = json.loads(run("pair", "--json")[1])["text"]
    home = tmp_path / "annas"
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("EX4D_HOME", str(home))
        assert run("status")[0] == 3
        assert run("join", "nonsense")[0] == 1
        joined = json.loads(run("join", line, "--name", "anna", "--json")[1])
        assert run("status", "--server", joined["server"])[0] == 0
        assert run("jobs", "--server", "nowhere")[0] == 3
    assert "anna " in run("clients")[1]
    assert "No other clients" in run("clients", "--remove", "anna")[1]
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("EX4D_HOME", str(home))
        code, _, error = run("status", "--server", joined["server"])
        assert (code, "pair again" in error) == (1, True)
        assert "clients --remove" in run("forget", joined["server"])[1]
        code, _, error = run("forget", joined["server"])
        assert (code, "No server called" in error) == (1, True)
        assert run("status", "--server", joined["server"])[0] == 3


def test_a_wrong_address_is_said_at_the_start(home):
    code, _, error = run("start", "--listen", "example.com")
    assert (code, "IP address" in error) == (1, True)
