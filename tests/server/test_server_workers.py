# SPDX-License-Identifier: Apache-2.0
"""Several workers, each with its GPU: who runs when and where, what a hanging one gets, and a stop that waits."""

import os
import signal
from pathlib import Path

import pytest
from conftest import is_gone, new_id, until

from ex4d.errors import InputError
from server.devices import Device, Gpu, find_gpus, worker_devices
from server.positions import estimate_s
from shared_protocol.errors import RemoteError
from shared_protocol.messages import JobProgress


@pytest.mark.skipif(os.name != "posix", reason="the fake driver is a shell script")
def test_each_gpu_gets_a_worker_of_its_own(server, two_gpus, tmp_path):
    server.start()
    (tmp_path / "told").mkdir()
    follower = server.follower()
    params = {"folder": str(tmp_path / "told"), "fellows": 2}
    jobs = [follower.submit("device", {**params, "n": n}) for n in range(2)]
    assert [follower.wait(job).name for job in jobs] == ["done", "done"]
    assert sorted(path.name for path in (tmp_path / "told").iterdir()) == ["GPU-aaaa", "GPU-bbbb"]
    workers = follower.client.status().workers
    assert [worker.device for worker in workers] == ["GPU 0: NVIDIA H200", "GPU 1: NVIDIA H200"]
    assert len({worker.pid for worker in workers}) == 2


@pytest.mark.skipif(os.name != "posix", reason="the fake driver is a shell script")
@pytest.mark.parametrize(("visible", "uuids"), [(None, "ab"), ("1", "b"), ("GPU-bb,0", "ba"), ("", ""), ("-1", "")])
def test_only_the_gpus_that_we_may_use_count(two_gpus, monkeypatch, visible, uuids):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.uuid for gpu in find_gpus()] == [f"GPU-{letter * 4}" for letter in uuids]


def test_workers_share_gpus_when_there_are_more_of_them():
    gpus = [Gpu("0", "GPU-a", "A", 0, 1), Gpu("1", "GPU-b", "B", 0, 1)]
    names = [device.name for device in worker_devices(gpus, 3)]
    assert names == ["GPU 0: A", "GPU 1: B", "GPU 0: A"]
    assert worker_devices([], None) == [Device("CPU", {})]


def test_a_worker_can_have_several_gpus():
    gpus = [Gpu(str(number), f"GPU-{number}", "A", 0, 1) for number in range(5)]
    devices = worker_devices(gpus, gpus_per_worker=2)
    assert [device.environment["CUDA_VISIBLE_DEVICES"] for device in devices] == ["GPU-0,GPU-1", "GPU-2,GPU-3"]
    assert devices[1].name == "GPU 2+3: A"
    with pytest.raises(InputError, match="this machine has 5"):
        worker_devices(gpus, gpus_per_worker=6)


def test_what_is_urgent_runs_first_and_who_waits_knows_where_it_stands(server):
    server.start()
    follower = server.follower()
    running = follower.submit("steps", {"n": 100_000})
    follower.wait_progress(running)
    first, second, urgent = (follower.submit("steps", {"n": 1, "id": n}) for n in range(3))
    follower.client.prioritise(urgent, 5)
    order = [job.job_id for job in follower.client.jobs() if job.state == "queued"]
    assert order == [urgent, first, second]

    def third(message):
        return isinstance(message, JobProgress) and message.message.startswith("3 jobs run before")

    follower.wait(second, third)
    follower.client.cancel(running)
    for job_id in (urgent, first, second):
        follower.wait(job_id)
    starts = [event.job_id for event in follower.heard if getattr(event, "name", "") == "started"]
    assert starts[-3:] == [urgent, first, second]
    assert {job.state for job in follower.client.jobs()} == {"done", "cancelled"}


def test_the_estimate_is_what_jobs_of_that_size_took():
    assert estimate_s([], 10) is None
    history = [(10, 1.0), (12, 3.0), (11, 2.0), (9, 2.0), (10, 2.5), (10_000, 100.0), (9_000, 90.0)]
    assert estimate_s(history, 10) == 2.0
    assert estimate_s(history[-2:], 10) == 95.0


def test_a_waiting_job_has_an_estimate_once_such_jobs_were_done(server):
    server.start()
    follower = server.follower()
    follower.wait(follower.submit("steps", {"n": 5}))
    running = follower.submit("steps", {"n": 100_000})
    waiting = follower.submit("steps", {"n": 6})
    status = follower.client.subscribe(waiting)
    assert (status.ahead, 0 < status.eta_s < 30) == (1, True)
    follower.client.cancel(running)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_worker_that_hangs_is_replaced(server, tmp_path):
    server.start("--silence-s", "0.8")
    follower = server.follower()
    job_id = follower.submit("hang", {"marks": str(tmp_path / "marks")})
    assert follower.wait(job_id).attempt == 2
    (requeued,) = [event for event in follower.events(job_id) if event.name == "requeued"]
    assert "no sign of life" in requeued.note


def test_a_job_without_progress_is_ended(server):
    server.start("--stall-s", "0.5")
    follower = server.follower()
    failed = follower.wait(follower.submit("deaf", {"s": 600}))
    assert (failed.error.code, "no progress" in failed.error.title) == ("worker_lost", True)


def test_a_stop_that_waits_lets_what_runs_end_and_keeps_what_waits(server):
    server.start()
    follower = server.follower()
    running = follower.submit("steps", {"n": 40})
    follower.wait_progress(running, 1)
    waiting = follower.submit("steps", {"n": 1})
    assert follower.client.stop_server(drain=True).draining
    assert follower.wait(running).name == "done"
    server.process.wait(30)
    server.start()
    after = server.follower()
    after.client.subscribe(waiting)
    assert after.wait(waiting).name == "done"


def test_each_job_has_a_log_of_its_own(server):
    server.start()
    follower = server.follower()
    jobs = [follower.submit("raise", {"what": "defect", "n": n}) for n in range(2)]
    errors = [follower.wait(job).error for job in jobs]
    for job, error in zip(jobs, errors, strict=True):
        path = Path(error.detail.removeprefix("log: ").split(",")[0])
        text = path.read_text()
        assert path.stem == job
        assert "ZeroDivisionError" in text
        assert not any(other in text for other in jobs if other != job)


def test_a_jobs_log_travels(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("raise", {"what": "defect"})
    follower.wait(job_id)
    text = follower.client.log(job_id)
    assert "ZeroDivisionError" in text
    assert follower.client.log(job_id, 2) == "\n".join(text.splitlines()[-2:])
    path = server.home / "logs" / "jobs" / f"{job_id}.log"
    path.write_bytes((b"\xff" * 99 + b"\n") * 10_000)
    assert len(follower.client.log(job_id, 1000).splitlines()) == 199
    path.unlink()
    assert follower.client.log(job_id) == ""


def test_one_client_cannot_fill_the_queue(server, monkeypatch):
    server.start()
    follower = server.follower()
    follower.submit("steps", {"n": 100_000})
    for n in range(200):
        follower.client.submit(new_id(), "steps", {"n": 1, "id": n}, {})
    with pytest.raises(RemoteError) as caught:
        until(lambda: follower.client.submit(new_id(), "steps", {"n": 1}, {}) and None)
    assert caught.value.code == "quota"


def test_a_worker_without_work_gives_its_memory_back(server):
    server.start("--idle-s", "0.3")
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 20})
    follower.wait_progress(job_id, 1)
    worker = follower.client.status().worker_pid
    assert follower.wait(job_id).name == "done"
    until(lambda: is_gone(worker), "the worker's end")
    assert follower.wait(follower.submit("steps", {"n": 2})).name == "done"
