# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Triton kernels of `video_operators`: x lies as [N, positions, C]. Imported only where there is a CUDA device."""

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
    total = tl.zeros((tile, padded), tl.float32)
    square = tl.zeros((tile, padded), tl.float32)
    for start in range(0, rows, tile):
        row = first + start + tl.arange(0, tile)
        mask = (row[:, None] < positions) & inside[None, :]
        value = tl.load(base + row[:, None].to(tl.int64) * channels + c[None, :], mask=mask, other=0)
        difference = tl.where(mask, value.to(tl.float32) - pivot[None, :], 0.0)
        total += difference
        square += difference * difference
    sums, squares = tl.sum(total, axis=0), tl.sum(square, axis=0)
    n = tl.minimum(positions - first, rows).to(tl.float32)
    to = (sample * tl.num_programs(0) + block).to(tl.int64) * channels + c
    tl.store(mean + to, pivot + sums / n, mask=inside)
    tl.store(spread + to, squares - sums * sums / n, mask=inside)


@triton.jit
def merge(
    mean, spread, weight, bias, added, scale, shift, blocks, positions, channels, added_stride, eps,
    rows: tl.constexpr, width: tl.constexpr, tile: tl.constexpr, padded: tl.constexpr, has_added: tl.constexpr,
):  # fmt: skip
    """The statistics of all blocks as y = x * scale + shift, for one sample and group of `width` channels."""
    group, sample = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, padded)
    c = group * width + lane
    inside = lane < width
    offset = tl.zeros((padded,), tl.float32)
    if has_added:
        offset = tl.load(added + sample * added_stride + c, mask=inside, other=0).to(tl.float32)
    base = sample.to(tl.int64) * blocks * channels

    total = tl.zeros((tile, padded), tl.float32)
    for start in range(0, blocks, tile):
        block = start + tl.arange(0, tile)
        mask = (block[:, None] < blocks) & inside[None, :]
        n = tl.minimum(positions - block * rows, rows).to(tl.float32)
        value = tl.load(mean + base + block[:, None].to(tl.int64) * channels + c[None, :], mask=mask, other=0)
        total += tl.where(mask, (value + offset[None, :]) * n[:, None], 0.0)
    count = positions * 1.0 * width
    centre = tl.sum(total) / count

    total = tl.zeros((tile, padded), tl.float32)
    for start in range(0, blocks, tile):
        block = start + tl.arange(0, tile)
        mask = (block[:, None] < blocks) & inside[None, :]
        n = tl.minimum(positions - block * rows, rows).to(tl.float32)
        at = base + block[:, None].to(tl.int64) * channels + c[None, :]
        away = tl.load(mean + at, mask=mask, other=0) + offset[None, :] - centre
        total += tl.where(mask, tl.load(spread + at, mask=mask, other=0) + n[:, None] * away * away, 0.0)
    inverse = tl.rsqrt(tl.sum(total) / count + eps)

    factor = inverse * tl.load(weight + c, mask=inside, other=0).to(tl.float32)
    term = tl.load(bias + c, mask=inside, other=0).to(tl.float32) + (offset - centre) * factor
    tl.store(scale + sample * channels + c, factor, mask=inside)
    tl.store(shift + sample * channels + c, term, mask=inside)


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


@triton.jit
def add_branch(
    x, branch, bias, share, positions, channels, steps: tl.constexpr, tile: tl.constexpr, padded: tl.constexpr
):
    """x += share * (branch + bias), in place; x and branch as [positions, C]."""
    c = tl.arange(0, padded)
    inside = c < channels
    term = tl.load(bias + c, mask=inside, other=0).to(tl.float32)
    factor = tl.load(share).to(tl.float32)
    for step in range(steps):
        row = (tl.program_id(0) * steps + step) * tile + tl.arange(0, tile)
        mask = (row[:, None] < positions) & inside[None, :]
        at = row[:, None].to(tl.int64) * channels + c[None, :]
        value = tl.load(branch + at, mask=mask, other=0).to(tl.float32) + term[None, :]
        value = tl.load(x + at, mask=mask, other=0).to(tl.float32) + factor * value
        tl.store(x + at, value.to(x.dtype.element_ty), mask=mask)
