# SPDX-License-Identifier: Apache-2.0
"""Processes of a team that are lost, anywhere: the painting process says so within seconds, and none is left behind."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import light_team
import pytest
import torch
from processes import gone

from ex4d.errors import Cancelled, MachineError
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import denoise
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.parallel import Team
from ex4d.generation.wan.schedule import flow_schedule

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")

CPU = torch.device("cpu")
BOTH_AT_ONCE = MODES["lossless"]
ONE_AFTER_THE_OTHER = replace(BOTH_AT_ONCE, guidance_share=0.5)  # its last steps ask one prompt only
STEPS = 3
NOISE = torch.randn((1, 16, 3, 6, 10), generator=torch.Generator().manual_seed(3))
TOLD = Conditions(
    torch.zeros(1), torch.zeros(1), torch.zeros(1), {"positive": torch.full((1, 2), 0.3), "negative": torch.ones(1, 2)}
)
SECONDS = 20  # from a loss to the error, on a machine that does other things too


@pytest.fixture
def team_of():
    """Starts teams, and ends them."""
    teams = []

    def start(count: int, function: str = "network", at_once: int | None = None, **arguments: object) -> Team:
        local = lambda models, *told: light_team.bind(*told)  # noqa: E731
        team = Team([CPU] * count, f"light_team:{function}", arguments, local=local, at_once=at_once)
        teams.append(team)
        return team

    yield start
    for team in teams:
        team.close()
        assert all(gone(helper.pid) for helper in team._helpers)


def paint(team: Team, mode=BOTH_AT_ONCE) -> torch.Tensor:
    answer = team.guide(team.bind(None, TOLD, mode), mode, STEPS)
    return denoise(answer, NOISE, flow_schedule(STEPS))


def fails_in_time(words: str, work) -> None:
    start = time.monotonic()
    with pytest.raises(MachineError, match=words):
        work()
    assert time.monotonic() - start < SECONDS


# ----------------------------------------------------------------------------------------------------- loading


def test_all_load_at_the_same_time_and_while_this_process_does(team_of, tmp_path):
    team = team_of(3, "loading", folder=str(tmp_path), then="others")
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:  # this process has not asked for them yet
        assert time.monotonic() < end
        team.check()
        time.sleep(0.02)
    reports = []
    team.meet(reports.append)
    assert {report.stage for report in reports} == {"Loading Wan2.1 on the other GPUs"}
    assert (reports[-1].i, reports[-1].n) == (2, 2)


def test_where_memory_is_short_they_load_in_turn(team_of, tmp_path):
    team = team_of(3, "loading", at_once=1, folder=str(tmp_path), then="alone")
    team.meet()
    assert len(list(tmp_path.glob("loaded *"))) == 2
    assert torch.equal(paint(team), paint(team))


def test_when_one_cannot_load_all_end_with_its_words(team_of, tmp_path):
    team = team_of(3, "loading", folder=str(tmp_path), then="one fails")
    with pytest.raises(MachineError, match=r"On cpu: Wan2\.1's weights are missing\. Run 'ex4d models download'"):
        team.meet()
    assert not team.alive
    with pytest.raises(MachineError, match=r"weights are missing"):
        team.check()


def test_one_that_is_killed_while_it_loads_is_noticed_by_this_process_s_own_loading(team_of, tmp_path):
    team = team_of(2, "loading", folder=str(tmp_path), then="hangs")
    while not list(tmp_path.iterdir()):
        team.check()
        time.sleep(0.02)
    os.kill(team._helpers[0].pid, signal.SIGKILL)

    def load() -> None:
        while True:
            team.check()
            time.sleep(0.02)

    fails_in_time("The process of cpu ended unexpectedly", load)
    fails_in_time("The process of cpu ended unexpectedly", team.meet)


@pytest.mark.parametrize("function", ["dies_before_it_meets", "dies_in_the_middle_of_a_word"])
def test_one_that_is_lost_on_its_way_to_the_others_is_not_waited_for(team_of, function):
    team = team_of(2, function)
    while team._lost is None and not team._helpers[0].inbox.qsize():
        time.sleep(0.02)
    fails_in_time("The process of cpu ended unexpectedly", team.meet)
    after = team_of(2)  # and the next team is not in its way
    after.meet()
    assert paint(after).isfinite().all()


def test_a_cancel_while_the_others_load_ends_them(team_of, tmp_path):
    team = team_of(2, "loading", folder=str(tmp_path), then="hangs")

    def cancel(report) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        team.meet(cancel)
    assert not team.alive


# ---------------------------------------------------------------------------------------------------- painting


@pytest.mark.parametrize(
    ("mode", "dies", "words"),
    [
        (BOTH_AT_ONCE, "killed", "The process of cpu ended unexpectedly"),
        (ONE_AFTER_THE_OTHER, "killed", "The process of cpu ended unexpectedly"),
        (BOTH_AT_ONCE, "fails", r"On cpu: Too little of everything\."),
        (ONE_AFTER_THE_OTHER, "runs out", "On cpu: the memory ran out. Close other programs"),
    ],
    ids=["prompts", "tokens", "fails", "memory"],
)
def test_one_that_is_lost_in_a_step_ends_the_job_with_a_typed_error(team_of, mode, dies, words):
    team = team_of(2, dies=dies, at=1)
    team.meet()
    fails_in_time(words, lambda: paint(team, mode))
    assert not team.alive
    fails_in_time(words, lambda: paint(team, mode))  # and does not wait for what will not come


def test_when_one_of_three_hangs_and_is_killed_the_others_do_not_wait_for_it(team_of, tmp_path):
    team = team_of(3, dies="hangs", at=1, folder=str(tmp_path))
    team.meet()

    def kill_it() -> None:
        while not (tmp_path / "first").exists() or not (tmp_path / "first").read_text().endswith("\n"):
            time.sleep(0.02)
        os.kill(int((tmp_path / "first").read_text()), signal.SIGKILL)

    threading.Thread(target=kill_it, daemon=True).start()
    fails_in_time("The process of cpu ended unexpectedly", lambda: paint(team))


def test_one_that_is_lost_between_steps_is_said_before_the_next_one(team_of):
    team = team_of(2)
    team.meet()
    whole = paint(team)
    os.kill(team._helpers[0].pid, signal.SIGKILL)
    fails_in_time("The process of cpu ended unexpectedly", lambda: paint(team))
    assert whole.isfinite().all()
