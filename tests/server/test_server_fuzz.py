# SPDX-License-Identifier: Apache-2.0
"""The benchmark of nonsense, in small: headers into the decoder, strangers at the port."""

import sys

import pytest
from conftest import HERE


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parents[1] / "benchmarks"))


def test_nonsense_gives_typed_errors_only():
    from server_fuzz import fuzz_decoder

    found = fuzz_decoder(20_000, seed=3)
    assert found.messages > 100
    assert found.refusals > 10_000
    assert found.grown_mb < 20


@pytest.mark.skipif(sys.platform == "win32", reason="counts descriptors")
def test_strangers_are_not_heard_and_do_no_harm(home):
    from server_bench import BenchServer
    from server_fuzz import knock

    server = BenchServer(home)
    server.start()
    try:
        figures = knock(server, connections=160)
    finally:
        server.stop()
    assert figures["wrong keys refused"] == 50
    assert figures["grown MB"] < 50
    assert figures["descriptors"] < 60
