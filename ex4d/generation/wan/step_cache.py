# SPDX-License-Identifier: Apache-2.0
"""Steps whose answer can be told from the last one: the network is not asked.

The rule is EasyCache's (Zhou et al., arXiv 2507.02860), which needs no calibration: how fast the answer changed with
the latents between the last two asked steps says how much it will have changed now. While those changes sum up to less
than a threshold, the answer is the latents plus what the last answer was beyond its own. It is applied to the whole
answer of a step, guidance included: both prompts are asked in the same steps, on however many GPUs.
"""

from torch import Tensor

from ex4d.generation.wan.denoise import Guided

FIRST_STEPS = 4  # always asked: layout and motion are decided here, and a rate of change needs two answers
LAST_STEPS = 2  # always asked: detail is decided here
SKIPS_IN_A_ROW = 2  # at most; the sum of small changes cannot know about a large one
SMALLEST = 1e-12  # no division by zero


class StepCache:
    """The answer of one step, asked for in some steps only. One for each job."""

    def __init__(self, answer: Guided, threshold: float, steps: int) -> None:
        """
        Args:
            answer: asks the network.
            threshold: relative change of the answer up to which it is not asked. 0: always asked.
            steps: of the job, which are gone through in order.
        """
        self._answer = answer
        self._threshold = threshold
        self._steps = steps
        self._last: tuple[Tensor, Tensor] | None = None  # latents and answer of the last step that was asked
        self._before: Tensor | None = None  # latents of the step before this one
        self._rate = 0.0  # change of the answer by change of the latents, between the last two that were asked
        self._change = 0.0  # of the answer, relative, summed since it was asked
        self._skipped = 0  # in a row
        self.asked: list[int] = []  # the steps

    def __call__(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        skipping = self._may_skip(latents, step)
        self._before = latents
        if skipping and self._last is not None:
            self._skipped += 1
            last_latents, last_answer = self._last
            return latents + (last_answer - last_latents)
        answer = self._answer(latents, timestep, step)
        if self._last is not None:
            last_latents, last_answer = self._last
            self._rate = _size(answer - last_answer) / max(_size(latents - last_latents), SMALLEST)
        self._last = latents, answer
        self._change, self._skipped = 0.0, 0
        self.asked.append(step)
        return answer

    def _may_skip(self, latents: Tensor, step: int) -> bool:
        if not FIRST_STEPS <= step < self._steps - LAST_STEPS or self._before is None or self._last is None:
            return False
        moved = _size(latents - self._before)
        self._change += self._rate * moved / max(_size(self._last[1]), SMALLEST)
        return self._change < self._threshold and self._skipped < SKIPS_IN_A_ROW


def _size(x: Tensor) -> float:
    return float(x.abs().mean())
