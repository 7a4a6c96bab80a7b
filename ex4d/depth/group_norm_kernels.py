# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Triton kernels of `group_norm`: x lies as [N, positions, C]. Imported only where there is a CUDA device."""

import triton
import triton.language as tl


@triton.jit
def statistics(x, mean, spread, positions, channels, rows: tl.constexpr, tile: tl.constexpr, padded: tl.constexpr):
    """Mean and sum of squared deviations of `rows` positions, per channel. [N, blocks, C]"""
    block, sample = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, padded)
    inside = c < channels
    first = block * rows
    base = x + sample.to(tl.int64) * positions * channels
    # Sums of differences to the block's first row: exact also where the mean is far from zero.
    pivot = tl.load(base + first.to(tl.int64) * channels + c, mask=inside, other=0).to(tl.float32)
    total = tl.zeros((padded,), tl.float32)
    square = tl.zeros((padded,), tl.float32)
    for start in range(0, rows, tile):
        row = first + start + tl.arange(0, tile)
        mask = (row[:, None] < positions) & inside[None, :]
        value = tl.load(base + row[:, None].to(tl.int64) * channels + c[None, :], mask=mask, other=0)
        difference = tl.where(mask, value.to(tl.float32) - pivot[None, :], 0.0)
        total += tl.sum(difference, axis=0)
        square += tl.sum(difference * difference, axis=0)
    n = tl.minimum(positions - first, rows).to(tl.float32)
    to = (sample * tl.num_programs(0) + block).to(tl.int64) * channels + c
    tl.store(mean + to, pivot + total / n, mask=inside)
    tl.store(spread + to, square - total * total / n, mask=inside)


@triton.jit
def apply(
    x, out, scale, shift, positions, channels,
    steps: tl.constexpr, tile: tl.constexpr, padded: tl.constexpr, silu: tl.constexpr,
):  # fmt: skip
    """x * scale + shift per channel, and SiLU of it."""
    block, sample = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, padded)
    inside = c < channels
    factor = tl.load(scale + sample * channels + c, mask=inside, other=0)
    term = tl.load(shift + sample * channels + c, mask=inside, other=0)
    base = sample.to(tl.int64) * positions * channels
    for step in range(steps):
        row = (block * steps + step) * tile + tl.arange(0, tile)
        mask = (row[:, None] < positions) & inside[None, :]
        at = base + row[:, None].to(tl.int64) * channels + c[None, :]
        value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
        value = value * factor[None, :] + term[None, :]
        if silu:
            value = value / (1 + tl.exp(-value))
        tl.store(out + at, value.to(out.dtype.element_ty), mask=mask)
