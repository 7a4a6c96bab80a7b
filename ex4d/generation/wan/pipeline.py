# SPDX-License-Identifier: Apache-2.0
"""From what the new camera sees of the plate to a whole picture: Wan2.1 with EX-4D, one window at a time."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ex4d.generation.wan.camera_encoder import LATENT_CHANNELS
from ex4d.generation.wan.conditions import (
    Conditions,
    VideoVae,
    check_pictures,
    check_seen,
    conditions_of,
    eroded,
)
from ex4d.generation.wan.denoise import Branch, Guided, OnLatents, Velocity, denoise, guided, initial_noise
from ex4d.generation.wan.models import WanModels, computing
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.prompts import prompt_embeddings
from ex4d.generation.wan.schedule import flow_schedule
from ex4d.generation.wan.settings import PaintSettings
from ex4d.generation.wan.step_cache import StepCache
from ex4d.progress import ProgressCallback


def vae_of(models: WanModels, mode: Mode) -> VideoVae:
    """The VAE with the arithmetic that a mode asks for."""
    if mode.precision == "reference":
        from ex4d.generation.wan.reference_vae import ReferenceVae

        return ReferenceVae(models)
    from ex4d.generation.wan.fast_vae import FastVae

    return FastVae(models.vae)


def velocity_of(models: WanModels, conditions: Conditions, mode: Mode) -> Velocity:
    """The DiT with the arithmetic that a mode asks for."""
    if mode.precision == "reference":
        from ex4d.generation.wan.reference_forward import ReferenceForward

        return ReferenceForward(models.dit, conditions)
    from ex4d.generation.wan.fast_forward import FastForward

    return FastForward(models.dit, conditions, mode)


class WanPipeline:
    """The networks, ready to paint."""

    def __init__(
        self,
        models: WanModels,
        bind: Callable[[WanModels, Conditions, Mode], Velocity] = velocity_of,
        guide: Callable[[Velocity, Mode, int], Guided] = guided,
    ) -> None:
        """Take the networks as they were loaded.

        Args:
            models: for the modes that will be asked for.
            bind: binds the DiT to a job's conditions.
            guide: turns it into the whole answer of a step; several GPUs have their own.
        """
        self.models = models
        self.bind = bind
        self.guide = guide

    def paint(
        self,
        color: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        settings: PaintSettings,
        progress: ProgressCallback | None = None,
        on_preview: OnLatents | None = None,
    ) -> NDArray[np.uint8]:
        """Paint a clip.

        Args:
            color: the plate as the new camera sees it. 4 n + 1 frames, at most 81; sides multiples of 16. [F, H, W, 3]
            mask: where it sees the plate. [F, H, W]
            settings: see there.
            progress: told about every step of every stage; it may cancel.
            on_preview: shown the clean latents that each step expects. (step, float32 [1, 16, f, h, w])

        Returns:
            RGB, new everywhere: what the mask covers is the model's picture of it. uint8 [F, H, W, 3]

        Raises:
            ShapeError: the pictures do not fit the networks.
            InputError: the camera sees nothing of the plate.
            NonFiniteError: the networks answered with something that is no number.
        """
        models, mode = self.models, settings.mode
        check_pictures(color, mask)
        seen = eroded(mask, settings.erosion_px, settings.seed)
        check_seen(seen)
        with torch.no_grad():
            vae = vae_of(models, mode)
            told = conditions_of(models, color, seen, _context(models, settings, progress), vae, progress)
            answer = self.guide(self.bind(models, told, mode), mode, settings.steps)
            if mode.cache_threshold > 0:
                answer = StepCache(answer, mode.cache_threshold, settings.steps)
            noise = initial_noise((1, LATENT_CHANNELS, *told.y.shape[2:]), settings.seed, models.device)
            latents = denoise(answer, noise, flow_schedule(settings.steps), progress, on_preview)
            del answer, told  # what was bound to the job makes room for the decoder
            with computing(models.vae, models.device):
                return vae.decode(latents, progress)


def _context(models: WanModels, settings: PaintSettings, progress: ProgressCallback | None) -> dict[Branch, Tensor]:
    """The prompts that the mode will ask."""
    prompts: dict[Branch, str] = {"positive": settings.prompt}
    if settings.mode.guidance_scale != 1:
        prompts["negative"] = settings.negative_prompt
    return dict(zip(prompts, prompt_embeddings(models, list(prompts.values()), progress), strict=True))
