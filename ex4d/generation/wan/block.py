# SPDX-License-Identifier: Apache-2.0
"""One transformer block of Wan2.1 in three pure functions, between which its attentions run.

The weights are diffsynth's `DiTBlock`'s own tensors. Tokens travel in fp32 from block to block (the residual stream);
matrices multiply in the weights' dtype; norms, gates and rotations are fp32.
"""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import gelu, layer_norm

from ex4d.generation.wan.fp8 import Linear, linear_of, prepared, project
from ex4d.generation.wan.rope import rotated

EPS = 1e-6  # of all norms: Wan2.1-I2V-14B's configuration


class Cross(NamedTuple):
    """Linears of the cross-attention that see the conditions, and the norms of their keys."""

    k: Linear
    v: Linear
    k_image: Linear
    v_image: Linear
    norm_k: torch.Tensor  # [dim]
    norm_k_image: torch.Tensor  # [dim]


class BlockWeights(NamedTuple):
    """A block's tensors: the parameters of a `DiTBlock`, not copied. `torch.utils._pytree.tree_map` moves them all."""

    modulation: torch.Tensor  # [1, 6, dim]
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    norm_q: torch.Tensor  # [dim]
    norm_k: torch.Tensor  # [dim]
    norm_cross: torch.Tensor  # [dim], weight of the norm before the cross-attention
    norm_cross_bias: torch.Tensor  # [dim]
    cross_q: Linear
    cross_o: Linear
    cross_norm_q: torch.Tensor  # [dim]
    up: Linear
    down: Linear
    cross: Cross


class CrossKeys(NamedTuple):
    """What the conditions look like to one block. The same in every step."""

    k: torch.Tensor  # [1, 512, heads, head_dim]
    v: torch.Tensor
    k_image: torch.Tensor  # [1, 257, heads, head_dim]
    v_image: torch.Tensor


def block_weights(block: Any) -> BlockWeights:
    """The tensors of a diffsynth `DiTBlock` with image input."""
    own, cross = block.self_attn, block.cross_attn
    return BlockWeights(
        modulation=block.modulation,
        q=linear_of(own.q),
        k=linear_of(own.k),
        v=linear_of(own.v),
        o=linear_of(own.o),
        norm_q=own.norm_q.weight,
        norm_k=own.norm_k.weight,
        norm_cross=block.norm3.weight,
        norm_cross_bias=block.norm3.bias,
        cross_q=linear_of(cross.q),
        cross_o=linear_of(cross.o),
        cross_norm_q=cross.norm_q.weight,
        up=linear_of(block.ffn[0]),
        down=linear_of(block.ffn[2]),
        cross=Cross(
            linear_of(cross.k),
            linear_of(cross.v),
            linear_of(cross.k_img),
            linear_of(cross.v_img),
            cross.norm_k.weight,
            cross.norm_k_img.weight,
        ),
    )


def cross_keys(text: torch.Tensor, image: torch.Tensor, cross: Cross, heads: int) -> CrossKeys:
    """Keys and values of the conditions. Once per job, so 8-bit weights meet inputs that were not rounded.

    Args:
        text: [1, 512, dim], after the text embedding.
        image: [1, 257, dim], after the image embedding.
        cross: of the block.
        heads: of its attentions.
    """

    def of(tokens: torch.Tensor, linear: Linear, norm: torch.Tensor | None) -> torch.Tensor:
        weight = linear.weight if linear.scale is None else (linear.weight.float() * linear.scale).to(tokens.dtype)
        projected = torch.nn.functional.linear(tokens, weight, linear.bias)
        if norm is not None:
            projected = _rms_norm(projected, norm).to(tokens.dtype)
        return projected.unflatten(-1, (heads, -1))

    return CrossKeys(
        of(text, cross.k, cross.norm_k),
        of(text, cross.v, None),
        of(image, cross.k_image, cross.norm_k_image),
        of(image, cross.v_image, None),
    )


def self_attention_inputs(
    x: torch.Tensor, time: torch.Tensor, weights: BlockWeights, cosine: torch.Tensor, sine: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """From the residual stream to what the self-attention takes.

    Args:
        x: fp32 [1, tokens, dim].
        time: the timestep's modulation. fp32 [1, 6, dim]
        weights: of the block.
        cosine, sine: of `rope_table`, for these tokens.

    Returns:
        q, k, v: [1, tokens, heads, head_dim]
    """
    shift, scale = _modulation(time, weights)[:2]
    tokens = prepared(_norm(x) * (1 + scale) + shift, weights.q)
    head_dim = 2 * cosine.shape[-1]

    def turned(linear: Linear, norm: torch.Tensor) -> torch.Tensor:
        projected = project(tokens, linear)
        heads = _rms_norm(projected, norm).unflatten(-1, (-1, head_dim))
        return rotated(heads, cosine, sine).to(projected.dtype)

    v = project(tokens, weights.v).unflatten(-1, (-1, head_dim))
    return turned(weights.q, weights.norm_q), turned(weights.k, weights.norm_k), v


def cross_attention_inputs(
    x: torch.Tensor, attended: torch.Tensor, time: torch.Tensor, weights: BlockWeights
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the self-attention's answer in and ask the conditions.

    Args:
        x: fp32 [1, tokens, dim].
        attended: [1, tokens, heads, head_dim].
        time: fp32 [1, 6, dim].
        weights: of the block.

    Returns:
        x: fp32 [1, tokens, dim]
        q: [1, tokens, heads, head_dim]
    """
    gate = _modulation(time, weights)[2]
    head_dim = attended.shape[-1]
    x = x + gate * project(prepared(attended.flatten(-2), weights.o), weights.o)
    asked = _norm(x) * weights.norm_cross.float() + weights.norm_cross_bias.float()
    projected = project(prepared(asked, weights.cross_q), weights.cross_q)
    q = _rms_norm(projected, weights.cross_norm_q).to(projected.dtype)
    return x, q.unflatten(-1, (-1, head_dim))


def block_output(
    x: torch.Tensor, text: torch.Tensor, image: torch.Tensor, time: torch.Tensor, weights: BlockWeights
) -> torch.Tensor:
    """Take the conditions' answers in and think about them.

    Args:
        x: fp32 [1, tokens, dim].
        text, image: answers of the two cross-attentions. [1, tokens, heads, head_dim]
        time: fp32 [1, 6, dim].
        weights: of the block.

    Returns:
        fp32 [1, tokens, dim]
    """
    shift, scale, gate = _modulation(time, weights)[3:]
    answer = (text.float() + image.float()).flatten(-2)
    x = x + project(prepared(answer, weights.cross_o), weights.cross_o)
    inner = project(prepared(_norm(x) * (1 + scale) + shift, weights.up), weights.up)
    inner = gelu(inner.float(), approximate="tanh")
    return x + gate * project(prepared(inner, weights.down), weights.down)


def _modulation(time: torch.Tensor, weights: BlockWeights) -> tuple[torch.Tensor, ...]:
    parts: tuple[torch.Tensor, ...] = (weights.modulation.float() + time).chunk(6, dim=1)
    return parts


def _norm(x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], eps=EPS)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPS) * weight.float()
