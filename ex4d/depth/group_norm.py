# SPDX-License-Identifier: Apache-2.0
"""Group normalisation followed by SiLU, in two passes over channels-last memory.

Video diffusion layers spend much of their time between convolutions: torch's own group normalisation turns
channels-last tensors around and back, and the activation is a pass of its own. On CUDA a Triton kernel reads the
tensor once for its statistics and once to apply them. Everywhere else torch's operators do the same.
"""

import functools
import importlib.util
from typing import Any

import torch

ROWS_PER_PROGRAM = 128  # of the statistics: enough programs to fill a GPU, few enough partial sums


def group_norm(x: torch.Tensor, norm: Any, silu: bool, added: torch.Tensor | None = None) -> torch.Tensor:
    """Normalise groups of channels of each sample, over all positions.

    Args:
        x: [N, C, *positions].
        norm: the `torch.nn.GroupNorm` whose groups, eps and weights are used.
        silu: whether SiLU follows.
        added: per-channel offset of x before it is normalised, such as a time embedding. [N or 1, C]

    Returns:
        [N, C, *positions], in x's dtype and memory order
    """
    if x.is_cuda and x.movedim(1, -1).is_contiguous() and _has_triton():
        return group_norm_fused(x, norm, silu, added)
    if added is not None:
        x = x + added[(...,) + (None,) * (x.dim() - 2)]
    x = torch.nn.functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return torch.nn.functional.silu(x) if silu else x


def group_norm_fused(x: torch.Tensor, norm: Any, silu: bool, added: torch.Tensor | None) -> torch.Tensor:
    """`group_norm` with the Triton kernels; x lies channels-last."""
    import triton

    from ex4d.depth.group_norm_kernels import apply, statistics

    rows = x.movedim(1, -1)
    count, channels = rows.shape[0], rows.shape[-1]
    positions = rows[0].numel() // channels
    blocks = triton.cdiv(positions, ROWS_PER_PROGRAM)
    padded = triton.next_power_of_2(channels)
    tile = max(1, 4096 // padded)  # rows in registers at a time

    mean = torch.empty((count, blocks, channels), dtype=torch.float32, device=x.device)
    spread = torch.empty_like(mean)
    statistics[(blocks, count)](
        rows, mean, spread, positions, channels, rows=ROWS_PER_PROGRAM, tile=tile, padded=padded, num_warps=4
    )
    scale, shift = _scale_and_shift(mean, spread, positions, norm, added)

    out = torch.empty_like(x)
    apply[(triton.cdiv(positions, 4 * tile), count)](
        rows, out.movedim(1, -1), scale, shift, positions, channels,
        steps=4, tile=tile, padded=padded, silu=silu, num_warps=4,
    )  # fmt: skip
    return out


def _scale_and_shift(
    mean: torch.Tensor, spread: torch.Tensor, positions: int, norm: Any, added: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the blocks' statistics into y = x * scale + shift.

    Args:
        mean: of each block and channel. [N, blocks, C]
        spread: sum of squared deviations from it, likewise.
        positions: rows in all blocks together.
        norm, added: as `group_norm` has them.

    Returns:
        float32 [N, C] each
    """
    count, blocks, channels = mean.shape
    rows = torch.full((blocks, 1), float(ROWS_PER_PROGRAM), device=mean.device)
    rows[-1] = positions - (blocks - 1) * ROWS_PER_PROGRAM
    channel_mean = (mean * rows).sum(dim=1) / positions
    channel_spread = (spread + rows * (mean - channel_mean[:, None]) ** 2).sum(dim=1)
    offset = torch.zeros_like(channel_mean) if added is None else added.float().expand(count, -1)

    shape = (count, norm.num_groups, channels // norm.num_groups)
    grouped = (channel_mean + offset).view(shape)
    group_mean = grouped.mean(dim=2, keepdim=True)
    variance = channel_spread.view(shape).mean(dim=2, keepdim=True) / positions
    variance = variance + ((grouped - group_mean) ** 2).mean(dim=2, keepdim=True)
    inverse = torch.rsqrt(variance + norm.eps)
    scale = inverse * norm.weight.float().view(1, *shape[1:])
    shift = norm.bias.float().view(1, *shape[1:]) - group_mean * scale
    scale, shift = scale.reshape(count, channels), shift.reshape(count, channels)
    return scale.contiguous(), (shift + offset * scale).contiguous()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
