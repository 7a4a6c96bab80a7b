# SPDX-License-Identifier: Apache-2.0
"""Rotary positions with real numbers in single precision: what the networks' complex double precision gives to 4e-7.

A compiler fuses this; complex numbers it leaves alone.
"""

import torch


def rope_table(
    frequencies: tuple[torch.Tensor, ...], grid: tuple[int, int, int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every token's rotation.

    Args:
        frequencies: `WanModel.freqs`: rotations by frame, row and column index. complex, each [>= size, its pairs]
        grid: frames, rows and columns of tokens.
        device: where the table goes.

    Returns:
        cosine, sine: fp32 [frames * rows * columns, 1, head_dim / 2]
    """
    rotation = rotation_table(frequencies, grid)
    return rotation.real.float().to(device), rotation.imag.float().to(device)


def rotation_table(frequencies: tuple[torch.Tensor, ...], grid: tuple[int, int, int]) -> torch.Tensor:
    """Every token's rotation, as the network has it. complex128 [frames * rows * columns, 1, head_dim / 2]"""
    frames, rows, columns = grid
    parts = (
        frequencies[0][:frames].view(frames, 1, 1, -1).expand(*grid, -1),
        frequencies[1][:rows].view(1, rows, 1, -1).expand(*grid, -1),
        frequencies[2][:columns].view(1, 1, columns, -1).expand(*grid, -1),
    )
    return torch.cat(parts, dim=-1).reshape(frames * rows * columns, 1, -1)


def rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turn each pair of neighbouring channels.

    Args:
        x: fp32 [1, tokens, heads, head_dim].
        cosine, sine: of `rope_table`.

    Returns:
        fp32 [1, tokens, heads, head_dim]
    """
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)
