# SPDX-License-Identifier: Apache-2.0
"""What lies between the convolutions of a video diffusion model, in as few passes over memory as there can be.

torch's own group normalisation turns channels-last tensors around and back; its activation, a convolution's bias and a
residual sum are passes of their own. On CUDA, Triton kernels read a tensor once for its statistics and once to apply
them, and add a branch with its bias and its share in one go. Everywhere else torch's operators do the same.
"""

import functools
import importlib.util
from typing import Any

import torch

ROWS_PER_PROGRAM = 128  # of the statistics: enough programs to fill a GPU, few enough partial sums
REGISTER_TILE = 4096  # numbers that a program of four warps works on at a time
MERGE_TILE = 1024


def group_norm(x: torch.Tensor, norm: Any, silu: bool, added: torch.Tensor | None = None) -> torch.Tensor:
    """Normalise groups of channels of each sample, over all positions.

    Args:
        x: [N, C, *positions].
        norm: the `torch.nn.GroupNorm` whose groups, eps and weights are used.
        silu: whether SiLU follows.
        added: per-channel offset of x before it is normalised, such as a bias or a time embedding. [N or 1, C]

    Returns:
        [N, C, *positions], in x's dtype; channels-last on CUDA
    """
    if x.is_cuda and _has_triton():
        return group_norm_fused(x, norm, silu, added)
    if added is not None:
        x = x + added[(...,) + (None,) * (x.dim() - 2)]
    x = torch.nn.functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return torch.nn.functional.silu(x) if silu else x


def group_norm_fused(x: torch.Tensor, norm: Any, silu: bool, added: torch.Tensor | None) -> torch.Tensor:
    """`group_norm` with the Triton kernels."""
    import triton

    from ex4d.depth import video_kernels as kernels

    rows = x.movedim(1, -1).contiguous()  # a view when x is channels-last
    count, channels = rows.shape[0], rows.shape[-1]
    positions = rows[0].numel() // channels
    blocks = triton.cdiv(positions, ROWS_PER_PROGRAM)
    padded = triton.next_power_of_2(channels)
    tile = min(ROWS_PER_PROGRAM, max(1, REGISTER_TILE // padded))

    mean = torch.empty((count, blocks, channels), dtype=torch.float32, device=x.device)
    spread = torch.empty_like(mean)
    kernels.statistics[(blocks, count)](
        rows, mean, spread, positions, channels, rows=ROWS_PER_PROGRAM, tile=tile, padded=padded, num_warps=4
    )
    scale = torch.empty((count, channels), dtype=torch.float32, device=x.device)
    shift = torch.empty_like(scale)
    width = channels // norm.num_groups
    kernels.merge[(norm.num_groups, count)](
        mean, spread, norm.weight, norm.bias, scale if added is None else added, scale, shift,
        blocks, positions, channels, 0 if added is None or len(added) == 1 else channels, norm.eps,
        rows=ROWS_PER_PROGRAM, width=width, tile=max(1, MERGE_TILE // triton.next_power_of_2(width)),
        padded=triton.next_power_of_2(width), has_added=added is not None, num_warps=4,
    )  # fmt: skip
    out = torch.empty_like(rows)
    kernels.apply[(triton.cdiv(positions, 4 * tile), count)](
        rows, out, scale, shift, positions, channels, steps=4, tile=tile, padded=padded, silu=silu, num_warps=4
    )
    return out.movedim(-1, 1)


def add_branch(x: torch.Tensor, branch: torch.Tensor, bias: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """x + share * (branch + bias), into x.

    Args:
        x, branch: [T, C, H, W].
        bias: of the convolution that made the branch. [C]
        share: [1]
    """
    if x.is_cuda and _has_triton() and x.movedim(1, -1).is_contiguous() and branch.movedim(1, -1).is_contiguous():
        return add_branch_fused(x, branch, bias, share)
    return x.addcmul_(branch + bias.view(-1, 1, 1), share.to(x.dtype))


def add_branch_fused(x: torch.Tensor, branch: torch.Tensor, bias: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """`add_branch` with the Triton kernel; x and branch lie channels-last."""
    import triton

    from ex4d.depth import video_kernels as kernels

    channels = x.shape[1]
    positions = x.numel() // channels
    padded = triton.next_power_of_2(channels)
    tile = max(1, REGISTER_TILE // padded)
    kernels.add_branch[(triton.cdiv(positions, 4 * tile),)](
        x, branch, bias, share, positions, channels, steps=4, tile=tile, padded=padded, num_warps=4
    )
    return x


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
