# SPDX-License-Identifier: Apache-2.0
"""Steps whose answer can be told from the last one: the network is not asked.

The rule is EasyCache's (Zhou et al. 2025), which needs no calibration: how fast the answer changed with the latents
between the last two asked steps says how much it will have changed now. While those changes sum up to less than a
threshold, the answer is the latents plus what the network last added to them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

FIRST_STEPS = 4  # always asked: layout and motion are decided here, and a rate of change needs two answers
LAST_STEPS = 2  # always asked: detail is decided here
SKIPS_IN_A_ROW = 2  # at most; the sum of small changes cannot know about a large one
SMALLEST = 1e-12  # no division by zero


class Velocity(Protocol):
    """See denoise.py."""

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Any) -> Tensor: ...


@dataclass
class _Asked:
    """What one branch was last asked, and what it answered."""

    latents: Tensor
    answer: Tensor


class StepCache:
    """A `Velocity` that asks another one in some steps only. One for each job.

    The branch that comes first in a step decides for the others: guidance multiplies their difference, so both are of
    the same age.
    """

    def __init__(self, velocity: Velocity, threshold: float, steps: int) -> None:
        """
        Args:
            velocity: the network.
            threshold: relative change of the answer up to which it is not asked. 0: always asked.
            steps: of the job. A branch is asked for in each of them, in order, or no longer.
        """
        self._velocity = velocity
        self._threshold = threshold
        self._steps = steps
        self._asked: dict[Any, _Asked] = {}
        self._leader: Any = None  # the branch that decides
        self._step = -1
        self._skipping = False
        self._skipped = 0  # in a row
        self._before: Tensor | None = None  # latents of the step before
        self._rate = 0.0  # change of the leader's answer by change of the latents, between the last two asked steps
        self._change = 0.0  # of the leader's answer, relative, summed since it was asked
        self.forwards = 0  # how often the network was asked

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Any) -> Tensor:
        if self._leader is None:
            self._leader = branch
        if branch == self._leader:
            self._step += 1
            self._skipping = self._may_skip(latents)
            self._skipped = self._skipped + 1 if self._skipping else 0
            self._before = latents
        last = self._asked.get(branch)
        if self._skipping and last is not None:
            return latents + (last.answer - last.latents)
        answer = self._velocity(latents, timestep, branch)
        self.forwards += 1
        if branch == self._leader:
            if last is not None:
                self._rate = _size(answer - last.answer) / max(_size(latents - last.latents), SMALLEST)
            self._change = 0.0
        self._asked[branch] = _Asked(latents, answer)
        return answer

    def _may_skip(self, latents: Tensor) -> bool:
        if not FIRST_STEPS <= self._step < self._steps - LAST_STEPS or self._before is None:
            return False
        moved = _size(latents - self._before)
        self._change += self._rate * moved / max(_size(self._asked[self._leader].answer), SMALLEST)
        return self._change < self._threshold and self._skipped < SKIPS_IN_A_ROW


def _size(x: Tensor) -> float:
    return float(x.abs().mean())
