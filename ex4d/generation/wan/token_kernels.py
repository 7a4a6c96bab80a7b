# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""The Triton kernels of `token_operators`: one program per token, which is read once and written once.

Imported only where there is a CUDA device.
"""

import triton
import triton.language as tl


@triton.jit
def store_row(value, out, out_scale, row, columns, c, inside, largest: tl.constexpr, smallest: tl.constexpr):
    """One row in the dtype of out; in 8 bits, with its scale, where out_scale is given."""
    if out_scale is not None:
        scale = tl.maximum(tl.max(tl.abs(value)) / largest, smallest)
        tl.store(out_scale + row, scale)
        value = tl.minimum(tl.maximum(value * (1 / scale), -largest), largest)
    tl.store(out + row * columns + c, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def added_norm(
    x, branch, gate, scale, shift, out, out_scale, columns, eps, one,
    has_norm: tl.constexpr, padded: tl.constexpr, largest: tl.constexpr, smallest: tl.constexpr,
):  # fmt: skip
    """x += gate * branch, then out = norm(x) * (one + scale) + shift."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, padded)
    inside = c < columns
    value = tl.load(x + row * columns + c, mask=inside, other=0)
    if branch is not None:
        addend = tl.load(branch + row * columns + c, mask=inside, other=0).to(tl.float32)
        if gate is not None:
            addend *= tl.load(gate + c, mask=inside, other=0).to(tl.float32)
        value += addend
        tl.store(x + row * columns + c, value, mask=inside)
    if has_norm:
        mean = tl.sum(value) / columns
        value = tl.where(inside, value - mean, 0.0)
        value *= tl.rsqrt(tl.sum(value * value) / columns + eps)
        value *= one + tl.load(scale + c, mask=inside, other=0).to(tl.float32)
        value += tl.load(shift + c, mask=inside, other=0).to(tl.float32)
        store_row(value, out, out_scale, row, columns, c, inside, largest, smallest)


@triton.jit
def rms_norm(
    x, weight, cosine, sine, columns, eps, half_head: tl.constexpr, padded: tl.constexpr, rotate: tl.constexpr
):
    """x = norm(x) * weight, then each pair of neighbours rotated; in place."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, padded)
    inside = c < columns
    value = tl.load(x + row * columns + c, mask=inside, other=0).to(tl.float32)
    value *= tl.rsqrt(tl.sum(value * value) / columns + eps)
    value *= tl.load(weight + c, mask=inside, other=0).to(tl.float32)
    if rotate:
        even, odd = tl.split(tl.reshape(value, (padded // 2, 2)))
        angle = row * half_head + tl.arange(0, padded // 2) % half_head
        cos, sin = tl.load(cosine + angle), tl.load(sine + angle)
        value = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (padded,))
    tl.store(x + row * columns + c, value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def gelu(x, out, out_scale, columns, padded: tl.constexpr, largest: tl.constexpr, smallest: tl.constexpr):
    """The tanh form: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, padded)
    inside = c < columns
    value = tl.load(x + row * columns + c, mask=inside, other=0).to(tl.float32)
    value *= tl.sigmoid(1.5957691216057308 * (value + 0.044715 * value * value * value))
    store_row(value, out, out_scale, row, columns, c, inside, largest, smallest)


@triton.jit
def total(x, other, out, out_scale, columns, padded: tl.constexpr, largest: tl.constexpr, smallest: tl.constexpr):
    """x + other, or x alone."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, padded)
    inside = c < columns
    value = tl.load(x + row * columns + c, mask=inside, other=0).to(tl.float32)
    if other is not None:
        value += tl.load(other + row * columns + c, mask=inside, other=0).to(tl.float32)
    store_row(value, out, out_scale, row, columns, c, inside, largest, smallest)
