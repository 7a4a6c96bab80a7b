# SPDX-License-Identifier: Apache-2.0
"""Several processes on one job: the same numbers, and no process left behind. What gets lost: test_team_losses.py."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from processes import gone
from test_fast_forward import conditions_of, tiny_dit

from ex4d.errors import Cancelled
from ex4d.generation.wan.denoise import denoise, guided
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.helper import PACKAGES
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.parallel import Team
from ex4d.generation.wan.ranks import usable
from ex4d.generation.wan.schedule import flow_schedule

CPU = torch.device("cpu")
BOTH_AT_ONCE = MODES["lossless"]
ONE_AFTER_THE_OTHER = replace(BOTH_AT_ONCE, guidance_share=0.5)  # its last steps ask one prompt only
STEPS, HEADS = 3, 4
GRID = {"frames": 3, "height": 6, "width": 10}  # 45 tokens: no even shares
NOISE = torch.randn((1, 16, 3, 6, 10), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def dit():
    return tiny_dit(HEADS, 12)


@pytest.fixture(scope="module")
def team_of():
    """Starts a team, or gives the last one again. A process can be in one team at a time."""
    last = []

    def start(count: int, **arguments: object) -> Team:
        if not last or last[0] != (count, arguments) or not last[1].alive:
            for team in last[1:]:
                team.close()
            last[:] = (count, arguments), Team([CPU] * count, "tiny_team:network", {"heads": HEADS, **arguments})
            last[1].meet()
        return last[1]

    yield start
    for team in last[1:]:
        team.close()


def alone(dit, mode):
    velocity = FastForward(dit, conditions_of(dit, **GRID), mode)
    return denoise(guided(velocity, mode, STEPS), NOISE, flow_schedule(STEPS))


def together(team, dit, mode, progress=None):
    velocity = team.bind(SimpleNamespace(dit=dit), conditions_of(dit, **GRID), mode)
    return denoise(team.guide(velocity, mode, STEPS), NOISE, flow_schedule(STEPS), progress)


def test_one_prompt_each_gives_exactly_the_same_latents(team_of, dit):
    assert torch.equal(together(team_of(2), dit, BOTH_AT_ONCE), alone(dit, BOTH_AT_ONCE))


def test_shared_tokens_give_the_same_latents(team_of, dit):
    ours, theirs = together(team_of(2), dit, ONE_AFTER_THE_OTHER), alone(dit, ONE_AFTER_THE_OTHER)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert theirs.std() > 0.1


def test_a_cancelled_job_leaves_the_team_ready_for_the_next(team_of, dit):
    team = team_of(2)

    def cancel(progress):
        if progress.i == 1:
            raise Cancelled("stop")

    for mode in (BOTH_AT_ONCE, ONE_AFTER_THE_OTHER):
        with pytest.raises(Cancelled):
            together(team, dit, mode, cancel)
        assert team.alive
        torch.testing.assert_close(together(team, dit, mode), alone(dit, mode), atol=1e-6, rtol=1e-6)


def test_four_processes_share_prompts_and_tokens(team_of, dit):
    team = team_of(4)
    for mode in (BOTH_AT_ONCE, ONE_AFTER_THE_OTHER):
        # Products of other shapes round differently, and guidance multiplies that by 5 in each step.
        torch.testing.assert_close(together(team, dit, mode), alone(dit, mode), atol=2e-5, rtol=0)
    team.close()
    assert all(gone(helper.pid) for helper in team._helpers)


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_no_process_outlives_the_one_that_paints():
    script = (
        "import torch, time\n"
        "from ex4d.generation.wan.parallel import Team\n"
        "cpu = torch.device('cpu')\n"
        "team = Team([cpu] * 2, 'light_team:network', {})\n"
        "team.meet()\n"
        "print(*(helper.pid for helper in team._helpers), flush=True)\n"
        "time.sleep(60)\n"
    )
    search_path = os.pathsep.join([str(PACKAGES), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": search_path}
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert all(gone(pid) for pid in pids)


def test_networks_are_shared_by_as_many_gpus_as_divide_its_heads():
    assert [usable(gpus) for gpus in (1, 2, 3, 4, 6, 8)] == [1, 2, 2, 4, 4, 8]
