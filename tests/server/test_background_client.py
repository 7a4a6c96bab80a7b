# SPDX-License-Identifier: Apache-2.0
"""What Blender uses, end to end: it starts the server, runs jobs, survives the server's death, and never waits."""

import os
import sys
import threading
import time

import psutil
import pytest
from conftest import HERE, PATIENCE_S, is_gone, new_id, until

from shared_protocol import link
from shared_protocol.background import BackgroundClient
from shared_protocol.client import Client
from shared_protocol.connection import read_connection
from shared_protocol.events import (
    CallDone,
    CallFailed,
    Connected,
    Disconnected,
    JobCancelled,
    JobDone,
    JobFailed,
    JobProgress,
)

COMMAND = [sys.executable, str(HERE / "ex4d_command.py")]
ENDS = JobDone | JobFailed | JobCancelled


class Artist:
    """Polls as Blender's timer does, and measures how long that takes."""

    def __init__(self, client) -> None:
        self.client = client
        self.heard = []
        self.longest_s = 0.0

    def timed(self, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        self.longest_s = max(self.longest_s, time.perf_counter() - start)
        return result

    def wait(self, test):
        deadline = time.monotonic() + 2 * PATIENCE_S
        seen = 0
        while True:
            for event in self.heard[seen:]:
                if test(event):
                    return event
            seen = len(self.heard)
            assert time.monotonic() < deadline, self.heard
            time.sleep(0.02)
            self.heard += self.timed(self.client.poll)

    def wait_for(self, kind):
        return self.wait(lambda event: isinstance(event, kind))

    def wait_end(self, job_id):
        return self.wait(lambda event: isinstance(event, ENDS) and event.job_id == job_id)

    def wait_working(self, job_id, i=2):
        def working(event):
            return isinstance(event, JobProgress) and event.job_id == job_id and event.stage == "Working"

        return self.wait(lambda event: working(event) and event.i >= i)


@pytest.fixture
def artist(home):
    client = BackgroundClient(None, COMMAND)
    yield Artist(client)
    client.close()


def test_a_job_from_nothing_to_files(artist, tmp_path):
    plate = tmp_path / "plate.mov"
    plate.write_bytes(os.urandom(3_000_000))
    job_id = artist.timed(artist.client.run_job, "copy", {"suffix": ".mov"}, {"plate.mkv": plate}, tmp_path / "shot")
    done = artist.wait_end(job_id)
    assert done == JobDone(job_id, {"plate.mkv": tmp_path / "shot" / "plate.mkv"})
    assert done.files["plate.mkv"].read_bytes() == plate.read_bytes()
    assert [path.name for path in (tmp_path / "shot").iterdir()] == ["plate.mkv"]
    assert isinstance(artist.heard[0], Connected)
    stages = [event.stage for event in artist.heard if isinstance(event, JobProgress)]
    assert set(stages) <= {"Uploading", "Waiting in the queue", "Starting", "Copying", "Downloading"}
    assert artist.longest_s < 0.5  # polls take microseconds; this machine may be busy


def test_a_job_is_picked_up_again_by_its_id(artist, tmp_path):
    job_id = artist.client.run_job("steps", {"n": 1}, {}, tmp_path / "one")
    artist.wait_end(job_id)
    artist.heard.clear()
    assert artist.client.run_job("steps", {"n": 1}, {}, tmp_path / "two", job_id) == job_id
    assert artist.wait_end(job_id).files["result.txt"].read_text() == "finished"
    artist.heard.clear()
    artist.client.run_job("steps", {"n": 2}, {}, tmp_path / "two", job_id)
    assert artist.wait_end(job_id).code == "id_conflict"


def test_a_running_job_is_cancelled(artist, tmp_path):
    job_id = artist.client.run_job("steps", {"n": 100_000}, {}, tmp_path)
    artist.wait_working(job_id)
    artist.timed(artist.client.cancel, job_id)
    assert artist.wait_end(job_id) == JobCancelled(job_id)


def test_an_upload_is_cancelled(artist, tmp_path):
    plate = tmp_path / "plate.mov"
    with plate.open("wb") as file:
        file.truncate(3_000_000_000)  # sparse: takes seconds to hash, no room on the disk
    job_id = artist.client.run_job("copy", {}, {"plate": plate}, tmp_path / "shot")
    artist.wait(lambda event: isinstance(event, JobProgress) and event.stage == "Uploading")
    artist.client.cancel(job_id)
    assert artist.wait_end(job_id) == JobCancelled(job_id)
    assert not (tmp_path / "shot").exists()


def test_a_job_is_cancelled_before_it_began(artist, tmp_path):
    job_id = artist.client.run_job("steps", {"n": 100_000}, {}, tmp_path)
    artist.client.cancel(job_id)
    assert artist.wait_end(job_id) == JobCancelled(job_id)


def test_asking_again_repeats_nothing(artist, tmp_path, monkeypatch):
    monkeypatch.setattr(link, "QUIET_S", 0.01)
    monkeypatch.setattr(link, "IDLE_S", 0.02)
    job_id = artist.client.run_job("deaf", {"s": 0.5}, {}, tmp_path)
    assert artist.wait_end(job_id) == JobDone(job_id, {})
    assert sum(isinstance(event, ENDS) for event in artist.heard) == 1


def test_a_job_fails_in_words(artist, tmp_path):
    job_id = artist.client.run_job("raise", {"what": "depth"}, {}, tmp_path)
    failed = artist.wait_end(job_id)
    assert (failed.code, bool(failed.hint)) == ("bad_depth", True)
    assert failed.title.startswith("The depth has 3 frames")


def test_a_missing_input_fails_the_job(artist, tmp_path):
    job_id = artist.client.run_job("copy", {}, {"plate": tmp_path / "absent.mov"}, tmp_path)
    failed = artist.wait_end(job_id)
    assert failed.code == "storage"
    assert "absent.mov" in failed.title


def test_an_unwritable_output_folder_fails_the_job(artist, tmp_path):
    (tmp_path / "file").touch()
    failed = artist.wait_end(artist.client.run_job("steps", {"n": 1}, {}, tmp_path / "file"))
    assert failed.code == "storage"
    assert "result.txt" in failed.title


def test_what_nobody_thought_of_fails_the_job_too(artist, tmp_path):
    failed = artist.wait_end(artist.client.run_job("copy", {}, {"plate": tmp_path / "nul\0.mov"}, tmp_path))
    assert failed.code == "internal"
    assert isinstance(artist.wait_end(artist.client.run_job("steps", {"n": 1}, {}, tmp_path)), JobDone)


def test_wrong_params_fail_the_job(artist, tmp_path):
    failed = artist.wait_end(artist.client.run_job("steps", {"n": float("nan")}, {}, tmp_path))
    assert failed.code == "bad_message"
    assert "params.n" in failed.title


def test_a_killed_server_is_started_again_and_the_job_ends_well(artist, tmp_path):
    job_id = artist.client.run_job("steps", {"n": 60}, {}, tmp_path)
    artist.wait_working(job_id)
    psutil.Process(read_connection().pid).kill()
    assert artist.wait_for(Disconnected).code == "server_lost"
    assert artist.wait_end(job_id).files["result.txt"].read_text() == "finished"
    assert sum(isinstance(event, Connected) for event in artist.heard) == 2


def test_an_upload_survives_the_servers_death(artist, tmp_path):
    plate = tmp_path / "plate.mov"
    plate.write_bytes(os.urandom(40_000_000))
    job_id = artist.client.run_job("copy", {}, {"plate.mkv": plate}, tmp_path / "shot")
    artist.wait(lambda event: isinstance(event, JobProgress) and event.stage == "Uploading" and event.i > 0)
    psutil.Process(read_connection().pid).kill()
    assert artist.wait_end(job_id).files["plate.mkv"].read_bytes() == plate.read_bytes()


def test_a_server_that_was_stopped_is_not_started_behind_the_users_back(artist, tmp_path, monkeypatch):
    monkeypatch.setattr(link, "GIVE_UP_S", 1.0)
    job_id = artist.client.run_job("steps", {"n": 100_000}, {}, tmp_path)
    artist.wait_working(job_id)
    pid = read_connection().pid
    with Client(read_connection()) as client:
        client.stop_server()
    artist.wait_for(Disconnected)
    assert artist.wait_end(job_id).code == "not_running"
    until(lambda: is_gone(pid))
    assert not (artist.client.poll())


def test_without_a_command_no_server_is_started(home, tmp_path):
    client = BackgroundClient(None, None)
    artist = Artist(client)
    client.connect()
    assert artist.wait_for(Disconnected).code == "not_running"
    job_id = client.run_job("steps", {"n": 1}, {}, tmp_path)
    failed = artist.wait_end(job_id)
    assert (failed.code, "server start" in failed.hint) == ("not_running", True)
    client.close()


@pytest.mark.parametrize("command", [["/no/such/python"], [sys.executable, "-c", "raise SystemExit('no licence')"]])
def test_a_command_that_fails_is_quoted(home, command):
    client = BackgroundClient(None, command)
    client.connect()
    failed = Artist(client).wait_for(Disconnected)
    assert failed.code == "server_start_failed"
    assert "no licence" in failed.title or "No such file" in failed.title
    client.close()


def test_slow_functions_run_elsewhere(artist):
    main = threading.get_ident()
    good, bad = artist.client.call(threading.get_ident), artist.client.call(int, "x")
    done, failed = artist.wait_for(CallDone), artist.wait_for(CallFailed)
    assert done.call_id == good
    assert done.result != main
    assert failed.call_id == bad


def test_closing_ends_the_threads_and_leaves_the_job(home, tmp_path):
    before = threading.active_count()
    client = BackgroundClient(None, COMMAND)
    artist = Artist(client)
    job_id = client.run_job("steps", {"n": 20}, {}, tmp_path)
    artist.wait_working(job_id)
    client.close()
    client.close()
    until(lambda: threading.active_count() == before, "the end of the threads")
    later = BackgroundClient(None, None)
    later.run_job("steps", {"n": 20}, {}, tmp_path, job_id)
    assert isinstance(Artist(later).wait_end(job_id), JobDone)
    later.close()


def test_cancelling_what_is_unknown_does_nothing(artist):
    artist.client.connect()
    artist.wait_for(Connected)
    artist.client.cancel(new_id())
    artist.client.connect()
    assert isinstance(artist.wait_for(Connected), Connected)
