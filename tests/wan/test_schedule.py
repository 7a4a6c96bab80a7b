# SPDX-License-Identifier: Apache-2.0
"""The noise levels are the release's."""

import pytest
import torch

from ex4d.errors import InputError
from ex4d.generation.wan.schedule import flow_schedule

# Printed by the release's scheduler, every fourth of its 25 timesteps.
RELEASE_TIMESTEPS = [1000.0, 963.3028, 913.9785, 844.1558, 737.7049, 555.5555, 172.4138]


def test_the_25_timesteps_are_the_release_s_unrounded():
    schedule = flow_schedule(25)
    assert schedule.timesteps.dtype == torch.float32
    torch.testing.assert_close(schedule.timesteps[::4], torch.tensor(RELEASE_TIMESTEPS), rtol=0, atol=1e-4)
    assert not torch.equal(schedule.timesteps, schedule.timesteps.bfloat16().float())


def test_four_steps_are_those_of_the_distilled_models():
    torch.testing.assert_close(flow_schedule(4).timesteps, torch.tensor([1000.0, 937.5, 833.3333, 625.0]))


def test_sigmas_run_from_pure_noise_to_none():
    sigmas = flow_schedule(7).sigmas
    assert len(sigmas) == 8
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="At least 1 step"):
        flow_schedule(0)
