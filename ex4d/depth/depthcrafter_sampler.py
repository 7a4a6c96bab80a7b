# SPDX-License-Identifier: Apache-2.0
"""DepthCrafter (arXiv 2409.02095) on the stock parts of Stable Video Diffusion: from frames to disparity.

A video diffusion model draws the disparity of a clip as a video. Each frame enters twice: as a CLIP embedding that
cross attention sees, and as VAE latents beside the noise. Long clips are drawn in overlapping windows.
"""

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from numpy.typing import NDArray
from transformers import CLIPVisionModelWithProjection

from ex4d.depth.video_layers import use_fast_layers
from ex4d.progress import ProgressCallback, track

# The values below are those which the EX-4D release gives to DepthCrafter, or DepthCrafter's own defaults.
NOISE_ADDED = 0.02  # to the pixels before the VAE
ADDED_TIME_IDS = (7.0, 127.0, NOISE_ADDED)  # frames per second, motion and noise that the UNet is told
KARRAS_RHO = 7.0
CLIP_SIDE = 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CHUNK = 8  # frames that the VAE decodes together; another number changes the result, its layers look along time
ENCODE_PIXELS = 1 << 20  # that the VAE encodes together; its encoder looks at each frame alone


@dataclass(frozen=True)
class SamplerOptions:
    """How the disparity is drawn; the defaults are the release's."""

    steps: int = 5
    window: int = 110  # frames drawn together
    overlap: int = 25  # frames that two windows share
    seed: int = 42


@dataclass(frozen=True)
class Parts:
    """The networks, and where they compute."""

    unet: Any
    vae: Any
    image_encoder: Any
    sigma_max: float
    sigma_min: float
    device: torch.device
    dtype: torch.dtype


def load_parts(unet: Path, svd: Path, device: torch.device, resident: bool) -> Parts:
    """Load the networks from folders on disk.

    Args:
        unet: holds DepthCrafter's UNet.
        svd: holds `vae`, `image_encoder` and `scheduler` of Stable Video Diffusion.
        device: where they compute.
        resident: keep all of them there (fast), or only the one that computes (small).
    """
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    home = device if resident else torch.device("cpu")
    common: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}

    def variant(folder: Path) -> str | None:
        return "fp16" if any(folder.glob("*.fp16.safetensors")) else None

    def diffusers_part(network: Any, folder: Path) -> Any:
        loaded = network.from_pretrained(folder, torch_dtype=dtype, variant=variant(folder), **common)
        return loaded.to(home).eval()

    unet_part = diffusers_part(UNetSpatioTemporalConditionModel, unet)
    vae = diffusers_part(AutoencoderKLTemporalDecoder, svd / "vae")
    folder = svd / "image_encoder"
    image_encoder = CLIPVisionModelWithProjection.from_pretrained(
        folder, dtype=dtype, variant=variant(folder), **common
    )
    scheduler = json.loads((svd / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return assembled(unet_part, vae, image_encoder.to(home).eval(), scheduler, device)


def assembled(unet: Any, vae: Any, image_encoder: Any, scheduler: dict[str, Any], device: torch.device) -> Parts:
    """The parts made of loaded networks, which are changed to compute faster.

    Args:
        unet, vae, image_encoder: on the device, or on the CPU to be moved there while they compute.
        scheduler: the configuration of Stable Video Diffusion's scheduler.
        device: where they compute.
    """
    for network in (unet, vae):
        use_fast_layers(network, channels_last=device.type != "mps")
    sigma_max, sigma_min = float(scheduler["sigma_max"]), float(scheduler["sigma_min"])
    return Parts(unet, vae, image_encoder, sigma_max, sigma_min, device, unet.dtype)


def draw_disparity(
    parts: Parts, frames: NDArray[np.uint8], options: SamplerOptions, progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Draw the disparity of a clip.

    Args:
        parts: the networks.
        frames: RGB, height and width multiples of 64. [T, H, W, 3]
        options: see there.
        progress: told after every chunk and step; it may cancel.

    Returns:
        0 far .. 1 near, not stretched to that range. float32 [T, H, W]
    """
    generator = torch.Generator(parts.device).manual_seed(options.seed)
    with torch.inference_mode():
        pixels = _unit_pixels(frames, parts)
        context = image_embeddings(parts, pixels, progress)
        latents = frame_latents(parts, pixels, generator, progress)
        del pixels
        latents = denoise(parts, latents, context, options, generator, progress)
        return decode(parts, latents, progress)


def _unit_pixels(frames: NDArray[np.uint8], parts: Parts) -> torch.Tensor:
    """Frames as -1..1. [T, 3, H, W]"""
    pixels = torch.empty((len(frames), 3, *frames.shape[1:3]), dtype=parts.dtype, device=parts.device)
    for i in range(0, len(frames), CHUNK):
        chunk = torch.from_numpy(frames[i : i + CHUNK]).to(parts.device).permute(0, 3, 1, 2)
        pixels[i : i + CHUNK] = (chunk.float() / 255).to(parts.dtype) * 2 - 1
    return pixels


def image_embeddings(parts: Parts, pixels: torch.Tensor, progress: ProgressCallback | None = None) -> torch.Tensor:
    """What CLIP sees in each frame. [T, 3, H, W] -> [T, C]"""
    mean, std = (torch.tensor(v, device=parts.device).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    embeddings = []
    with computing(parts.image_encoder, parts.device):
        for chunk in track(pixels.split(CHUNK), "Looking at the frames", progress, math.ceil(len(pixels) / CHUNK)):
            small = _resize_with_antialiasing(chunk.float(), (CLIP_SIDE, CLIP_SIDE))
            small = ((small + 1) / 2 - mean) / std
            embeddings.append(parts.image_encoder(small.to(parts.dtype)).image_embeds)
    return torch.cat(embeddings)


def frame_latents(
    parts: Parts, pixels: torch.Tensor, generator: torch.Generator, progress: ProgressCallback | None = None
) -> torch.Tensor:
    """VAE latents of the slightly noisy frames, not scaled. [T, 3, H, W] -> float32 [T, 4, H / 8, W / 8]

    In float32, because Stable Video Diffusion's VAE leaves the range of half precision when it encodes.
    """
    noise = torch.randn(pixels.shape, generator=generator, device=parts.device, dtype=parts.dtype)
    count = max(1, ENCODE_PIXELS // (pixels.shape[2] * pixels.shape[3]))
    latents = []
    with ExitStack() as stack:
        for part in (parts.vae.encoder, parts.vae.quant_conv):
            stack.enter_context(computing(part, parts.device, torch.float32))
        starts = range(0, len(pixels), count)
        for i in track(starts, "Encoding the frames", progress):
            chunk = (pixels[i : i + count] + NOISE_ADDED * noise[i : i + count]).float()
            latents.append(parts.vae.encode(chunk).latent_dist.mode())
    return torch.cat(latents)


def denoise(
    parts: Parts,
    frame_latents: torch.Tensor,
    context: torch.Tensor,
    options: SamplerOptions,
    generator: torch.Generator,
    progress: ProgressCallback | None = None,
) -> torch.Tensor:
    """Draw the latents of the disparity, window after window.

    Args:
        frame_latents: of the frames. [T, 4, h, w]
        context: CLIP embeddings of the frames. [T, C]

    Returns:
        float32 [T, 4, h, w]
    """
    count = len(frame_latents)
    window, overlap = (options.window, options.overlap) if count > options.window else (count, 0)
    sigmas = karras_sigmas(options.steps, parts.sigma_max, parts.sigma_min)
    noise = torch.randn((window, *frame_latents.shape[1:]), generator=generator, device=parts.device, dtype=parts.dtype)
    noise = noise.float()
    starts = range(0, max(count - overlap, 1), max(window - overlap, 1))
    fade = torch.linspace(0, 1, overlap, device=parts.device).view(-1, 1, 1, 1)
    steps = iter(track(range(len(starts) * options.steps), "Drawing the depth", progress))
    drawn = frame_latents[:0]
    with computing(parts.unet, parts.device):
        for start in starts:
            end = min(start + window, count)
            latents = noise[: end - start] * math.sqrt(sigmas[0] ** 2 + 1)
            if start > 0:
                latents[:overlap] = drawn[-overlap:] + noise[:overlap] * sigmas[0]
            noise = torch.cat([noise[window - overlap :], noise[: window - overlap]])
            with per_frame_context(parts.unet, context[start:end]):
                for sigma, next_sigma in itertools.pairwise(sigmas):
                    next(steps)
                    latents = euler_step(parts, latents, frame_latents[start:end], context, sigma, next_sigma)
            if start > 0:
                latents[:overlap] = torch.lerp(drawn[-overlap:], latents[:overlap], fade)
                drawn = drawn[:-overlap]
            drawn = torch.cat([drawn, latents])
        next(steps, None)  # reports the last step
    return drawn


def karras_sigmas(steps: int, sigma_max: float, sigma_min: float) -> list[float]:
    """Noise levels from sigma_max to sigma_min and 0 (arXiv 2206.00364, equation 5)."""
    high, low = sigma_max ** (1 / KARRAS_RHO), sigma_min ** (1 / KARRAS_RHO)
    return [float((high + share * (low - high)) ** KARRAS_RHO) for share in np.linspace(0, 1, steps)] + [0.0]


def euler_step(
    parts: Parts,
    latents: torch.Tensor,
    frame_latents: torch.Tensor,
    context: torch.Tensor,
    sigma: float,
    next_sigma: float,
) -> torch.Tensor:
    """One Euler step with v-prediction. float32 [T, 4, h, w] -> [T, 4, h, w]"""
    scaled = torch.cat([latents / math.sqrt(sigma**2 + 1), frame_latents], dim=1).to(parts.dtype)
    velocity = parts.unet(
        scaled[None],
        torch.full((), 0.25 * math.log(sigma), device=parts.device),
        encoder_hidden_states=context[None, :1],
        added_time_ids=torch.tensor([ADDED_TIME_IDS], device=parts.device, dtype=parts.dtype),
        return_dict=False,
    )[0][0]
    clean = latents / (sigma**2 + 1) - velocity.float() * (sigma / math.sqrt(sigma**2 + 1))
    return latents + (latents - clean) * ((next_sigma - sigma) / sigma)


def decode(parts: Parts, latents: torch.Tensor, progress: ProgressCallback | None = None) -> NDArray[np.float32]:
    """Turn latents into disparity: the mean of the three channels, 0..1. [T, 4, h, w] -> float32 [T, H, W]"""
    planes = []
    latents = (latents / parts.vae.config.scaling_factor).to(parts.dtype)
    with computing(parts.vae.decoder, parts.device):
        for chunk in track(latents.split(CHUNK), "Decoding the depth", progress, math.ceil(len(latents) / CHUNK)):
            picture = parts.vae.decode(chunk, num_frames=len(chunk)).sample.float()
            planes.append((picture / 2 + 0.5).clamp(0, 1).mean(dim=1))
    return np.asarray(torch.cat(planes).cpu().numpy(), np.float32)


@contextmanager
def per_frame_context(unet: Any, context: torch.Tensor) -> Iterator[None]:
    """Give every block the embedding of each frame; the stock UNet repeats one embedding for all frames.

    Args:
        context: [T, C].
    """

    def swap(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "encoder_hidden_states" in kwargs:
            kwargs["encoder_hidden_states"] = context[:, None]
        return args, kwargs

    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    hooks = [block.register_forward_pre_hook(swap, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def computing(network: Any, device: torch.device, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Have the weights of a network on the device while it computes, and where they were afterwards.

    They are only copied when they lie elsewhere or have another dtype; nothing is copied back.
    """
    weights = [*network.parameters(), *network.buffers()]
    kept = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to(device, dtype if weight.is_floating_point() else None, non_blocking=True)
        yield
    finally:
        for weight, data in zip(weights, kept, strict=True):
            weight.data = data
