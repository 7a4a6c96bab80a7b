# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Triton kernel of `fast_vae`: what lies between two convolutions. Imported only where there is a CUDA device."""

import triton
import triton.language as tl


@triton.jit
def normed(
    x, bias, residual, gamma, total, out, positions, out_first, out_positions, channels,
    tile: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """total = x + bias + residual; out = silu(total / |total| * gamma).

    x, residual and total lie as [batch, positions, channels]; out as [batch, out_positions, channels], of which the
    positions from out_first on are written.
    """
    sample = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * tile + tl.arange(0, tile)
    c = tl.arange(0, padded)
    mask = (row[:, None] < positions) & (c[None, :] < channels)
    at = (sample * positions + row[:, None]) * channels + c[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + c, mask=c < channels, other=0).to(tl.float32)[None, :]
    if residual is not None:
        value += tl.load(residual + at, mask=mask, other=0).to(tl.float32)
    if total is not None:
        tl.store(total + at, value.to(total.dtype.element_ty), mask=mask)
    if out is not None:
        length = tl.sqrt(tl.sum(value * value, axis=1))
        value = value / tl.maximum(length, 1e-12)[:, None]
        value *= tl.load(gamma + c, mask=c < channels, other=0).to(tl.float32)[None, :]
        value *= tl.sigmoid(value)
        to = (sample * out_positions + out_first + row[:, None]) * channels + c[None, :]
        tl.store(out + to, value.to(out.dtype.element_ty), mask=mask)
