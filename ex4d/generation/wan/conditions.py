# SPDX-License-Identifier: Apache-2.0
"""What the network is told beside the noise: the plate as the new camera sees it, and words."""

from dataclasses import dataclass

from torch import Tensor

from ex4d.generation.wan.denoise import Branch


@dataclass(frozen=True)
class Conditions:
    """One job's conditions, in the dtype of the networks' weights and where they compute.

    f = 1 + (frames - 1) / 4, h and w = 1/8 of the picture.
    """

    ray: Tensor  # added to the tokens right after the patch embedding. [1, 5120, f, h / 2, w / 2]
    y: Tensor  # beside the noise: 4 channels of mask, 16 of the first frame's latents. [1, 20, f, h, w]
    clip: Tensor  # the first frame as CLIP sees it. [1, 257, 1280]
    context: dict[Branch, Tensor]  # the prompts, zeros after their last word. [1, 512, 4096]
