# SPDX-License-Identifier: Apache-2.0
"""`ex4d run`, as a farm manager calls it: exit codes, results that are whole or not there, the same as the server's."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import HERE, PATIENCE_S

from server.failures import classify

COMMAND = [sys.executable, str(HERE / "ex4d_command.py"), "run"]


@pytest.fixture
def job(home, tmp_path):
    """Writes a job file and says how to run it."""

    def write(kind, params=None, inputs=None, **changes):
        data = {"schema": 1, "kind": kind, "params": params or {}, "inputs": inputs or {}, **changes}
        path = tmp_path / "job.json"
        path.write_text(json.dumps(data))
        return [*COMMAND, str(path), "--out", str(tmp_path / "out"), "--job-runner", "runners:run_job"]

    return write


def run(command, *options):
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def lines(finished):
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_a_job_leaves_its_files_and_last_of_all_its_result(job, tmp_path):
    plate = tmp_path / "plate.mov"
    plate.write_bytes(b"frames" * 1000)
    sha256 = hashlib.sha256(plate.read_bytes()).hexdigest()
    command = job("copy", {"suffix": ".mov"}, {"plate.mkv": {"path": "plate.mov", "sha256": sha256}})
    finished = run(command, "--progress", "jsonl")
    assert finished.returncode == 0, finished.stderr
    told = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    names = [json.loads(line)["t"] for line in told]
    assert (names[:2], names[-1]) == (["started", "stage"], "done")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["outputs"]["plate.mkv"]["sha256"] == sha256
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plate.mkv", "result.json"]
    again = run(command, "--progress", "jsonl")
    assert (again.returncode, lines(again)[0]["known"]) == (0, True)
    (tmp_path / "out" / "plate.mkv").write_bytes(b"torn")
    assert run(command).returncode == 0
    assert (tmp_path / "out" / "plate.mkv").read_bytes() == plate.read_bytes()


def test_the_result_is_the_servers(job, server, tmp_path):
    assert run(job("steps", {"n": 2, "stages": ["A", "B"]})).returncode == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 2, "stages": ["A", "B"]})
    outputs = follower.wait(job_id).outputs
    assert {output.role: output.artifact.sha256 for output in outputs} == {
        role: output["sha256"] for role, output in result["outputs"].items()
    }
    finished = run([*job("steps", {"n": 2, "stages": ["A", "B"]}), "--force"], "--progress", "jsonl")
    told = [line["t"] for line in lines(finished) if line["t"] != "progress"]
    assert ["queued", *told] == follower.names(job_id)


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [("depth", 2, "The depth has 3 frames"), ("disk", 3, "space"), ("memory", 4, "memory"), ("bug", 1, "ZeroDivision")],
)
def test_exit_codes_tell_the_farm_what_to_do(job, tmp_path, what, code, says):
    finished = run(job("raise", {"what": what}))
    assert finished.returncode == code
    assert says in finished.stderr
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema"),
        ({"color": "red"}, "color"),
        ({"inputs": {"plate": "plate.mov"}}, "inputs.plate"),
        ({"inputs": {"plate": {"path": "absent.mov"}}}, "absent.mov"),
        ({"inputs": {"../plate": {"path": "job.json"}}}, "role"),
        ({"inputs": {"plate": {"path": "job.json", "sha256": "0" * 64}}}, "sha256"),
    ],
)
def test_a_wrong_job_file_is_told_apart(job, change, says):
    finished = run(job("steps", {"n": 1}, **change))
    assert (finished.returncode, says in finished.stderr) == (2, True)


def test_a_job_without_a_kind_is_wrong(job):
    finished = run(job(None))
    assert (finished.returncode, "kind" in finished.stderr) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_a_farm_that_stops_a_job_leaves_nothing_half(job, tmp_path):
    process = subprocess.Popen(
        [*job("steps", {"n": 100_000}), "--progress", "jsonl"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "progress" not in process.stdout.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 5
    assert json.loads(rest.splitlines()[-1])["t"] == "cancelled"
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_is_said(job, tmp_path):
    (tmp_path / "out").write_text("a file")
    finished = run(job("steps", {"n": 1}))
    assert (finished.returncode, "--out" in finished.stderr) == (3, True)


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class AcceleratorError(RuntimeError):
    """The same."""


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (OutOfMemoryError("CUDA out of memory"), "out_of_memory", 4),
        (MemoryError(), "out_of_memory", 4),
        (AcceleratorError("an illegal memory access"), "machine", 3),
        (RuntimeError("CUDA error: device-side assert"), "machine", 3),
    ],
)
def test_a_gpus_errors_end_their_process(error, code, exit_code):
    failure = classify(error)
    assert (failure.code, failure.exit_code, failure.spoilt) == (code, exit_code, True)


def test_after_running_out_of_memory_the_next_job_gets_a_new_worker(server):
    server.start()
    follower = server.follower()
    first = follower.wait(follower.submit("raise", {"what": "memory"}))
    assert (first.error.code, follower.client.status().worker_pid) == ("out_of_memory", None)
    done = follower.wait(follower.submit("steps", {"n": 1}))
    assert (done.name, done.attempt) == ("done", 1)
