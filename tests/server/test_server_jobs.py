# SPDX-License-Identifier: Apache-2.0
"""Jobs through a real server and a real worker process: progress, cancel, death of either process."""

import psutil
import pytest
from conftest import is_gone, new_id, until

from server.attempt import safe_file_name
from server.failures import HINTS
from shared_protocol.errors import RemoteError
from shared_protocol.messages import ArtifactRef, JobProgress


def code_of(call, *args):
    with pytest.raises(RemoteError) as caught:
        call(*args)
    assert caught.value.hint
    return caught.value.code


def assert_contiguous(events):
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_a_job_reports_and_delivers(server, tmp_path):
    server.start()
    follower = server.follower()
    follower.client.hello()
    job_id = follower.submit("steps", {"n": 10, "stages": ["Reading", "Working"]})
    done = follower.wait(job_id)
    assert follower.names(job_id) == ["queued", "started", "stage", "stage", "done"]
    assert_contiguous(follower.events(job_id))
    progress = [message for message in follower.heard if isinstance(message, JobProgress)]
    assert [message.stage for message in progress if message.i == 10] == ["Reading", "Working"]
    assert [output.role for output in done.outputs] == ["result.txt"]
    follower.client.download(done.outputs[0].artifact, tmp_path / "result.txt")
    assert (tmp_path / "result.txt").read_text() == "finished"
    assert not list((server.home / "work").iterdir())


def test_files_go_in_under_their_names_and_come_out(server, tmp_path):
    server.start()
    follower = server.follower()
    plate = tmp_path / "Straße nul 01.MOV"
    plate.write_bytes(b"frames" * 1000)
    artifact = follower.client.upload(plate)
    job_id = follower.submit("copy", {"suffix": ".MOV"}, {"plate": (artifact, plate.name)})
    done = follower.wait(job_id)
    assert done.outputs[0].artifact == artifact
    follower.client.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == plate.read_bytes()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("plate.mp4", "plate.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\shots\\a.mov", "a.mov"),
        ("nul.exr", "file_nul.exr"),
        ("", "input"),
        ("...", "input"),
        ("ä\x00b.mkv", "b.mkv"),
        ("x" * 300 + ".mp4", "x" * 80 + ".mp4"),
    ],
)
def test_file_names_become_harmless(name, safe):
    assert safe_file_name(name) == safe


def test_sending_twice_is_harmless_and_another_body_is_refused(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 1})
    follower.wait(job_id)
    again = follower.client.submit(job_id, "steps", {"n": 1}, {})
    assert (again.state, again.last_seq) == ("done", 4)
    assert code_of(follower.client.submit, job_id, "steps", {"n": 2}, {}) == "id_conflict"


def test_what_the_server_does_not_have_is_said(server):
    server.start()
    client = server.client()
    assert code_of(client.subscribe, new_id()) == "unknown_job"
    assert code_of(client.cancel, new_id()) == "unknown_job"
    inputs = {"plate": (ArtifactRef("0" * 64, 5), "plate.mp4")}
    assert code_of(client.submit, new_id(), "copy", {}, inputs) == "missing_artifact"


def test_late_listeners_hear_what_they_missed(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 1})
    follower.wait(job_id)
    late = server.follower()
    late.client.subscribe(job_id, after_seq=2)
    late.wait(job_id)
    assert [event.seq for event in late.events(job_id)] == [3, 4]


def test_jobs_run_in_order_and_waiting_ones_can_be_cancelled(server, tmp_path):
    server.start()
    follower = server.follower()
    first = follower.submit("steps", {"n": 1000})
    follower.wait_progress(first)
    second, third = follower.submit("steps", {"n": 1}), follower.submit("steps", {"n": 1})
    assert follower.client.submit(third, "steps", {"n": 1}, {}).ahead == 2
    assert follower.client.cancel(second).state == "cancelled"
    follower.client.cancel(first)
    assert follower.wait(third).name == "done"
    assert follower.names(second) == ["queued", "cancelled"]
    assert follower.wait(first).name == "cancelled"


def test_a_running_job_stops_and_its_worker_stays_warm(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 100_000})
    follower.wait_progress(job_id, 3)
    state = follower.client.status()
    assert (state.job_id, state.job_kind) == (job_id, "steps")
    assert state.progress_age_s is not None
    follower.client.cancel(job_id)
    assert follower.wait(job_id).name == "cancelled"
    assert follower.wait(follower.submit("steps", {"n": 1})).name == "done"
    assert follower.client.status().worker_pid == state.worker_pid


def test_a_job_that_does_not_listen_is_killed(server):
    server.start("--cancel-s", "0.3")
    follower = server.follower()
    job_id = follower.submit("deaf", {"s": 600})
    follower.wait_progress(job_id)
    worker = follower.client.status().worker_pid
    follower.client.cancel(job_id)
    assert follower.wait(job_id).name == "cancelled"
    assert is_gone(worker)
    assert follower.wait(follower.submit("steps", {"n": 1})).name == "done"


def test_a_job_whose_worker_is_killed_runs_again(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 40})
    follower.wait_progress(job_id, 3)
    psutil.Process(follower.client.status().worker_pid).kill()
    done = follower.wait(job_id)
    assert (done.name, done.attempt) == ("done", 2)
    assert "requeued" in follower.names(job_id)
    assert_contiguous(follower.events(job_id))


def test_a_job_that_kills_its_worker_fails_the_second_time(server, tmp_path):
    server.start()
    follower = server.follower()
    job_id = follower.submit("die", {"marks": str(tmp_path / "marks"), "times": 9})
    failed = follower.wait(job_id)
    assert (failed.name, failed.error.code, failed.attempt) == ("failed", "worker_lost", 2)
    assert failed.error.hint
    assert str(server.home) in failed.error.detail
    assert (tmp_path / "marks").read_text() == "xx"
    assert follower.wait(follower.submit("steps", {"n": 1})).name == "done"


def test_a_job_survives_the_servers_death(server, tmp_path):
    server.start()
    follower = server.follower()
    running = follower.submit("steps", {"n": 60, "marks": str(tmp_path / "marks")})
    waiting = follower.submit("steps", {"n": 1})
    follower.wait_progress(running, 3)
    worker = follower.client.status().worker_pid
    server.kill()
    until(lambda: is_gone(worker), "the end of the orphaned worker")
    server.start()
    after = server.follower()
    after.client.subscribe(running)
    after.client.subscribe(waiting)
    assert after.wait(running).name == "done"
    assert after.wait(waiting).name == "done"
    assert_contiguous(after.events(running))
    assert after.names(running)[:4] == ["queued", "started", "stage", "requeued"]
    assert len((tmp_path / "marks").read_text().split()) == 2


def test_a_job_survives_a_clean_stop(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 60})
    follower.wait_progress(job_id, 3)
    worker = follower.client.status().worker_pid
    follower.client.stop_server()
    server.process.wait(30)
    assert is_gone(worker)
    assert not (server.home / "server.json").exists()
    server.start()
    after = server.follower()
    after.client.subscribe(job_id)
    assert after.wait(job_id).name == "done"


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("depth", "bad_depth", "The depth has 3 frames"),
        ("memory", "out_of_memory", "memory"),
        ("disk", "storage", "space"),
        ("defect", "internal", "ZeroDivisionError"),
    ],
)
def test_a_jobs_error_arrives_in_words(server, what, code, says):
    server.start()
    follower = server.follower()
    error = follower.wait(follower.submit("raise", {"what": what})).error
    assert (error.code, error.hint) == (code, HINTS[code])
    assert says in error.title
    assert str(server.home / "logs") in error.detail


def test_a_job_cannot_deliver_files_from_elsewhere(server):
    server.start()
    follower = server.follower()
    error = follower.wait(follower.submit("escape")).error
    assert error.code == "internal"
    assert "shot.json" in error.title
