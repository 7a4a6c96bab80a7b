# SPDX-License-Identifier: Apache-2.0
"""What the network is told beside the noise: the plate as the new camera sees it, and words.

Colour and mask are scaled just as in the EX-4D release's generate.py, its oddities included, because the weights were
trained on them: a colour that goes through bfloat16, a mask that the VAE meets as -3 and 1, a first frame that is
truncated to bytes, a still clip that goes on in grey.
"""

import random
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ex4d.errors import InputError, ShapeError
from ex4d.generation.wan.camera_encoder import ray_latent
from ex4d.generation.wan.denoise import Branch
from ex4d.generation.wan.finite import need_finite
from ex4d.generation.wan.framing import SIDE_STEP
from ex4d.generation.wan.models import WanModels, computing
from ex4d.generation.wan.time_left import LOOKING
from ex4d.generation.wan.windows import MOST_FRAMES
from ex4d.progress import ProgressCallback, track

RANDOM_BLOCK = (2, 8)  # sides of the release's random erosion, both included


@dataclass(frozen=True)
class Conditions:
    """One job's conditions, in the dtype of the networks' weights and where they compute.

    f = 1 + (frames - 1) / 4, h and w = 1/8 of the picture.
    """

    ray: Tensor  # added to the tokens right after the patch embedding. [1, 5120, f, h / 2, w / 2]
    y: Tensor  # beside the noise: 4 channels of mask, 16 of the first frame's latents. [1, 20, f, h, w]
    clip: Tensor  # the first frame as CLIP sees it. [1, 257, 1280]
    context: dict[Branch, Tensor]  # the prompts that are asked, zeros after their last word. [1, 512, 4096]


@dataclass(frozen=True)
class Seen:
    """What the networks see of a plate, before EX-4D's camera encoder. In the dtype of their weights.

    f = 1 + (frames - 1) / 4, h and w = 1/8 of the picture.
    """

    color: Tensor  # latents of the masked colour. [1, 16, f, h, w]
    mask: Tensor  # latents of the mask. [1, 16, f, h, w]
    still: Tensor  # latents of the first frame, which goes on in grey. [1, 16, f, h, w]
    clip: Tensor  # the first frame as CLIP sees it. [1, 257, 1280]


class VideoVae(Protocol):
    """A way to run Wan2.1's video autoencoder, whose weights are where they compute."""

    def encode(self, clips: Tensor) -> Tensor:
        """-1..1 [batch, 3, 4 n + 1, h, w] to normalised latents [batch, 16, n + 1, h / 8, w / 8]"""

    def decode(self, latents: Tensor, progress: ProgressCallback | None = None) -> NDArray[np.uint8]:
        """Normalised latents, float32 [1, 16, n + 1, h, w], to RGB [4 n + 1, 8 h, 8 w, 3]"""


def conditions_of(
    models: WanModels,
    color: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    context: dict[Branch, Tensor],
    vae: VideoVae,
    progress: ProgressCallback | None = None,
) -> Conditions:
    """Encode what the new camera sees.

    Args:
        models: VAE, CLIP and camera encoder are used.
        color: the plate as the new camera sees it; what the mask leaves out is not looked at. [F, H, W, 3]
        mask: where it does, eroded. [F, H, W]
        context: the prompts' embeddings. [1, 512, 4096] each
        vae: how their VAE is run.
        progress: told when the encoders are done; it may cancel.
    """
    seen = seen_of(models, color, mask, vae, progress)
    with torch.no_grad(), models.autocast(), computing(models.camera_encoder, models.device):
        ray = ray_latent(models.camera_encoder, seen.color, seen.mask)
    words = {branch: words.to(models.device) for branch, words in context.items()}
    return Conditions(ray, beside_noise(seen.still), seen.clip, words)


def seen_of(
    models: WanModels,
    color: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    vae: VideoVae,
    progress: ProgressCallback | None = None,
) -> Seen:
    """Encode what the new camera sees, all but the camera encoder's part; see `conditions_of`."""
    seen = torch.from_numpy(mask).to(models.device)
    video = masked_video(torch.from_numpy(color).to(models.device), seen)
    twice_scaled = torch.where(seen, 1.0, -3.0).expand_as(video)
    first = first_frame(video)
    still = torch.zeros_like(video, dtype=torch.float32)
    still[:, 0] = first
    clips = torch.stack([clip.to(models.dtype) for clip in (video, twice_scaled, still)])
    del video, twice_scaled, still
    with torch.no_grad():
        for _ in track([clips], LOOKING, progress):
            with computing(models.vae, models.device):
                video_latents, mask_latents, still_latents = vae.encode(clips).split(1)
            with models.autocast(), computing(models.image_encoder, models.device):
                clip = models.image_encoder.encode_image([first[None]])
    for told in (video_latents, mask_latents, still_latents, clip):
        need_finite(told, LOOKING)
    return Seen(video_latents, mask_latents, still_latents, clip)


def beside_noise(still: Tensor) -> Tensor:
    """What stands beside the noise: the mask of known latent frames, and the first frame. [B, 20, f, h, w]

    Args:
        still: see `Seen`. [B, 16, f, h, w]
    """
    known = torch.zeros_like(still[:, :4])
    known[:, :, 0] = 1
    return torch.cat([known, still], dim=1)


def masked_video(color: Tensor, mask: Tensor) -> Tensor:
    """The plate as -1..1 in the release's bfloat16, -1 where the mask leaves it out.

    Args:
        color: uint8 [F, H, W, 3]
        mask: bool [F, H, W]

    Returns:
        bfloat16 [3, F, H, W]
    """
    unit = color.permute(3, 0, 1, 2).float() / 255
    return (unit * mask).to(torch.bfloat16) * 2 - 1


def first_frame(video: Tensor) -> Tensor:
    """The first frame as the release hands it on: truncated to bytes on the way, a grey level darker here and there.

    Args:
        video: bfloat16 [3, F, H, W]

    Returns:
        float32 -1..1 [3, H, W]
    """
    levels = ((video[:, 0].float() * 0.5 + 0.5) * 255).byte()
    return levels.float() * (2 / 255) - 1


def eroded(mask: NDArray[np.bool_], erosion_px: int | None, seed: int = 0) -> NDArray[np.bool_]:
    """Shrink a mask by a block, so that soft and torn edges of the plate are painted anew.

    Args:
        mask: where the plate shows. [F, H, W]
        erosion_px: side of the block, 0 for none; None for the release's: in each frame a random one from 2 to 8, here
            drawn by Python's `random.Random(seed).randint(2, 8)`, frame after frame.
        seed: of the random sides.

    Returns:
        The borders of the picture do not shrink. bool [F, H, W]
    """
    draw = random.Random(seed)  # noqa: S311 - a picture, no secret
    sides = [draw.randint(*RANDOM_BLOCK) if erosion_px is None else max(erosion_px, 1) for _ in mask]
    frames = [
        cv2.erode(frame.astype(np.uint8), np.ones((side, side), np.uint8))
        for frame, side in zip(mask, sides, strict=True)
    ]
    return np.stack(frames).astype(bool)


def check_pictures(color: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Refuse what the networks cannot take.

    Raises:
        ShapeError: wrong shape, dtype, count of frames or size.
    """
    if color.dtype != np.uint8 or color.ndim != 4 or color.shape[-1] != 3:
        raise ShapeError(f"color must be uint8 [F, H, W, 3], got {color.dtype} {list(color.shape)}.")
    if mask.dtype != np.bool_ or mask.shape != color.shape[:3]:
        raise ShapeError(f"mask must be bool {list(color.shape[:3])} as color is, got {mask.dtype} {list(mask.shape)}.")
    count, height, width = mask.shape
    if count % 4 != 1 or count > MOST_FRAMES:
        raise ShapeError(
            f"color must have 4 n + 1 frames, at most {MOST_FRAMES}, got {count}. Pad it or paint windows."
        )
    if height % SIDE_STEP or width % SIDE_STEP or not height or not width:
        raise ShapeError(f"color's height and width must be multiples of {SIDE_STEP}, got {height} and {width}.")


def check_seen(mask: NDArray[np.bool_]) -> None:
    """Refuse a clip in which there is nothing to go by.

    Args:
        mask: eroded. [F, H, W]

    Raises:
        InputError: nothing of the plate shows, in no frame or not in the first.
    """
    advice = "Move the camera so that it sees the plate, or make the mask's erosion smaller."
    if not mask.any():
        raise InputError(f"The camera sees nothing of the plate in any of its {len(mask)} frames. {advice}")
    if not mask[0].any():
        raise InputError(f"The camera sees nothing of the plate in the first frame, which all others follow. {advice}")
