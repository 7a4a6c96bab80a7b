# SPDX-License-Identifier: Apache-2.0
"""The layers of Stable Video Diffusion, computed with fewer passes over memory; the weights and results are the same.

diffusers writes these layers for any use. For one clip at a time, without training, they can do less:
- activations stay channels-last, in which convolutions are fastest and a transformer's tokens are a plain view;
- normalisation and activation are one operator, and so are a branch's bias, share and sum (`video_operators`);
- a temporal (3, 1, 1) convolution is a two-dimensional one over (frame, position), which needs no copy;
- cross attention to a single token is that token's value, whatever the query: its softmax is over one number;
- feed-forward layers run over a few frames at a time, because their hidden width is 8 times that of their input.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from ex4d.depth.video_operators import add_branch, group_norm

FRAME_NUMBERS = 1 << 28  # in a block's input at a time: 0.5 GB in half precision; only full-size decoding has more
FEED_FORWARD_NUMBERS = 1 << 25  # in a feed-forward layer's input at a time: its hidden values take 0.5 GB, 8 times that


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
        "Upsample2D": upsampled,
        "SpatioTemporalResBlock": video_residual_block,
        "TransformerSpatioTemporalModel": video_transformer,
    }
    encoder = getattr(model, "encoder", None)
    if encoder is not None:
        for attention in encoder.mid_block.attentions:
            attention.forward = functools.partial(picture_attention, attention)
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
        temb: time embedding, the same for all frames. [T, E]

    Returns:
        [T, C', H, W]
    """
    offset = _offset(block, temb)
    whole = offset.new_ones(1)

    def one_part(frames: torch.Tensor) -> torch.Tensor:
        hidden = _unbiased(block.conv1, group_norm(frames, block.norm1, silu=True))
        hidden = _unbiased(block.conv2, group_norm(hidden, block.norm2, silu=True, added=offset))
        kept = frames.clone() if block.conv_shortcut is None else block.conv_shortcut(frames)
        return add_branch(kept, hidden, block.conv2.bias, whole)

    return _some_frames_at_a_time(one_part, x)


def upsampled(block: Any, x: torch.Tensor, output_size: Any = None) -> torch.Tensor:
    """`Upsample2D`: every pixel four times, then a convolution. [T, C, H, W] -> [T, C', 2 H, 2 W]"""
    size = output_size or (2 * x.shape[2], 2 * x.shape[3])
    return _some_frames_at_a_time(lambda frames: block.conv(functional.interpolate(frames, size=size)), x)


def _some_frames_at_a_time(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A layer that looks at each frame alone, in parts that need little memory. [T, C, H, W] -> [T, C', H', W']"""
    count = max(1, FRAME_NUMBERS // x[0].numel())
    if count >= len(x):
        return layer(x)
    done: torch.Tensor | None = None
    for start in range(0, len(x), count):
        part = layer(x[start : start + count])
        if done is None:
            shape = (len(x), *part.shape[1:])
            done = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        done[start : start + count] = part
    return done


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
    hidden = _along_time(temporal.conv1, group_norm(_as_video(x), temporal.norm1, silu=True))
    hidden = group_norm(hidden, temporal.norm2, silu=True, added=_offset(temporal, temb))
    hidden = _along_time(temporal.conv2, hidden)
    # The temporal branch is x + hidden, so mixing it with x adds a share of hidden.
    return add_branch(x, _as_frames(hidden), temporal.conv2.bias, temporal_share(block.time_mixer))


def _offset(block: Any, temb: torch.Tensor | None) -> torch.Tensor:
    """What is added to the first convolution's output: its bias and the time embedding. [1, C]"""
    bias = block.conv1.bias[None]
    return bias if temb is None else bias + block.time_emb_proj(functional.silu(temb[:1]))


def _unbiased(conv: Any, x: torch.Tensor) -> torch.Tensor:
    """A `Conv2d` without its bias, which the operator after it adds."""
    return functional.conv2d(x, conv.weight, None, conv.stride, conv.padding)


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
    """A `Conv3d` of kernel (3, 1, 1) over [1, C, T, H, W], without its bias."""
    lines = video.flatten(3)  # [1, C, T, H * W]
    lines = functional.conv2d(lines, conv.weight.squeeze(-1), None, padding=(1, 0))
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


def picture_attention(attention: Any, x: torch.Tensor, temb: torch.Tensor | None = None) -> torch.Tensor:
    """Attention of one wide head over each picture, in the VAE's encoder. [T, C, H, W] -> [T, C, H, W]

    On CUDA by plain matrix products: torch's fused attention has no fast kernel for float32 and 512 channels.
    """
    tokens = group_norm(x, attention.group_norm, silu=False).permute(0, 2, 3, 1).flatten(1, 2)
    query, key, value = attention.to_q(tokens), attention.to_k(tokens), attention.to_v(tokens)
    if x.is_cuda:
        with tensor_float():
            weights = [torch.softmax(q @ k.T * q.shape[1] ** -0.5, dim=-1) for q, k in zip(query, key, strict=True)]
            mixed = torch.stack([w @ v for w, v in zip(weights, value, strict=True)])
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value)
    return x + attention.to_out[0](mixed).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


@contextmanager
def tensor_float() -> Iterator[None]:
    """Let float32 matrix products use TF32, as torch's float32 convolutions do anyway."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def single_token_attention(attention: Any, context: torch.Tensor) -> torch.Tensor:
    """Cross attention to one token, which is the same for every query. [N, 1, E] -> [N, 1, C]"""
    return attention.to_out[0](attention.to_v(context))


def _add_feed_forward(x: torch.Tensor, norm: Any, layer: Any) -> None:
    """x += layer(norm(x)) in place, some frames at a time. x: [T, S, C]"""
    count = max(1, FEED_FORWARD_NUMBERS // x[0].numel())
    for frames in x.split(count):
        frames += layer(norm(frames))
