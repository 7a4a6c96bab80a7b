# SPDX-License-Identifier: Apache-2.0
"""The fast autoencoder against diffsynth's own."""

import numpy as np
import pytest
import torch
from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE

from ex4d.generation.wan.fast_vae import FastVae

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vae() -> WanVideoVAE:
    """Wan2.1's autoencoder, 4 channels wide instead of 96."""
    torch.manual_seed(0)
    vae = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(vae)
    vae.model = VideoVAE_(dim=4, z_dim=16).eval().requires_grad_(False)
    for parameter in vae.model.parameters():  # some are born as zeros
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.dim() > 3 else 1.0)
    vae.mean, vae.std = torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16)
    vae.scale = [vae.mean, 1 / vae.std]
    vae.upsampling_factor, vae.z_dim = 8, 16
    return vae


@pytest.mark.parametrize("frames", [1, 5, 21, 33])
def test_encoding_equals_diffsynths(vae, frames):
    clips = torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = torch.cat([vae.single_encode(clip[None], CPU) for clip in clips])
    torch.testing.assert_close(FastVae(vae).encode(clips), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("latent_frames", [1, 2, 6, 9])
def test_decoding_equals_diffsynths(vae, latent_frames):
    latents = torch.randn(1, 16, latent_frames, 2, 3, generator=torch.Generator().manual_seed(1))
    theirs = (vae.single_decode(latents, CPU)[0].clamp(-1, 1) + 1) * 127.5
    ours = FastVae(vae).decode(latents)
    assert ours.shape == (4 * latent_frames - 3, 16, 24, 3)
    assert np.abs(ours.astype(float) - theirs.permute(1, 2, 3, 0).numpy()).max() < 1.01  # truncated
    assert ours.std() > 10


def test_decoding_may_be_cancelled(vae):
    class Stop(Exception):
        pass

    def progress(report):
        raise Stop

    with pytest.raises(Stop):
        FastVae(vae).decode(torch.zeros(1, 16, 2, 2, 2), progress)
