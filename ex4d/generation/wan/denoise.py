# SPDX-License-Identifier: Apache-2.0
"""From noise to latents: the visible loop. Latents, timesteps and guidance stay in float32, whatever the network is."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from ex4d.generation.wan.finite import need_finite
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.schedule import Schedule
from ex4d.generation.wan.time_left import PAINTING
from ex4d.progress import ProgressCallback, track

Branch = Literal["positive", "negative"]


class Velocity(Protocol):
    """A network bound to one job's conditions: where the latents move, as it sees it."""

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Branch) -> Tensor:
        """Ask it once.

        Args:
            latents: float32 [1, 16, f, h, w]
            timestep: float32 [1], not rounded
            branch: which prompt it is told.

        Returns:
            float32 [1, 16, f, h, w]
        """


Guided = Callable[[Tensor, Tensor, int], Tensor]
"""(latents, timestep, step) -> velocity: the whole answer of one step, guidance included."""

OnLatents = Callable[[int, Tensor], None]
"""(step, estimate of the clean latents [1, 16, f, h, w]) -> None: called after every step."""


def guided(velocity: Velocity, mode: Mode, steps: int) -> Guided:
    """Classifier-free guidance as the release has it: the positive prompt is asked first."""

    def answer(latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        positive = velocity(latents, timestep, "positive")
        if mode.guidance_scale == 1 or step >= mode.guidance_share * steps:
            return positive
        negative = velocity(latents, timestep, "negative")
        return negative + mode.guidance_scale * (positive - negative)

    return answer


def initial_noise(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Where painting starts: drawn on the CPU, so that a seed means the same picture on every machine."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32).to(device)


def denoise(
    velocity: Guided,
    latents: Tensor,
    schedule: Schedule,
    progress: ProgressCallback | None = None,
    on_latents: OnLatents | None = None,
) -> Tensor:
    """Follow the velocity from noise to a clean clip, with Euler's steps.

    Args:
        velocity: the network with its guidance.
        latents: noise. float32 [1, 16, f, h, w]
        schedule: the noise levels.
        progress: told after every step; it may cancel.
        on_latents: shown what the clip would look like after every step.

    Returns:
        float32 [1, 16, f, h, w]

    Raises:
        NonFiniteError: a step gave something that is no number.
    """
    steps = len(schedule.timesteps)
    timesteps = schedule.timesteps.to(latents.device)
    for step in track(range(steps), PAINTING, progress):
        answer = velocity(latents, timesteps[step : step + 1], step)
        sigma, next_sigma = schedule.sigmas[step], schedule.sigmas[step + 1]
        clean = latents - answer * sigma if on_latents is not None else None
        latents = latents + answer * (next_sigma - sigma)
        need_finite(latents, f"{PAINTING}, step {step + 1} of {steps},")
        if on_latents is not None:
            on_latents(step, clean)
    return latents
