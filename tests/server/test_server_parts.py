# SPDX-License-Identifier: Apache-2.0
"""The server's parts on their own: the queue with an executor that does what the test says, the store, the files."""

import asyncio
import errno
import os
import re
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import HERE, new_id

from ex4d import errors
from ex4d.errors import StorageError
from server import artifacts as artifacts_module
from server.artifacts import PART_LIFETIME_S, Artifacts
from server.endings import MOST_LOSSES
from server.executor import Finished, LocalExecutor, Report, WorkerLost
from server.failures import HINTS, DamagedUpload
from server.jobs import JobQueue
from server.pace import Pace
from server.pipe import read_message, write_message
from server.runtime import AlreadyRunning, Home, read_or_make_keys, take_lock
from server.store import Store
from server.uploads import Uploads
from shared_protocol.messages import ArtifactRef, JobEvent, JobProgress, SubmitJob


class StagedExecutor:
    """Answers each task with what the test prepared."""

    def __init__(self, *outcomes) -> None:
        self.outcomes = list(outcomes)
        self.last_report = 0.0
        self.worker_pid, self.device, self.ready = None, "CPU", True

    async def run(self, task, on_report, cancel):
        on_report(Report("Working", 1, 2))
        outcome = self.outcomes.pop(0)
        return outcome(task) if callable(outcome) else outcome

    def rest(self):
        self.outcomes.clear()


@pytest.fixture
def parts(tmp_path):
    store = Store(tmp_path / "jobs.sqlite")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "work").mkdir()
    yield store, Artifacts(tmp_path / "artifacts"), tmp_path / "work"
    store.close()


def run_queue(parts, executor, *requests):
    """Run jobs to their ends; returns all events."""
    heard = []

    async def main():
        store, artifacts, work = parts
        queue = JobQueue(store, artifacts, [executor], work, work / "logs", heard.append)
        for request in requests:
            queue.submit(request)
        working = asyncio.create_task(queue.work())
        while any(queue.status(request.job_id).state in ("queued", "running") for request in requests):
            await asyncio.sleep(0.01)
            assert not working.done(), working.result()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(main())
    return [event for event in heard if isinstance(event, JobEvent)]


def finish_with(name, data=b"data"):
    def finish(task):
        (task.workdir / "file").write_bytes(data)
        return Finished({name: task.workdir / "file"})

    return finish


def test_a_full_disk_while_results_are_stored_fails_the_job_and_the_next_one_runs(parts, monkeypatch):
    real_fsync, failing = os.fsync, [True]

    def fsync(descriptor):
        if failing and failing.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(artifacts_module.os, "fsync", fsync)
    executor = StagedExecutor(finish_with("a.bin"), finish_with("a.bin"))
    events = run_queue(parts, executor, SubmitJob(new_id(), "take"), SubmitJob(new_id(), "take"))
    ends = [event for event in events if event.name in ("done", "failed")]
    assert [event.name for event in ends] == ["failed", "done"]
    assert (ends[0].error.code, "full" in ends[0].error.title) == ("storage", True)


def test_an_output_with_an_unusable_name_fails_the_job(parts):
    (*_, failed) = run_queue(parts, StagedExecutor(finish_with("../escape")), SubmitJob(new_id(), "take"))
    assert (failed.name, failed.error.code) == ("failed", "internal")
    assert "role" in failed.error.title


def test_worker_losses_are_counted_for_each_job(parts):
    executor = StagedExecutor(WorkerLost(-9), WorkerLost(-9), WorkerLost(1), finish_with("a"))
    events = run_queue(parts, executor, SubmitJob(new_id(), "take"), SubmitJob(new_id(), "take"))
    assert [event.name for event in events if event.name in ("done", "failed", "requeued")] == [
        "requeued",
        "failed",
        "requeued",
        "done",
    ]


def test_the_end_of_a_job_waits_for_a_database_that_cannot_be_written(parts, monkeypatch):
    store = parts[0]
    real_finish, failing = store.finish, [True, True]

    def finish(*arguments, **values):
        if failing and failing.pop():
            raise sqlite3.OperationalError("database or disk is full")
        return real_finish(*arguments, **values)

    monkeypatch.setattr(store, "finish", finish)
    monkeypatch.setattr("server.jobs.SAVE_RETRY_S", 0.01)
    (*_, done) = run_queue(parts, StagedExecutor(finish_with("a")), SubmitJob(new_id(), "take"))
    assert (done.name, failing) == ("done", [])


def recover(parts):
    store, artifacts, work = parts
    JobQueue(store, artifacts, [StagedExecutor()], work, work / "logs", lambda message: None, machine="today").recover()


@pytest.mark.parametrize(("machine", "loss"), [("today", "server_lost"), ("yesterday", "machine_lost")])
def test_a_job_that_takes_the_server_or_the_machine_down_again_and_again_fails(parts, machine, loss):
    store = parts[0]
    request = SubmitJob(new_id(), "take")
    store.submit(request)
    for number in range(1, MOST_LOSSES[loss] + 1):
        store.start(request.job_id, machine)
        recover(parts)
        assert store.job(request.job_id).state == ("queued" if number < MOST_LOSSES[loss] else "failed")
    error = store.events(request.job_id)[-1].error
    assert (error.code, error.hint) == (loss, HINTS[loss])


def test_a_job_over_which_the_server_died_lets_the_others_go_first(parts):
    store = parts[0]
    unlucky, later, urgent = (SubmitJob(new_id(), "take", priority=priority) for priority in (0, 0, 5))
    for request in (unlucky, later, urgent):
        store.submit(request)
    store.start(unlucky.job_id, "today")
    recover(parts)
    assert [job.job_id for job in store.queued()] == [urgent.job_id, later.job_id, unlucky.job_id]


def test_a_cancel_survives_the_servers_death(parts):
    store = parts[0]
    request = SubmitJob(new_id(), "take")
    store.submit(request)
    store.start(request.job_id)
    store.request_cancel(request.job_id)
    recover(parts)
    assert store.job(request.job_id).state == "cancelled"


def test_a_damaged_database_is_put_aside(tmp_path):
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    store = Store(path)
    assert store.submit(SubmitJob(new_id(), "take"))
    store.close()
    assert len(list(tmp_path.glob("jobs.sqlite.damaged-*"))) == 1


def test_jobs_that_wait_are_saved_from_a_damaged_database(tmp_path):
    path = tmp_path / "jobs.sqlite"
    store = Store(path)
    jobs = [SubmitJob(new_id(), "take", {"filling": "x" * 3000, "n": n}, priority=n % 3) for n in range(60)]
    for job in jobs:
        store.submit(job, "anna")
    store.finish(jobs[0].job_id, "done")
    store.start(jobs[1].job_id)
    store.close()
    data = bytearray(path.read_bytes())
    broken = data.index(f'"n": {30}'.encode())
    data[broken // 4096 * 4096 : broken // 4096 * 4096 + 4096] = os.urandom(4096)
    path.write_bytes(data)
    store = Store(path)
    assert len(list(tmp_path.glob("jobs.sqlite.damaged-*[0-9]"))) == 1
    saved = {job.job_id: job for job in store.queued()}
    assert 55 <= len(saved) < 59
    assert jobs[0].job_id not in saved
    assert all(saved[job.job_id].params == job.params for job in jobs if job.job_id in saved)
    assert {job.owner for job in saved.values()} == {"anna"}
    assert store.queued(1)[0].job_id == next(j.job_id for j in jobs[2:] if j.priority == 2)
    store.close()


def test_a_newer_database_is_refused(tmp_path):
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.OperationalError, match="newer version"):
        Store(tmp_path / "jobs.sqlite")


def test_old_halves_of_uploads_are_swept(tmp_path):
    store = Artifacts(tmp_path)
    for name, age_s in (("old", PART_LIFETIME_S + 60), ("new", 60)):
        part = tmp_path / f"{name}.part"
        part.touch()
        os.utime(part, (time.time() - age_s,) * 2)
    store.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]


def test_files_leave_no_names_behind_in_the_interpreter(tmp_path, monkeypatch):
    remembered = []
    monkeypatch.setattr(sys, "intern", lambda text: remembered.append(text) or text)  # what pathlib calls
    made, read = tmp_path / "made", tmp_path / "read"
    assert "read" in remembered
    del remembered[:]
    store = Artifacts(tmp_path / "artifacts")
    store.folder.mkdir()
    uploads = Uploads(store)
    made.write_bytes(b"something that a job made")
    artifact = store.adopt(made)
    store.lend(artifact, read)
    assert store.get(artifact, 0, 9) == b"something"
    other = ArtifactRef("84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882", 10)
    assert uploads.put(other, 0, b"0123456789").complete
    place = uploads.place(ArtifactRef("0" * 64, 5))
    with pytest.raises(DamagedUpload):
        uploads.adopt_placed(place.artifact, place.token)
    store.sweep()
    store.drop(other.sha256)
    assert len(store.least_used(time.time() + 1, 10)) == 1
    assert not [name for name in remembered if re.match("[0-9a-f]{32}", name)]


def test_half_a_chunk_on_a_full_disk_does_not_spoil_the_resume(tmp_path, monkeypatch):
    store = Uploads(Artifacts(tmp_path))
    data = b"0123456789"
    artifact = ArtifactRef("84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882", 10)
    store.put(artifact, 0, data[:4])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts_module.os, "fsync", full)
    with pytest.raises(StorageError, match="full"):
        store.put(artifact, 4, data[4:])
    monkeypatch.undo()
    assert store.stat(artifact).offset == 4
    assert store.put(artifact, 4, data[4:]).complete


def test_one_server_for_a_folder(tmp_path):
    home = Home(tmp_path)
    lock = take_lock(home)
    with pytest.raises(AlreadyRunning):
        take_lock(home)
    lock.close()
    take_lock(home).close()


def test_keys_stay_and_damaged_ones_are_made_anew(tmp_path):
    home = Home(tmp_path)
    keys = read_or_make_keys(home)
    assert read_or_make_keys(home) == keys
    (tmp_path / "keys.json").write_text('{"server_key": 5}')
    assert read_or_make_keys(home) != keys


def test_the_pipe_carries_messages_and_ends_quietly(tmp_path):
    path = tmp_path / "pipe"
    with path.open("wb") as stream:
        write_message(stream, {"t": "run", "inputs": {"plate": "a"}})
        stream.write(b"\x00\x00\x00\x09half")
    with path.open("rb") as stream:
        assert read_message(stream) == {"t": "run", "inputs": {"plate": "a"}}
        assert read_message(stream) is None
        assert read_message(stream) is None


def test_every_code_has_a_hint():
    codes = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Ex4dError)
    }
    assert codes <= set(HINTS)


def test_a_flood_of_reports_becomes_a_stream_of_the_newest():
    async def main():
        heard = []
        pace = Pace(heard.append)
        for i in range(500):
            pace.put(JobProgress(new_id(), "Working", i, 500, None, b"picture" if i == 100 else None))
            await asyncio.sleep(0.001)
        pace.put(JobProgress(new_id(), "Working", 500, 500))
        pace.close()
        await asyncio.sleep(0.15)
        return heard

    heard = asyncio.run(main())
    assert [message.i for message in heard[:20]] == list(range(20))
    assert 20 < len(heard) < 40
    assert [message.preview for message in heard if message.preview] == [b"picture"]
    assert 400 < heard[-1].i < 500


def test_a_stop_in_the_moment_of_a_report_is_a_stop(tmp_path):
    async def main():
        executor, process = LocalExecutor(tmp_path), SimpleNamespace(inbox=asyncio.Queue())
        for steps in range(6):  # of the loop between the report and the stop
            hearing = asyncio.create_task(executor._hear(process))
            for _ in range(4):
                await asyncio.sleep(0)
            process.inbox.put_nowait({"t": "cancelled"})
            for _ in range(steps):
                await asyncio.sleep(0)
            if not hearing.done():
                hearing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await hearing
            while not process.inbox.empty():
                process.inbox.get_nowait()

    asyncio.run(main())


def test_the_front_starts_without_what_only_jobs_need():
    code = (
        "import server.__main__, sys; print(sorted({'numpy', 'cv2', 'numba', 'torch', 'ex4d.jobs'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    assert told.stdout.strip() == "[]"
