# SPDX-License-Identifier: Apache-2.0
"""What lies between the matrix products of a block, in as few passes over memory as there can be.

On CUDA, Triton kernels read each token once and write it once, in 8 bits where that is what the next linear takes:
torch.compile needs 1.5 times as long for them (docs/benchmarks.md), and seconds for each new size. Everywhere else
torch's operators do the same. All arithmetic is fp32.
"""

import functools
import importlib.util
from typing import Any

import torch
from torch.nn.functional import layer_norm

from ex4d.generation.wan.fp8 import E4M3_LARGEST, SMALLEST_SCALE, Linear, Prepared, Rows, prepared
from ex4d.generation.wan.rope import rotated

EPS = 1e-6  # of all norms: Wan2.1-I2V-14B's configuration
ELEMENTS_PER_WARP = 1024  # of a row held in registers: 32 in each thread


def added_norm(
    x: torch.Tensor,
    branch: torch.Tensor | None,
    gate: torch.Tensor | None,
    scale: torch.Tensor,
    shift: torch.Tensor,
    linear: Linear,
    *,
    one: bool = True,
) -> tuple[torch.Tensor, Prepared]:
    """Add a branch to the residual stream and normalise the sum for the next one.

    Args:
        x: the residual stream, overwritten. fp32 [1, tokens, dim]
        branch: [1, tokens, dim]
        gate: of the branch; 1 without it. [dim]
        scale, shift: of the normalised tokens. [dim]
        linear: which takes them.
        one: the scale counts from 1.

    Returns:
        x with the branch, and what the linear takes
    """
    if _fused(x):
        out, pointers = _output(x, linear)
        _launch("added_norm", x, x, branch, gate, scale, shift, *pointers, x.shape[-1], EPS, int(one), has_norm=True)
        return x, out
    x = added(x, branch, gate) if branch is not None else x
    normal = layer_norm(x, x.shape[-1:], eps=EPS)
    return x, prepared(normal * (int(one) + scale.float()) + shift.float(), linear)


def added(x: torch.Tensor, branch: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
    """The residual stream, overwritten, with gate * branch. fp32 [1, tokens, dim]"""
    if _fused(x):
        _launch("added_norm", x, x, branch, gate, x, x, x, None, x.shape[-1], EPS, 1, has_norm=False)
        return x
    return x + (branch if gate is None else gate.float() * branch)


def normed_heads(
    x: torch.Tensor,
    weight: torch.Tensor,
    head_dim: int,
    cosine: torch.Tensor | None = None,
    sine: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise queries or keys over all heads, and rotate them where a table is given.

    Args:
        x: overwritten. [1, tokens, dim]
        weight: of the norm. [dim]
        head_dim: of the heads.
        cosine, sine: of `rope_table`, for these tokens.

    Returns:
        In x's dtype. [1, tokens, heads, head_dim]
    """
    if _fused(x):
        rotate = cosine is not None
        _launch("rms_norm", x, x, weight, cosine, sine, x.shape[-1], EPS, half_head=head_dim // 2, rotate=rotate)
        return x.unflatten(-1, (-1, head_dim))
    normal = x.float() * torch.rsqrt(x.float().square().mean(dim=-1, keepdim=True) + EPS) * weight.float()
    heads = normal.unflatten(-1, (-1, head_dim))
    if cosine is not None and sine is not None:
        heads = rotated(heads, cosine, sine)
    return heads.to(x.dtype)


def gelu(x: torch.Tensor, linear: Linear) -> Prepared:
    """The tanh form of GELU, as the linear takes it. x: [1, tokens, channels]"""
    if _fused(x):
        out, pointers = _output(x, linear)
        _launch("gelu", x, x, *pointers, x.shape[-1])
        return out
    return prepared(torch.nn.functional.gelu(x.float(), approximate="tanh"), linear)


def total(x: torch.Tensor, other: torch.Tensor | None, linear: Linear) -> Prepared:
    """Answers of attentions, summed, as the linear takes them.

    Args:
        x, other: [1, tokens, heads, head_dim]
    """
    x = x.flatten(-2)
    other = other.flatten(-2) if other is not None else None
    if _fused(x) and (other is not None or linear.scale is not None):
        out, pointers = _output(x, linear)
        _launch("total", x, x, other, *pointers, x.shape[-1])
        return out
    return prepared(x if other is None else x.float() + other.float(), linear)


def _output(x: torch.Tensor, linear: Linear) -> tuple[Prepared, tuple[torch.Tensor, torch.Tensor | None]]:
    """Room for what the linear takes."""
    if linear.scale is None:
        out = torch.empty(x.shape, dtype=linear.weight.dtype, device=x.device)
        return out, (out, None)
    rows = Rows(
        torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device),
        torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device),
    )
    return rows, (rows.values, rows.scale)


def _launch(kernel: str, x: torch.Tensor, *arguments: Any, **constants: Any) -> None:
    import triton

    from ex4d.generation.wan import token_kernels

    columns = x.shape[-1]
    padded = triton.next_power_of_2(columns)
    if kernel != "rms_norm":
        constants |= {"largest": E4M3_LARGEST, "smallest": SMALLEST_SCALE}
    warps = min(max(padded // ELEMENTS_PER_WARP, 1), 16)
    for tensor in arguments:
        assert not isinstance(tensor, torch.Tensor) or tensor.is_contiguous()
    with torch.cuda.device(x.device) if x.is_cuda else torch.no_grad():
        getattr(token_kernels, kernel)[(x.numel() // columns,)](*arguments, padded=padded, **constants, num_warps=warps)


def _fused(x: torch.Tensor) -> bool:
    return x.is_cuda and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
