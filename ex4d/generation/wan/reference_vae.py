# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's video autoencoder as the EX-4D release runs it: diffsynth's own layers, a few frames at a time, autocast."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ex4d.generation.wan.finite import pictures_of
from ex4d.generation.wan.models import WanModels
from ex4d.generation.wan.time_left import DEVELOPING
from ex4d.progress import ProgressCallback, track


class ReferenceVae:
    """The VAE of some networks, where its weights are now."""

    def __init__(self, models: WanModels) -> None:
        self._models = models
        self._vae = models.vae

    def encode(self, clips: Tensor) -> Tensor:
        """Turn pictures into normalised latents, clip after clip.

        Args:
            clips: -1..1, 4 n + 1 frames. [batch, 3, frames, h, w]

        Returns:
            In the weights' dtype. [batch, 16, n + 1, h / 8, w / 8]
        """
        with torch.no_grad(), self._models.autocast():
            try:
                return torch.cat([self._vae.single_encode(clip, clip.device) for clip in clips.split(1)])
            finally:
                self._vae.model.clear_cache()

    def decode(self, latents: Tensor, progress: ProgressCallback | None = None) -> NDArray[np.uint8]:
        """Turn latents into pictures, four frames at a time, so that no clip of floats is ever held.

        Args:
            latents: normalised. float32 [1, 16, n + 1, h, w]
            progress: told after every latent frame; it may cancel.

        Returns:
            Truncated to bytes. uint8 [4 n + 1, 8 h, 8 w, 3]
        """
        model = self._vae.model
        mean, inverse_deviation = (scale.to(latents).view(1, -1, 1, 1, 1) for scale in self._vae.scale)
        pictures = []
        with torch.no_grad(), self._models.autocast():
            model.clear_cache()
            try:
                features, cache = model.conv2(latents / inverse_deviation + mean), model._feat_map
                for i in track(range(features.shape[2]), DEVELOPING, progress):
                    decoded, cache, _ = model.decoder(features[:, :, i : i + 1], feat_cache=cache, feat_idx=[0])
                    pictures.append(pictures_of(decoded[0], DEVELOPING).permute(1, 2, 3, 0).cpu().numpy())
            finally:
                model.clear_cache()
        return np.concatenate(pictures)
