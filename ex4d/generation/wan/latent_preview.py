# SPDX-License-Identifier: Apache-2.0
"""A small picture of what the model is about to paint, straight from its latents: one multiplication, no decoder."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# How each of the 16 normalised latent channels of Wan2.1's VAE shows in red, green and blue, and what is added: a
# linear fit published as Wan21 in ComfyUI's latent_formats.py and used alike by other programs. RGB runs from -1 to 1.
CHANNEL_RGB = np.array(
    [
        [-0.1299, -0.1692, 0.2932],
        [0.0671, 0.0406, 0.0442],
        [0.3568, 0.2548, 0.1747],
        [0.0372, 0.2344, 0.1420],
        [0.0313, 0.0189, -0.0328],
        [0.0296, -0.0956, -0.0665],
        [-0.3477, -0.4059, -0.2925],
        [0.0166, 0.1902, 0.1975],
        [-0.0412, 0.0267, -0.1364],
        [-0.1293, 0.0740, 0.1636],
        [0.0680, 0.3019, 0.1128],
        [0.0032, 0.0581, 0.0639],
        [-0.1251, 0.0927, 0.1699],
        [0.0060, -0.0633, 0.0005],
        [0.3477, 0.2275, 0.2950],
        [0.1984, 0.0913, 0.1861],
    ],
    np.float32,
)
OFFSET_RGB = np.array([-0.1835, -0.0868, -0.3360], np.float32)


def latent_picture(latents: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Show one latent frame.

    Args:
        latents: an estimate of the clean picture, normalised as the model has it. [16, h, w]

    Returns:
        RGB, one pixel for each 8 x 8 of the picture. [h, w, 3]
    """
    rgb = np.moveaxis(latents, 0, -1).astype(np.float32) @ CHANNEL_RGB + OFFSET_RGB
    return np.asarray(np.clip((rgb + 1) * 127.5, 0, 255), np.uint8)


def moment(report: int, frames: int) -> int:
    """Which latent frame to show in the given report, so that the previews play the take back and forth.

    Args:
        report: how many previews there were before.
        frames: how many latent frames there are.
    """
    period = max(1, 2 * (frames - 1))
    place = report % period
    return min(place, period - place) if frames > 1 else 0
