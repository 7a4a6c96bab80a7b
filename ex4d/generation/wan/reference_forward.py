# SPDX-License-Identifier: Apache-2.0
"""The DiT with the EX-4D release's own arithmetic, for comparisons.

The release runs bfloat16 weights under autocast, with islands of float32. Here every rounding is written out, so that
it is the same on every device: matrix products and attention compute in the weights' dtype; the timestep, modulations,
gates, the head and the residual stream are float32. With float32 weights nothing is rounded at all.

The networks' modules are called as they are, so that a LoRA beside a linear (hot) counts; attention is PyTorch's,
never what else happens to be installed.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffsynth.models.wan_video_dit import rope_apply
from torch import Tensor
from torch.nn import functional

from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Branch
from ex4d.generation.wan.rope import rotation_table
from ex4d.generation.wan.schedule import sinusoid

IMAGE_TOKENS = 257  # CLIP's, in front of the words in the cross attention's context

Rotate = Callable[[Tensor, Tensor, int], Tensor]
"""(queries or keys [1, n, C], rotations of `rotation_table`, heads) -> [1, n, C]"""


class ReferenceForward:
    """A `Velocity` that computes everything anew in every call, as the release does."""

    def __init__(self, dit: Any, conditions: Conditions, run_block: Callable[..., Tensor] | None = None) -> None:
        """Bind the network.

        Args:
            dit: see there.
            conditions: told in every call.
            run_block: called in place of `block_output`; training has its own.
        """
        self.dit = dit
        self.conditions = conditions
        self.run_block = block_output if run_block is None else run_block
        self.dtype: torch.dtype = conditions.y.dtype

    def __call__(self, latents: Tensor, timestep: Tensor, branch: Branch) -> Tensor:
        """See `Velocity`."""
        dit, dtype, told = self.dit, self.dtype, self.conditions
        tokens = dit.patch_embedding(torch.cat([latents, told.y], dim=1).to(dtype)) + told.ray
        grid = tokens.shape[2:]
        tokens = tokens.flatten(2).transpose(1, 2)

        time = _in_float32(dit.time_embedding, sinusoid(timestep, dit.freq_dim))
        modulation = _in_float32(dit.time_projection, time).unflatten(1, (6, dit.dim))

        words = dit.text_embedding(told.context[branch].to(dtype))
        picture = _image_embedding(dit.img_emb.proj, told.clip, dtype)
        rotations = rotation_table(dit.freqs, grid).to(tokens.device)
        for block in dit.blocks:
            tokens = self.run_block(block, tokens, modulation, words, picture, rotations, dtype)
        return dit.unpatchify(_head(dit.head, tokens, time), grid)


def block_output(
    block: Any,
    tokens: Tensor,
    modulation: Tensor,
    words: Tensor,
    picture: Tensor,
    rotations: Tensor,
    dtype: torch.dtype,
    rotate: Rotate = rope_apply,
) -> Tensor:
    """One of the 40 blocks. Tokens are float32 from its self-attention on. [1, n, C]"""
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (block.modulation.float() + modulation).chunk(6, dim=1)
    seen = _norm(block.norm1, tokens) * (1 + scale) + shift
    tokens = tokens + _self_attention(block.self_attn, seen.to(dtype), rotations, rotate) * gate
    tokens = tokens + _cross_attention(block.cross_attn, _norm(block.norm3, tokens).to(dtype), words, picture)
    seen = _norm(block.norm2, tokens) * (1 + ffn_scale) + ffn_shift
    return tokens + block.ffn(seen.to(dtype)) * ffn_gate


def _self_attention(layer: Any, tokens: Tensor, rotations: Tensor, rotate: Rotate) -> Tensor:
    queries = rotate(layer.norm_q(layer.q(tokens)), rotations, layer.num_heads)
    keys = rotate(layer.norm_k(layer.k(tokens)), rotations, layer.num_heads)
    return layer.o(_attention(queries, keys, layer.v(tokens), layer.num_heads))


def _cross_attention(layer: Any, tokens: Tensor, words: Tensor, picture: Tensor) -> Tensor:
    """Words and picture are attended apart, with the same queries."""
    queries = layer.norm_q(layer.q(tokens))
    heard = _attention(queries, layer.norm_k(layer.k(words)), layer.v(words), layer.num_heads)
    seen = _attention(queries, layer.norm_k_img(layer.k_img(picture)), layer.v_img(picture), layer.num_heads)
    return layer.o(heard + seen)


def _attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """[1, n, C], [1, m, C], [1, m, C] -> [1, n, C]"""
    split = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def _image_embedding(layers: Any, clip: Tensor, dtype: torch.dtype) -> Tensor:
    """CLIP's tokens in the DiT's width; its two norms compute in float32. [1, 257, 1280] -> [1, 257, C]"""
    first, widen, gelu, narrow, last = layers
    hidden = narrow(gelu(widen(_layer_norm(first, clip.float()).to(dtype))))
    return _layer_norm(last, hidden.float()).to(dtype)


def _head(head: Any, tokens: Tensor, time: Tensor) -> Tensor:
    shift, scale = (head.modulation.float() + time.unsqueeze(1)).chunk(2, dim=1)
    return _in_float32(head.head, _norm(head.norm, tokens) * (1 + scale) + shift)


def _norm(norm: Any, tokens: Tensor) -> Tensor:
    """A layer norm computed in float32 and rounded to what it was given: only in block 0 is that not float32."""
    return _layer_norm(norm, tokens.float()).to(tokens.dtype).float()


def _layer_norm(norm: Any, x: Tensor) -> Tensor:
    weight, bias = (None if value is None else value.float() for value in (norm.weight, norm.bias))
    return functional.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _in_float32(layers: Any, x: Tensor) -> Tensor:
    """Linears and activations on float32, with the values that their weights have."""
    for layer in layers if isinstance(layers, torch.nn.Sequential) else [layers]:
        if isinstance(layer, torch.nn.Linear):
            x = functional.linear(x, layer.weight.float(), layer.bias.float())
        else:
            x = layer(x)
    return x
