# SPDX-License-Identifier: Apache-2.0
"""Stopping where a network's answer is no longer made of numbers."""

import torch
from torch import Tensor

from ex4d.errors import Ex4dError


class NonFiniteError(Ex4dError):
    """The latents are no longer numbers."""

    code = "not_finite"


def need_finite(x: Tensor, stage: str) -> Tensor:
    """Give back what is finite.

    Args:
        x: of any shape.
        stage: where it came about, as the artist reads it in the progress.

    Raises:
        NonFiniteError: it is not.
    """
    if not torch.isfinite(x).all():
        raise NonFiniteError(
            f"{stage} broke down: the picture is no longer made of finite numbers. Try quality 'lossless' or another "
            "seed; if it comes again, check the weights with 'ex4d models verify'."
        )
    return x


def pictures_of(decoded: Tensor, stage: str) -> Tensor:
    """-1..1 to levels, truncated to bytes as the release does. uint8

    Raises:
        NonFiniteError: the VAE's answer is not finite.
    """
    return ((need_finite(decoded, stage).clamp(-1, 1).float() + 1) * 127.5).byte()
