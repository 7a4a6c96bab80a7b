# SPDX-License-Identifier: Apache-2.0
"""The cache stays within its budget, and never loses what a job needs."""

import asyncio
import os
import time
import tracemalloc

import pytest
from conftest import new_id

from server import housekeeping
from server.artifacts import Artifacts, sha256_of
from server.housekeeping import PROTECTED_S, Housekeeper
from server.store import KEEP_ENDED_S, Store
from server.uploads import Uploads
from shared_protocol.messages import ArtifactRef, InputRef, SubmitJob


@pytest.fixture
def parts(tmp_path):
    store = Store(tmp_path / "jobs.sqlite")
    for name in ("artifacts", "logs/jobs"):
        (tmp_path / name).mkdir(parents=True)
    yield store, Artifacts(tmp_path / "artifacts"), tmp_path / "logs"
    store.close()


def add(artifacts, number, age_s):
    """A file of 100 bytes that was last used so long ago."""
    path = artifacts.folder.parent / "new"
    path.write_bytes(bytes([number]) * 100)
    artifact = ArtifactRef(sha256_of(path), 100)
    artifacts.adopt(path)
    os.utime(artifacts.folder / artifact.sha256, (time.time() - age_s,) * 2)
    return artifact


def here(artifacts):
    return {path.name for path in artifacts.folder.iterdir()}


def tidy(parts, budget):
    keeper = Housekeeper(*parts, budget=budget)
    asyncio.run(keeper.tidy())
    return keeper


def test_what_was_not_used_for_longest_goes_first(parts):
    _, artifacts, _ = parts
    files = [add(artifacts, number, 2 * PROTECTED_S + 100 * number) for number in range(5)]
    assert tidy(parts, 500).used == 500
    assert tidy(parts, 250).used == 200
    assert here(artifacts) == {file.sha256 for file in files[:2]}


def test_what_a_job_needs_stays_whatever_the_budget(parts):
    store, artifacts, _ = parts
    waiting, running, ended = (add(artifacts, number, 1e6) for number in range(3))
    for file in (waiting, running, ended):
        job_id = new_id()
        store.submit(SubmitJob(job_id, "take", {}, (InputRef("plate", file, "plate.mov"),)))
        if file is not waiting:
            store.start(job_id)
        if file is ended:
            store.finish(job_id, "failed")
    tidy(parts, 0)
    assert here(artifacts) == {waiting.sha256, running.sha256}


def test_what_was_used_just_now_stays(parts):
    _, artifacts, _ = parts
    used, looked_at, forgotten = (add(artifacts, number, 2 * PROTECTED_S) for number in range(3))
    artifacts.get(used, 0, 10)
    assert Uploads(artifacts).stat(looked_at).complete
    tidy(parts, 0)
    assert here(artifacts) == {used.sha256, looked_at.sha256}
    assert forgotten.sha256 not in here(artifacts)


def test_a_disk_that_fills_up_counts_as_a_smaller_budget(parts, monkeypatch):
    _, artifacts, _ = parts
    add(artifacts, 1, 2 * PROTECTED_S)
    monkeypatch.setattr(housekeeping, "ROOM", 2**60)
    tidy(parts, 1e9)
    assert not here(artifacts)


def test_a_job_that_is_forgotten_takes_its_log_along(parts, monkeypatch):
    store, _, logs = parts
    job_id = new_id()
    store.submit(SubmitJob(job_id, "take"))
    store.finish(job_id, "cancelled")
    (logs / "jobs" / f"{job_id}.log").touch()
    tidy(parts, 1e9)
    assert list((logs / "jobs").iterdir())
    real_time = time.time()
    monkeypatch.setattr("server.store.time.time", lambda: real_time + KEEP_ENDED_S + 1)
    tidy(parts, 1e9)
    assert not list((logs / "jobs").iterdir())


def test_a_cache_of_many_files_needs_no_more_memory_than_one_of_few(parts):
    artifacts = parts[1]
    for number in range(3000):
        (artifacts.folder / f"{number:064x}").touch()
    tidy(parts, 1e9)  # what is made once
    tracemalloc.start()
    tidy(parts, -1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300_000, peak  # as lists it was 600 bytes a file
