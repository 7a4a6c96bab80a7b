# SPDX-License-Identifier: Apache-2.0
"""Validation clips: one clip painted from noise with what was learned so far, beside what is known and the truth."""

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ex4d.generation.wan.conditions import Conditions, eroded
from ex4d.generation.wan.denoise import Branch, Velocity
from ex4d.generation.wan.models import WanModels
from ex4d.generation.wan.modes import MODES, Mode
from ex4d.generation.wan.pipeline import WanPipeline
from ex4d.generation.wan.prompts import prompt_embeddings
from ex4d.generation.wan.settings import NEGATIVE_PROMPT, PaintSettings
from ex4d.training.adapter import fresh_camera_encoder, whole
from ex4d.training.config import TrainConfig
from ex4d.training.latents import caption
from ex4d.training.records import Sample
from ex4d.video import write_video

if TYPE_CHECKING:
    from ex4d.training.loop import Trainer

CLIPS = "clips"


class Painter:
    """Paints one clip of the dataset. All processes do, for the network may be spread over them; one writes it."""

    def __init__(self, models: WanModels, sample: Sample, config: TrainConfig) -> None:
        """Remember what it takes.

        Args:
            models: encoders.
            sample: the clip.
            config: of the run.
        """
        self._models, self._sample, self._run = models, sample, config.out
        record = sample.record
        self._settings = PaintSettings(
            MODES["reference"], config.clip_steps, record.mask_seed, caption(record), NEGATIVE_PROMPT, config.erosion
        )

    def prepare(self) -> None:
        """Read the prompts while the GPU is empty, which keeps them on disk; then let the encoders wait elsewhere."""
        prompt_embeddings(self._models, self._settings.asked_prompts)
        for network in (self._models.vae, self._models.image_encoder):
            network.to("cpu")

    def __call__(self, trainer: "Trainer") -> None:
        """Paint with the averaged weights and write OUT/clips/step-NNNNNNNN.mp4: known, painted, true."""
        target, mask, record = self._sample.target, self._sample.mask, self._sample.record
        tensors = {name: whole(mean) for name, mean in trainer.ema.items()}
        camera = {name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.")}
        hidden, tokens = len(camera["latent_encoder.0.bias"]), len(camera["latent_patch_embedding.bias"])
        encoder = fresh_camera_encoder(tokens, hidden)
        encoder.load_state_dict(camera)
        models = replace(self._models, camera_encoder=encoder)

        def bind(models: WanModels, conditions: Conditions, mode: Mode) -> Velocity:
            return _Bound(trainer.network, conditions)

        with trainer.averaged():
            painted = WanPipeline(models, bind=bind).paint(target * mask[..., None], mask, self._settings)
        if trainer.accelerator.is_main_process:
            seen = eroded(mask, self._settings.erosion_px, self._settings.seed)
            beside = np.concatenate([target * seen[..., None], painted, target], axis=2)
            write_video(self._run / CLIPS / f"step-{trainer.step:08d}.mp4", beside, Fraction(record.fps), "h264")


class _Bound:
    """The network as a `Velocity`."""

    def __init__(self, network: Any, conditions: Conditions) -> None:
        self._network, self._conditions = network, conditions

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Branch) -> Tensor:
        """See `Velocity`."""
        with torch.no_grad():
            answer: Tensor = self._network(latents, timestep, self._conditions, branch=branch)
        return answer
