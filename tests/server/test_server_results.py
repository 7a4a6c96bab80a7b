# SPDX-License-Identifier: Apache-2.0
"""The same request has the same result at once; what is old goes; a database of an older server is taken over."""

import os
import sqlite3
import time

import pytest
from conftest import new_id

from server.fingerprint import Circumstances
from server.store import KEEP_ENDED_S, Store
from shared_protocol.messages import ArtifactRef, InputRef, OutputRef, SubmitJob

PLATE = InputRef("plate", ArtifactRef("ab" * 32, 5), "plate.mov")
RESULT = (OutputRef("result.mkv", ArtifactRef("cd" * 32, 7)),)


def marks(path):
    return len(path.read_text().split())


def test_the_same_request_is_done_once(server, tmp_path):
    server.start()
    follower = server.follower()
    params = {"n": 1, "marks": str(tmp_path / "marks")}
    first, second = follower.submit("steps", params), follower.submit("steps", params)
    assert follower.wait(second).outputs == follower.wait(first).outputs
    third = follower.submit("steps", params)
    follower.wait(third)
    assert follower.names(third) == ["queued", "done"]
    assert "before" in follower.events(third)[-1].note
    assert marks(tmp_path / "marks") == 1
    follower.wait(follower.submit("steps", {**params, "step_s": 0.011}))
    assert marks(tmp_path / "marks") == 2
    fresh = new_id()
    follower.client.submit(fresh, "steps", params, {}, fresh=True)
    follower.client.subscribe(fresh)
    follower.wait(fresh)
    assert marks(tmp_path / "marks") == 3


def test_known_results_outlive_the_server(server, tmp_path):
    server.start()
    follower = server.follower()
    params = {"n": 1, "marks": str(tmp_path / "marks")}
    follower.wait(follower.submit("steps", params))
    server.kill()
    server.start()
    follower = server.follower()
    follower.wait(follower.submit("steps", params))
    assert marks(tmp_path / "marks") == 1


def test_a_result_that_is_no_longer_stored_is_made_again(server, tmp_path):
    server.start()
    follower = server.follower()
    params = {"n": 1, "marks": str(tmp_path / "marks")}
    job_id = follower.submit("steps", params)
    output = follower.wait(job_id).outputs[0].artifact
    (server.home / "artifacts" / output.sha256).unlink()
    assert follower.client.submit(job_id, "steps", params, {}).state in ("queued", "running", "done")
    again = server.follower()
    again.client.subscribe(job_id, after_seq=5)
    assert again.wait(job_id).outputs[0].artifact == output
    assert marks(tmp_path / "marks") == 2
    again.client.download(output, tmp_path / "back")


def test_the_key_changes_with_all_that_decides_a_result(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    here = Circumstances("runner")
    key = here.result_key("take", {"a": 1, "b": 2}, (PLATE,))
    assert key == here.result_key("take", {"b": 2, "a": 1}, (PLATE,))
    assert key == Circumstances("runner").result_key("take", {"a": 1, "b": 2}, (PLATE,))
    others = [
        here.result_key("render", {"a": 1, "b": 2}, (PLATE,)),
        here.result_key("take", {"a": 1, "b": 3}, (PLATE,)),
        here.result_key("take", {"a": 1, "b": 2}, ()),
        Circumstances("runner", ("H200",)).result_key("take", {"a": 1, "b": 2}, (PLATE,)),
        Circumstances("other").result_key("take", {"a": 1, "b": 2}, (PLATE,)),
    ]
    (tmp_path / "models--a--b" / "snapshots" / "1234").mkdir(parents=True)
    others.append(Circumstances("runner").result_key("take", {"a": 1, "b": 2}, (PLATE,)))
    assert len({key, *others}) == 1 + len(others)


def test_the_key_changes_with_the_models_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "models"))

    def key():
        return Circumstances("runner").result_key("take", {}, ())

    keys = [key()]
    adapter = tmp_path / "models" / "yihouxiang" / "EX-4D" / "ex4d.ckpt"
    elsewhere = tmp_path / "big disk"
    adapter.parent.mkdir(parents=True)
    (elsewhere / "vae").mkdir(parents=True)
    adapter.with_suffix(".ckpt.part").write_bytes(b"on its way")
    assert key() == keys[0]
    adapter.write_bytes(b"as released")
    keys.append(key())
    adapter.write_bytes(b"tuned by us")
    os.utime(adapter, (1e9, 1e9))
    keys.append(key())
    (tmp_path / "models" / "loras").mkdir()
    (tmp_path / "models" / "loras" / "look.safetensors").write_bytes(b"1")
    keys.append(key())
    (elsewhere / "vae" / "weights.safetensors").write_bytes(b"2")
    (tmp_path / "models" / "stabilityai").mkdir()
    (tmp_path / "models" / "stabilityai" / "svd").symlink_to(elsewhere)
    keys.append(key())
    (elsewhere / "vae" / "weights.safetensors").write_bytes(b"22")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]


def test_a_take_is_done_again_when_weights_have_arrived(server, tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "models"))
    server.start()
    follower = server.follower()
    params = {"n": 1, "marks": str(tmp_path / "marks")}
    follower.wait(follower.submit("steps", params))
    (tmp_path / "models" / "yihouxiang" / "EX-4D").mkdir(parents=True)
    (tmp_path / "models" / "yihouxiang" / "EX-4D" / "ex4d.ckpt").write_bytes(b"weights")
    server.close()
    server.start()
    follower = server.follower()
    follower.wait(follower.submit("steps", params))
    assert marks(tmp_path / "marks") == 2


def test_what_ended_long_ago_is_forgotten(tmp_path):
    store = Store(tmp_path / "jobs.sqlite")
    old, waiting = SubmitJob(new_id(), "take"), SubmitJob(new_id(), "take")
    store.submit(old)
    store.submit(waiting)
    store.start(old.job_id)
    store.finish(old.job_id, "done", outputs=RESULT, result_key="key")
    assert store.forget_old() == []
    assert store.known_result("key") == RESULT
    assert store.forget_old(time.time() + KEEP_ENDED_S + 1) == [old.job_id]
    assert (store.known_result("key"), store.events(old.job_id)) == (None, [])
    assert store.job(waiting.job_id).state == "queued"
    store.close()


def test_only_so_many_ended_jobs_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("server.store.KEEP_ENDED", 2)
    store = Store(tmp_path / "jobs.sqlite")
    ids = [new_id() for _ in range(4)]
    for job_id in ids:
        store.submit(SubmitJob(job_id, "take"))
        store.finish(job_id, "cancelled")
    assert sorted(store.forget_old()) == sorted(ids[:2])
    store.close()


@pytest.fixture
def older_database(tmp_path):
    """As the first version left it."""
    path = tmp_path / "jobs.sqlite"
    database = sqlite3.connect(path)
    database.executescript("""
        CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL,
            kind TEXT NOT NULL, params TEXT NOT NULL, inputs TEXT NOT NULL, state TEXT NOT NULL,
            attempt INTEGER NOT NULL DEFAULT 0, worker_lost INTEGER NOT NULL DEFAULT 0,
            server_lost INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0);
        CREATE INDEX jobs_by_state ON jobs (state, number);
        CREATE TABLE events (job_id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (job_id, seq)) WITHOUT ROWID;
        INSERT INTO jobs (job_id, digest, kind, params, inputs, state)
            VALUES ('0123456789abcdef0123456789abcdef', 'x', 'take', '{"seed": 1}', '[]', 'queued');
        INSERT INTO events VALUES ('0123456789abcdef0123456789abcdef', 1,
            '{"job_id": "0123456789abcdef0123456789abcdef", "seq": 1, "name": "queued", "at_s": 1.5}');
        PRAGMA user_version = 1;
    """)
    database.close()
    return path


def test_an_older_database_is_taken_over(older_database):
    for _ in range(2):
        store = Store(older_database)
        (job,) = store.queued()
        assert (job.kind, job.params, job.priority, job.fresh) == ("take", {"seed": 1}, 0, False)
        assert store.events(job.job_id)[0].name == "queued"
        store.close()
