# SPDX-License-Identifier: Apache-2.0
"""One transformer block of Wan2.1 in three functions, between which its attentions run.

The weights are diffsynth's `DiTBlock`'s own tensors. Tokens travel in fp32 from block to block (the residual stream);
matrices multiply in the weights' dtype; norms, gates and rotations are fp32.
"""

from typing import Any, NamedTuple

import torch

from ex4d.generation.wan.fp8 import Linear, linear_of, project
from ex4d.generation.wan.token_operators import added, added_norm, gelu, normed_heads, total


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
            return normed_heads(projected, norm, projected.shape[-1] // heads)
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
        time: `modulation` of the block.
        weights: of the block.
        cosine, sine: of `rope_table`, for these tokens.

    Returns:
        q, k, v: [1, tokens, heads, head_dim]
    """
    head_dim = 2 * cosine.shape[-1]
    _, tokens = added_norm(x, None, None, time[1], time[0], weights.q)
    q = normed_heads(project(tokens, weights.q), weights.norm_q, head_dim, cosine, sine)
    k = normed_heads(project(tokens, weights.k), weights.norm_k, head_dim, cosine, sine)
    return q, k, project(tokens, weights.v).unflatten(-1, (-1, head_dim))


def cross_attention_inputs(
    x: torch.Tensor, attended: torch.Tensor, time: torch.Tensor, weights: BlockWeights
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the self-attention's answer in and ask the conditions.

    Args:
        x: overwritten. fp32 [1, tokens, dim]
        attended: [1, tokens, heads, head_dim].
        time: `modulation` of the block.
        weights: of the block.

    Returns:
        x: fp32 [1, tokens, dim]
        q: [1, tokens, heads, head_dim]
    """
    branch = project(total(attended, None, weights.o), weights.o)
    x, tokens = added_norm(x, branch, time[2], weights.norm_cross, weights.norm_cross_bias, weights.cross_q, one=False)
    return x, normed_heads(project(tokens, weights.cross_q), weights.cross_norm_q, attended.shape[-1])


def block_output(
    x: torch.Tensor, text: torch.Tensor, image: torch.Tensor, time: torch.Tensor, weights: BlockWeights
) -> torch.Tensor:
    """Take the conditions' answers in and think about them.

    Args:
        x: overwritten. fp32 [1, tokens, dim]
        text, image: answers of the two cross-attentions. [1, tokens, heads, head_dim]
        time: `modulation` of the block.
        weights: of the block.

    Returns:
        fp32 [1, tokens, dim]
    """
    branch = project(total(text, image, weights.cross_o), weights.cross_o)
    x, tokens = added_norm(x, branch, None, time[4], time[3], weights.up)
    return added(x, project(gelu(project(tokens, weights.up), weights.down), weights.down), time[5])


def modulation(time: torch.Tensor, weights: BlockWeights) -> torch.Tensor:
    """Shift, scale and gate of the self-attention, then of the feed-forward part. fp32 [6, dim]

    Args:
        time: the timestep's. fp32 [1, 6, dim]
        weights: of the block.
    """
    return (weights.modulation + time)[0]
