# SPDX-License-Identifier: Apache-2.0
"""The layers of Stable Video Diffusion, computed with fewer passes over memory; the weights and results are the same.

diffusers writes these layers for any use. For one clip at a time, without training, they can do less:
- activations stay channels-last, in which convolutions are fastest and a transformer's tokens are a plain view;
- normalisation and activation are one operator (`group_norm`);
- a temporal (3, 1, 1) convolution is a two-dimensional one over (frame, position), which needs no copy;
- cross attention to a single token is that token's value, whatever the query: its softmax is over one number;
- feed-forward layers run over a few frames at a time, because their hidden width is 8 times that of their input.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ex4d.depth.group_norm import group_norm

FEED_FORWARD_TOKENS = 1 << 17  # per slice: large enough to fill a GPU, 0.7 GB of hidden values at most


def use_fast_layers(model: Any, channels_last: bool) -> None:
    """Replace how the layers of a UNet or VAE of Stable Video Diffusion compute. In place; batch size 1 from then on.

    Args:
        model: `UNetSpatioTemporalConditionModel` or `AutoencoderKLTemporalDecoder`.
        channels_last: also lay the weights out so. Right for CUDA and for CPUs.
    """
    if channels_last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in model.parameters():
            if parameter.dim() in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    layers: dict[str, Callable[..., Any]] = {
        "ResnetBlock2D": residual_block,
        "SpatioTemporalResBlock": video_residual_block,
        "TransformerSpatioTemporalModel": video_transformer,
    }
    for module in model.modules():
        layer = layers.get(type(module).__name__)
        if layer is not None:
            module.forward = functools.partial(layer, module)
        if hasattr(module, "conv_norm_out"):  # norm, activation, convolution: the end of each network
            module.conv_norm_out.forward = functools.partial(group_norm, norm=module.conv_norm_out, silu=True)
            module.conv_act.forward = _unchanged


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


def residual_block(block: Any, x: torch.Tensor, temb: torch.Tensor | None = None) -> torch.Tensor:
    """`ResnetBlock2D`: two convolutions of each frame for itself.

    Args:
        x: [T, C, H, W].
        temb: time embedding. [T, E]

    Returns:
        [T, C', H, W]
    """
    time = None if temb is None else block.time_emb_proj(functional.silu(temb))
    hidden = block.conv1(group_norm(x, block.norm1, silu=True))
    hidden = block.conv2(group_norm(hidden, block.norm2, silu=True, added=time))
    return hidden.add_(x if block.conv_shortcut is None else block.conv_shortcut(x))


def video_residual_block(
    block: Any,
    hidden_states: torch.Tensor,
    temb: torch.Tensor | None = None,
    image_only_indicator: torch.Tensor | None = None,
) -> torch.Tensor:
    """`SpatioTemporalResBlock`: a residual block of each frame, mixed with one along time.

    Args:
        hidden_states: [T, C, H, W].
        temb: time embedding, the same for all frames. [T, E]
        image_only_indicator: ignored; the frames are a video.

    Returns:
        [T, C', H, W]
    """
    x = residual_block(block.spatial_res_block, hidden_states, temb)
    temporal = block.temporal_res_block
    time = None if temb is None else temporal.time_emb_proj(functional.silu(temb[:1]))
    hidden = _along_time(temporal.conv1, group_norm(_as_video(x), temporal.norm1, silu=True))
    hidden = _along_time(temporal.conv2, group_norm(hidden, temporal.norm2, silu=True, added=time))
    # The temporal branch is x + hidden, so mixing it with x adds a share of hidden.
    return x.addcmul_(_as_frames(hidden), temporal_share(block.time_mixer).to(x.dtype))


def temporal_share(mixer: Any) -> torch.Tensor:
    """How much of the temporal branch an `AlphaBlender` takes. [1]"""
    spatial = torch.sigmoid(mixer.mix_factor)
    return spatial if mixer.switch_spatial_to_temporal_mix else 1 - spatial


def _as_video(frames: torch.Tensor) -> torch.Tensor:
    """[T, C, H, W] -> [1, C, T, H, W], a view."""
    return frames.transpose(0, 1)[None]


def _as_frames(video: torch.Tensor) -> torch.Tensor:
    """[1, C, T, H, W] -> [T, C, H, W], a view."""
    return video[0].transpose(0, 1)


def _along_time(conv: Any, video: torch.Tensor) -> torch.Tensor:
    """A `Conv3d` of kernel (3, 1, 1) over [1, C, T, H, W]."""
    lines = video.flatten(3)  # [1, C, T, H * W]
    lines = functional.conv2d(lines, conv.weight.squeeze(-1), conv.bias, padding=(1, 0))
    return lines.unflatten(3, video.shape[3:])


def video_transformer(
    block: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    image_only_indicator: torch.Tensor | None = None,
    return_dict: bool = False,
) -> tuple[torch.Tensor]:
    """`TransformerSpatioTemporalModel`: attention within each frame, mixed with attention along time.

    Args:
        hidden_states: [T, C, H, W].
        encoder_hidden_states: one token for each frame. [T, 1, E]
        image_only_indicator, return_dict: ignored; the frames are a video, the result is a tuple.

    Returns:
        ([T, C, H, W],)
    """
    count, _, height, width = hidden_states.shape
    x = group_norm(hidden_states, block.norm, silu=False)
    x = block.proj_in(x.permute(0, 2, 3, 1).flatten(1, 2))  # [T, H * W, C]
    numbers = torch.arange(count, device=x.device)
    place_in_time = block.time_pos_embed(block.time_proj(numbers).to(x.dtype))[:, None]
    for spatial, temporal in zip(block.transformer_blocks, block.temporal_transformer_blocks, strict=True):
        x += self_attention(spatial.attn1, spatial.norm1(x))
        x += single_token_attention(spatial.attn2, encoder_hidden_states)
        _add_feed_forward(x, spatial.norm3, spatial.ff)

        y = x + place_in_time
        _add_feed_forward(y, temporal.norm_in, temporal.ff_in)
        y += self_attention(temporal.attn1, temporal.norm1(y), along_time=True)
        y += single_token_attention(temporal.attn2, encoder_hidden_states[:1])
        _add_feed_forward(y, temporal.norm3, temporal.ff)
        x.lerp_(y, temporal_share(block.time_mixer).to(x.dtype))
        del y
    x = block.proj_out(x).unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return (x + hidden_states,)


def self_attention(attention: Any, x: torch.Tensor, along_time: bool = False) -> torch.Tensor:
    """Multi-head attention of the tokens of each frame, or of each position along time. [T, S, C] -> [T, S, C]"""
    query, key, value = (
        project(x).unflatten(-1, (attention.heads, -1)).permute((1, 2, 0, 3) if along_time else (0, 2, 1, 3))
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return attention.to_out[0](mixed.permute((2, 0, 1, 3) if along_time else (0, 2, 1, 3)).flatten(2))


def single_token_attention(attention: Any, context: torch.Tensor) -> torch.Tensor:
    """Cross attention to one token, which is the same for every query. [N, 1, E] -> [N, 1, C]"""
    return attention.to_out[0](attention.to_v(context))


def _add_feed_forward(x: torch.Tensor, norm: Any, layer: Any) -> None:
    """x += layer(norm(x)) in place, some frames at a time. x: [T, S, C]"""
    count = max(1, FEED_FORWARD_TOKENS // x.shape[1])
    for frames in x.split(count):
        frames += layer(norm(frames))
