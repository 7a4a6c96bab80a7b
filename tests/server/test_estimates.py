# SPDX-License-Identifier: Apache-2.0
"""What a take will need, asked of a real server."""

import time

import pytest
from conftest import new_id
from test_background_client import Artist

from ex4d import expected
from server import planning
from shared_protocol.background import BackgroundClient
from shared_protocol.events import CallDone, CallFailed
from shared_protocol.messages import Pictures

MAKES = Pictures(64, 48, 10)
SMI = """#!/bin/sh
case "$*" in
*compute_cap*) echo "GPU-0000, 7.5"; echo "GPU-1111, ${CAPABILITY:-8.9}" ;;
*) echo "0, GPU-1111, NVIDIA L40S, 1024, ${MEMORY:-46068}" ;;
esac
"""


def test_a_server_that_measured_nothing_says_so(server):
    server.start()
    client = server.client()
    client.hello()
    found = client.estimate(MAKES, {"engine": "preview"})
    assert (found.engine, found.seconds, found.measured, found.gpu, found.ahead) == ("preview", None, 0, "", 0)
    assert found.peak_bytes is None


def test_takes_that_were_done_are_remembered_over_a_restart(server, tmp_path):
    server.start()
    (tmp_path / "stop-one").touch()  # the take ends at once
    follower = server.follower()
    for seed in (1, 2):
        job_id = new_id()
        params = {"engine": "preview", "seed": seed, "folder": str(tmp_path), "name": "one"}
        follower.client.submit(job_id, "take", params, {}, makes=MAKES)
        follower.client.subscribe(job_id)
        assert follower.wait(job_id).name == "done"
    server.close()
    server.start()
    client = server.client()
    once = client.estimate(MAKES, {"engine": "preview"})
    twice = client.estimate(Pictures(64, 48, 20), {"engine": "preview"})
    assert (once.measured, twice.measured) == (2, 2)
    assert 0 < once.seconds < 10
    assert twice.seconds == pytest.approx(2 * once.seconds)


def test_the_gpu_is_described_and_what_is_missing_is_said(server, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "no models"))
    server.start()
    found = server.client().estimate(Pictures(512, 512, 49), {"engine": "wan", "quality": "fp8"})
    assert found.gpu == "NVIDIA L40S"
    assert (found.gpu_bytes, found.gpu_used_bytes) == (46068 * 2**20, 1024 * 2**20)
    assert found.reference_s == pytest.approx(30, rel=0.05)
    assert found.refusal, "neither packages nor weights are here"


@pytest.mark.parametrize(
    ("capability", "fp8"), [("8.9", True), ("8.6", False), ("[N/A]", True)]
)  # what is not told is assumed
def test_whether_a_gpu_computes_in_8_bits_is_asked_of_its_driver(tmp_path, monkeypatch, capability, fp8):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CAPABILITY", capability)
    monkeypatch.setenv("MEMORY", "24564")
    monkeypatch.setattr(expected, "need_installed", lambda *asked: None)
    question = {"params": {"engine": "wan", "quality": "lossless"}, "done": [], "elsewhere": False}
    found = planning.answer({**question, "makes": {"width": 512, "height": 512, "count": 49}})
    assert any("'fp8' would fit" in notice for notice in found["notices"]) == fp8


def test_settings_that_no_engine_takes_are_refused_in_words(server):
    server.start()
    found = server.client().estimate(MAKES, {"engine": "wan", "steps": 100_000})
    assert "steps must be" in found.refusal


def test_jobs_before_it_are_counted_and_nothing_waits_for_the_answer(server):
    server.start()
    artist = Artist(BackgroundClient())
    try:
        artist.client.connect()
        follower = server.follower()
        for _ in range(2):
            follower.submit("steps", {"n": 100_000})
        asked = artist.timed(artist.client.estimate, MAKES, {"engine": "preview"})
        start = time.monotonic()
        follower.client.status()
        assert time.monotonic() - start < 0.5, "the server answers others meanwhile"
        told = artist.wait(lambda event: isinstance(event, CallDone | CallFailed) and event.call_id == asked)
        assert told.result.ahead == 2
        assert artist.longest_s < 0.2
    finally:
        artist.client.close()
