# SPDX-License-Identifier: Apache-2.0
"""Steps that are not asked."""

import itertools

import torch

from ex4d.generation.wan.step_cache import FIRST_STEPS, LAST_STEPS, SKIPS_IN_A_ROW, StepCache

STEPS = 12


class Slow:
    """A network whose answer changes little from step to step, and which counts."""

    def __init__(self, change: float = 0.001) -> None:
        self.asked: list[tuple[str, float]] = []
        self.change = change

    def __call__(self, latents, timestep, branch):
        self.asked.append((branch, float(timestep)))
        return torch.full_like(latents, 1 + self.change * len(self.asked)) + 0.01 * latents


def walked(velocity, branches=("positive",), steps=STEPS):
    x = torch.randn(1, 16, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for step in range(steps):
        for branch in branches:
            answer = velocity(x, torch.tensor([float(step)]), branch)
        x = x - answer / steps
    return x


def test_without_a_threshold_every_step_is_asked():
    network = Slow()
    cache = StepCache(network, 0.0, STEPS)
    assert torch.equal(walked(cache), walked(Slow()))
    assert len(network.asked) == cache.forwards == STEPS


def test_the_first_and_the_last_steps_are_always_asked_and_never_many_in_a_row_skipped():
    network = Slow()
    walked(StepCache(network, 1e9, STEPS))
    asked = [int(step) for _, step in network.asked]
    assert asked[:FIRST_STEPS] == list(range(FIRST_STEPS))
    assert asked[-LAST_STEPS:] == list(range(STEPS - LAST_STEPS, STEPS))
    assert max(b - a for a, b in itertools.pairwise(asked)) == SKIPS_IN_A_ROW + 1


def test_a_network_that_changes_fast_is_asked_more_often():
    slow, fast = Slow(0.001), Slow(0.5)
    walked(StepCache(slow, 0.02, STEPS))
    walked(StepCache(fast, 0.02, STEPS))
    assert len(slow.asked) < len(fast.asked) == STEPS


def test_what_is_not_asked_is_nearly_what_it_would_have_answered():
    network = Slow()
    apart = walked(StepCache(network, 0.05, STEPS)) - walked(Slow())
    assert len(network.asked) < STEPS
    assert apart.abs().max() < 0.1


def test_branches_are_asked_in_the_same_steps_and_jobs_do_not_know_each_other():
    network = Slow()
    walked(StepCache(network, 1e9, STEPS), ("positive", "negative"))
    positive = [step for branch, step in network.asked if branch == "positive"]
    assert positive == [step for branch, step in network.asked if branch == "negative"]
    again = Slow()
    walked(StepCache(again, 1e9, STEPS))
    assert [step for _, step in again.asked] == positive
