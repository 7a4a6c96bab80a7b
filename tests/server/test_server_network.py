# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a lost network, in small."""

from conftest import HERE


def test_a_lost_network_costs_no_job_and_doubles_none(home, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE.parents[1] / "benchmarks"))
    from server_network import JOBS, lose_network

    figures = lose_network(home, loss_s=4.0, folder=tmp_path)
    assert (figures.done, figures.jobs_on_server, figures.attempts) == (JOBS, JOBS, JOBS)
    assert set(figures.ends.values()) == {1}
    assert figures.back_s < 5
