# SPDX-License-Identifier: Apache-2.0
"""The inbox of events, the fake client, and that it can stand in for the real one."""

import inspect
from pathlib import Path

from shared_protocol.background import BackgroundClient
from shared_protocol.errors import LinkError
from shared_protocol.events import (
    CallDone,
    CallFailed,
    Connected,
    Disconnected,
    Inbox,
    JobCancelled,
    JobDone,
    JobFailed,
    JobProgress,
)
from shared_protocol.fake import FakeClient


def drain(client):
    events = []
    while batch := client.poll():
        events += batch
    return events


def test_newer_progress_replaces_older():
    inbox = Inbox()
    for i in range(1000):
        inbox.put(JobProgress("a", "Working", i, 1000))
        inbox.put(JobProgress("b", "Working", i, 1000))
    assert inbox.take(1.0) == [JobProgress("a", "Working", 999, 1000), JobProgress("b", "Working", 999, 1000)]
    assert inbox.take(1.0) == []


def test_the_end_of_a_job_is_the_last_that_is_heard_of_it():
    inbox = Inbox()
    inbox.put(JobProgress("a", "Working", 1, 2))
    inbox.put(JobDone("a", {}))
    assert inbox.take(1.0) == [JobDone("a", {})]


def test_an_empty_budget_still_hands_over_one_event():
    inbox = Inbox()
    inbox.put(JobCancelled("a"))
    inbox.put(JobCancelled("b"))
    assert inbox.take(0.0) == [JobCancelled("a")]
    assert inbox.take(0.0) == [JobCancelled("b")]


def test_the_fake_has_the_real_clients_interface():
    def interface(cls):
        methods = {name: value for name, value in vars(cls).items() if inspect.isfunction(value) and name[0] != "_"}
        return {name: str(inspect.signature(method)) for name, method in methods.items()}

    assert interface(FakeClient) == interface(BackgroundClient)


def test_the_fake_runs_a_job(tmp_path):
    def make_shot(kind, params, inputs, output_folder):
        assert (kind, params, inputs) == ("reconstruct", {"a": 1}, {"plate": Path("p.mp4")})
        return {"shot.json": output_folder / "shot.json"}

    client = FakeClient(make_shot)
    client.connect()
    job_id = client.run_job("reconstruct", {"a": 1}, {"plate": Path("p.mp4")}, tmp_path)
    first, *progress, last = drain(client)
    assert isinstance(first, Connected)
    assert [event.stage for event in progress] == ["Uploading", "Waiting in the queue", "Working", "Downloading"]
    assert last == JobDone(job_id, {"shot.json": tmp_path / "shot.json"})


def test_the_fake_cancels_fails_and_is_absent(tmp_path):
    def refuse(*_):
        raise LinkError("No.", "Try yes.")

    client = FakeClient(refuse)
    cancelled = client.run_job("take", {}, {}, tmp_path)
    client.poll()
    client.cancel(cancelled)
    assert drain(client) == [JobCancelled(cancelled)]
    failed = client.run_job("take", {}, {}, tmp_path)
    assert drain(client)[-1] == JobFailed(failed, "link", "No.", "Try yes.")
    client.running = False
    client.connect()
    assert isinstance(drain(client)[0], Disconnected)


def test_the_fake_calls():
    client = FakeClient()
    good, bad = client.call(sum, [1, 2]), client.call(int, "x")
    done, failed = drain(client)
    assert done == CallDone(good, 3)
    assert isinstance(failed, CallFailed)
    assert (failed.call_id, type(failed.error)) == (bad, ValueError)


def test_a_picture_waits_until_it_is_seen_while_words_replace_words():
    inbox = Inbox()
    inbox.put(JobProgress("a", "Working", 1, 3, preview=b"one"))
    inbox.put(JobProgress("a", "Working", 2, 3))
    assert inbox.take(1.0) == [JobProgress("a", "Working", 2, 3, preview=b"one")]
    inbox.put(JobProgress("a", "Working", 3, 3))
    assert inbox.take(1.0) == [JobProgress("a", "Working", 3, 3)]
