# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a server that is killed again and again, in small."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_server_that_is_killed_at_random_points_loses_nothing(home, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from server_kills import kill_repeatedly

    figures = kill_repeatedly(home, kills=12, seed=7)
    assert (figures.kills, bool(figures.acknowledged)) == (12, True)
    assert (figures.not_done, figures.damaged, figures.gaps, figures.orphans) == ({}, 0, 0, 0)
