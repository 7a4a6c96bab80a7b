# SPDX-License-Identifier: Apache-2.0
"""Steps that are not asked."""

import itertools

import torch

from ex4d.generation.wan.denoise import guided
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.step_cache import FIRST_STEPS, LAST_STEPS, SKIPS_IN_A_ROW, StepCache

STEPS = 12


def slowly(change: float = 0.001):
    """A network whose answer changes from step to step."""

    def answer(latents, timestep, step):
        return torch.full_like(latents, 1 + change * step) + 0.01 * latents

    return answer


def walked(answer, steps=STEPS):
    x = torch.randn(1, 16, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for step in range(steps):
        x = x - answer(x, torch.tensor([float(step)]), step) / steps
    return x


def test_without_a_threshold_every_step_is_asked():
    cache = StepCache(slowly(), 0.0, STEPS)
    assert torch.equal(walked(cache), walked(slowly()))
    assert cache.asked == list(range(STEPS))


def test_the_first_and_the_last_steps_are_always_asked_and_never_many_in_a_row_skipped():
    cache = StepCache(slowly(), 1e9, STEPS)
    walked(cache)
    assert cache.asked[:FIRST_STEPS] == list(range(FIRST_STEPS))
    assert cache.asked[-LAST_STEPS:] == list(range(STEPS - LAST_STEPS, STEPS))
    assert max(b - a for a, b in itertools.pairwise(cache.asked)) == SKIPS_IN_A_ROW + 1


def test_a_network_that_changes_fast_is_asked_more_often():
    slow, fast = StepCache(slowly(0.001), 0.02, STEPS), StepCache(slowly(0.5), 0.02, STEPS)
    walked(slow)
    walked(fast)
    assert len(slow.asked) < len(fast.asked) == STEPS


def test_what_is_not_asked_is_nearly_what_it_would_have_answered():
    cache = StepCache(slowly(), 0.05, STEPS)
    apart = walked(cache) - walked(slowly())
    assert len(cache.asked) < STEPS
    assert apart.abs().max() < 0.1


def test_both_prompts_are_asked_in_the_same_steps_and_the_negative_one_in_the_first_share_only():
    asked = []

    def velocity(latents, timestep, branch):
        asked.append((int(timestep), branch))
        return slowly()(latents, timestep, int(timestep))

    mode = MODES["cached"]
    cache = StepCache(guided(velocity, mode, STEPS), 1e9, STEPS)
    walked(cache)
    assert [step for step, branch in asked if branch == "positive"] == cache.asked
    first = [step for step in cache.asked if step < mode.guidance_share * STEPS]
    assert [step for step, branch in asked if branch == "negative"] == first
