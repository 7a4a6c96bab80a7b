# SPDX-License-Identifier: Apache-2.0
"""The loop, with velocities that are known."""

from dataclasses import replace

import pytest
import torch

from ex4d.errors import Cancelled
from ex4d.generation.wan.denoise import denoise, guided, initial_noise
from ex4d.generation.wan.finite import NonFiniteError
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.schedule import flow_schedule

CPU = torch.device("cpu")
NOISE = initial_noise((1, 16, 2, 4, 4), 0, CPU)
TARGET = torch.linspace(-2, 2, NOISE.numel()).view(NOISE.shape)


def straight(latents, timestep, step):
    """The velocity of the straight way from the noise to TARGET."""
    return NOISE - TARGET


def test_a_straight_way_is_followed_to_its_end():
    torch.testing.assert_close(denoise(straight, NOISE, flow_schedule(7)), TARGET)


def test_every_step_is_asked_at_its_exact_timestep_in_float32():
    asked = []

    def velocity(latents, timestep, step):
        asked.append((step, timestep))
        assert latents.dtype == torch.float32
        return straight(latents, timestep, step)

    schedule = flow_schedule(25)
    denoise(velocity, NOISE, schedule)
    assert [step for step, _ in asked] == list(range(25))
    assert torch.equal(torch.cat([timestep for _, timestep in asked]), schedule.timesteps)


def test_previews_show_what_the_clip_will_be():
    shown = {}
    denoise(straight, NOISE, flow_schedule(3), on_latents=shown.__setitem__)
    assert list(shown) == [0, 1, 2]
    for clean in shown.values():
        torch.testing.assert_close(clean, TARGET)


def test_progress_counts_steps_and_estimates_the_rest():
    reports = []
    denoise(straight, NOISE, flow_schedule(4), progress=reports.append)
    assert [(report.i, report.n) for report in reports] == [(i, 4) for i in range(5)]
    assert reports[2].eta_s is not None


def test_a_cancel_stops_within_one_step():
    asked = []

    def velocity(latents, timestep, step):
        asked.append(step)
        return straight(latents, timestep, step)

    def cancel(report):
        if report.i == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        denoise(velocity, NOISE, flow_schedule(9), progress=cancel)
    assert asked == [0, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_no_numbers_stop_the_loop_and_name_the_step(bad):
    shown = []

    def velocity(latents, timestep, step):
        return straight(latents, timestep, step) + (bad if step == 2 else 0)

    with pytest.raises(NonFiniteError, match=r"step 3 of 5.*lossless"):
        denoise(velocity, NOISE, flow_schedule(5), on_latents=lambda step, _: shown.append(step))
    assert shown == [0, 1]


def test_guidance_asks_the_positive_prompt_first_and_moves_away_from_the_negative_one():
    asked = []

    def velocity(latents, timestep, branch):
        asked.append(branch)
        return torch.tensor(3.0 if branch == "positive" else 1.0)

    assert guided(velocity, MODES["lossless"], 25)(NOISE, NOISE, 0) == 1 + 5 * (3 - 1)
    assert asked == ["positive", "negative"]


def test_the_negative_prompt_is_asked_in_a_share_of_the_steps_and_never_without_guidance():
    def counted(mode):
        asked = []

        def velocity(latents, timestep, branch):
            asked.append(branch)
            return latents

        answer = guided(velocity, mode, 25)
        for step in range(25):
            answer(NOISE, NOISE, step)
        return asked.count("positive"), asked.count("negative")

    assert counted(MODES["lossless"]) == (25, 25)
    assert counted(replace(MODES["lossless"], guidance_share=0.6)) == (25, 15)
    assert counted(replace(MODES["lossless"], guidance_scale=1.0)) == (25, 0)


def test_a_seed_means_the_same_noise_everywhere_and_another_seed_another():
    assert torch.equal(initial_noise((1, 16, 2, 4, 4), 0, CPU), NOISE)
    assert not torch.equal(initial_noise((1, 16, 2, 4, 4), 1, CPU), NOISE)
    # Of torch's CPU generator: a release of torch that draws otherwise would change every take.
    torch.testing.assert_close(NOISE.flatten()[:3], torch.tensor([-1.1258, -1.1524, -0.2506]), rtol=0, atol=1e-4)
