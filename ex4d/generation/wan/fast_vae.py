# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's video autoencoder with its own weights, arranged for a GPU: the `fast` policy's way in and out of latents.

Pictures lie with their channels together, several latent frames go through at once, and what stands between two
convolutions (bias, sum, norm, SiLU) is one pass. The numbers are those of diffsynth's frame-by-frame loop, whose causal
convolutions know the frames before: here a convolution's input carries its last two frames over to the next piece.
"""

import functools
import importlib.util
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, conv3d, interpolate, linear, normalize, pad, scaled_dot_product_attention, silu

from ex4d.generation.wan.finite import pictures_of
from ex4d.generation.wan.time_left import DEVELOPING
from ex4d.progress import ProgressCallback, track

LATENTS_AT_ONCE = 2  # of a piece: fills a large GPU; more of them take more memory and save 2 % of the time
TILE = 4096  # numbers that a program of four warps works on at a time


class Frames(NamedTuple):
    """Pictures between two layers, as sums that nobody added up yet."""

    values: Tensor  # [batch, frames, h, w, channels]
    bias: Tensor | None = None  # [channels]
    residual: Tensor | None = None  # as values


class FastVae:
    """A diffsynth `WanVideoVAE` (16 channels) on the device where it computes."""

    def __init__(self, vae: Any) -> None:
        self._model = vae.model
        self._mean, self._inverse_deviation = vae.scale

    def encode(self, clips: Tensor) -> Tensor:
        """
        Args:
            clips: -1..1, 4 n + 1 frames. [batch, 3, frames, h, w]

        Returns:
            Normalised latents, in the weights' dtype. [batch, 16, n + 1, h / 8, w / 8]
        """
        with torch.no_grad():
            return torch.cat([self._encoded(clip) for clip in clips.split(1)])  # together they are no faster

    def _encoded(self, clip: Tensor) -> Tensor:
        model, weight = self._model, self._model.conv1.weight
        frames = clip.to(weight.dtype).permute(0, 2, 3, 4, 1).contiguous()
        past = _Past()
        pieces = []
        for start, stop in _pieces(1 + (frames.shape[1] - 1) // 4):
            piece = frames[:, max(4 * start - 3, 0) : 4 * stop - 3]
            pieces.append(_encoded(model.encoder, piece, past))
        coded = torch.cat(pieces, dim=1)
        mean = linear(coded, weight.flatten(1), model.conv1.bias).chunk(2, dim=-1)[0]
        latents = (mean.float() - self._mean.to(mean.device)) * self._inverse_deviation.to(mean.device)
        return latents.permute(0, 4, 1, 2, 3).to(weight.dtype)

    def decode(self, latents: Tensor, progress: ProgressCallback | None = None) -> NDArray[np.uint8]:
        """
        Args:
            latents: normalised, fp32 [1, 16, n + 1, h, w].
            progress: told after each piece; it may cancel.

        Returns:
            RGB, truncated to bytes as the release does. uint8 [4 n + 1, 8 h, 8 w, 3]
        """
        with torch.no_grad():
            return np.concatenate([levels.cpu().numpy() for levels in self._decoded(latents, progress)])

    def _decoded(self, latents: Tensor, progress: ProgressCallback | None) -> Iterator[Tensor]:
        model, weight = self._model, self._model.conv2.weight
        latents = latents.permute(0, 2, 3, 4, 1)
        latents = latents / self._inverse_deviation.to(latents.device) + self._mean.to(latents.device)
        features = linear(latents.to(weight.dtype), weight.flatten(1), model.conv2.bias)
        past = _Past()
        for start, stop in track(_pieces(features.shape[1]), DEVELOPING, progress):
            yield pictures_of(_decoded(model.decoder, features[:, start:stop], past)[0], DEVELOPING)


class _Past:
    """The last frames that each causal convolution has seen, from one piece of a clip to the next."""

    def __init__(self) -> None:
        self._kept: dict[Any, Tensor] = {}

    @property
    def is_empty(self) -> bool:
        return not self._kept

    def room(self, key: Any, like: Tensor, channels: int, frames: int) -> Tensor:
        """A buffer for the input of a convolution: its past, then room for the new frames. [batch, past + new, ...]"""
        batch, new, height, width, _ = like.shape
        buffer = torch.empty((batch, frames + new, height, width, channels), dtype=like.dtype, device=like.device)
        buffer[:, :frames] = self._kept.get(key, 0)
        return buffer

    def keep(self, key: Any, buffer: Tensor, frames: int) -> None:
        self._kept[key] = buffer[:, -frames:].clone()


def _pieces(count: int) -> list[tuple[int, int]]:
    """The first latent frame, which stands for one picture, then pieces of several."""
    starts = [0, *range(1, count, LATENTS_AT_ONCE)]
    return list(zip(starts, [*starts[1:], count], strict=True))


def _encoded(encoder: Any, pictures: Tensor, past: _Past) -> Tensor:
    first = past.is_empty
    x = _plain_convolution(encoder.conv1, pictures, past)
    for layer in encoder.downsamples:
        x = _smaller(layer, x, past, first) if hasattr(layer, "resample") else _residual(layer, x, past)
    return _middle_and_head(encoder, x, past)


def _decoded(decoder: Any, features: Tensor, past: _Past) -> Tensor:
    first = past.is_empty
    x = _middle(decoder.middle, _plain_convolution(decoder.conv1, features, past), past)
    for layer in decoder.upsamples:
        x = _larger(layer, x, past, first) if hasattr(layer, "resample") else _residual(layer, x, past)
    return _sum(_head(decoder.head, x, past))


def _middle_and_head(encoder: Any, x: Frames, past: _Past) -> Tensor:
    return _sum(_head(encoder.head, _middle(encoder.middle, x, past), past))


def _middle(layers: Any, x: Frames, past: _Past) -> Frames:
    x = _residual(layers[0], x, past)
    x = Frames(_attended(layers[1], _sum(x)))
    return _residual(layers[2], x, past)


def _head(layers: Any, x: Frames, past: _Past) -> Frames:
    norm, _, convolution = layers
    _, room = _normed(x, norm, past, convolution, keep_sum=False)
    return _convolution(convolution, room)


def _residual(block: Any, x: Frames, past: _Past) -> Frames:
    norm, _, first, second_norm, _, _, second = block.residual
    total, room = _normed(x, norm, past, first, keep_sum=True)
    _, room = _normed(_convolution(first, room), second_norm, past, second, keep_sum=False)
    branch = _convolution(second, room)
    shortcut = block.shortcut
    if not isinstance(shortcut, torch.nn.Identity):
        total = linear(total, shortcut.weight.flatten(1), shortcut.bias)
    return Frames(branch.values, branch.bias, total)


def _larger(layer: Any, x: Frames, past: _Past, first: bool) -> Frames:
    frames = _sum(x)
    if layer.mode == "upsample3d" and not first:
        frames = _with_past(layer.time_conv, frames, past, 2)
        doubled = _convolution(layer.time_conv, frames, padding=0)
        values = _sum(doubled).unflatten(-1, (2, -1)).permute(0, 1, 4, 2, 3, 5)  # even and odd frames as channels
        frames = values.flatten(1, 2)
    pictures = frames.flatten(0, 1).permute(0, 3, 1, 2)
    pictures = interpolate(pictures, scale_factor=2, mode="nearest-exact")
    convolution = layer.resample[1]
    return Frames(_lying(conv2d(pictures, convolution.weight, padding=1), len(frames)), convolution.bias)


def _smaller(layer: Any, x: Frames, past: _Past, first: bool) -> Frames:
    frames = _sum(x)
    pictures = pad(frames.flatten(0, 1).permute(0, 3, 1, 2), (0, 1, 0, 1))
    convolution = layer.resample[1]
    made = Frames(_lying(conv2d(pictures, convolution.weight, stride=2), len(frames)), convolution.bias)
    if layer.mode != "downsample3d":
        return made
    if first:
        frames = _sum(made)
        past.keep(layer.time_conv, frames, 1)
        return Frames(frames)
    return _convolution(layer.time_conv, _with_past(layer.time_conv, _sum(made), past, 1), padding=0)


def _attended(block: Any, x: Tensor) -> Tensor:
    """One head over each picture."""
    batch, frames, height, width, channels = x.shape
    pictures = x.reshape(batch * frames, 1, height * width, channels)
    normal = normalize(pictures.float(), dim=-1) * (channels**0.5 * block.norm.gamma.float().flatten())
    q, k, v = linear(normal.to(x.dtype), block.to_qkv.weight.flatten(1), block.to_qkv.bias).chunk(3, dim=-1)
    answer = scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
    return (pictures + linear(answer, block.proj.weight.flatten(1), block.proj.bias)).view_as(x)


def _plain_convolution(convolution: Any, x: Tensor, past: _Past) -> Frames:
    return _convolution(convolution, _with_past(convolution, x, past, 2))


def _with_past(convolution: Any, x: Tensor, past: _Past, frames: int) -> Tensor:
    room = past.room(convolution, x, x.shape[-1], frames)
    room[:, frames:] = x
    past.keep(convolution, room, frames)
    return room


def _convolution(convolution: Any, room: Tensor, padding: int = 1) -> Frames:
    """Over frames that carry their past."""
    made = conv3d(
        room.permute(0, 4, 1, 2, 3), convolution.weight, stride=convolution.stride, padding=(0, padding, padding)
    )
    return Frames(made.permute(0, 2, 3, 4, 1).contiguous(), convolution.bias)


def _lying(pictures: Tensor, batch: int) -> Tensor:
    """[batch * frames, channels, h, w] to [batch, frames, h, w, channels]"""
    return pictures.permute(0, 2, 3, 1).contiguous().unflatten(0, (batch, -1))


def _sum(x: Frames) -> Tensor:
    if x.bias is None and x.residual is None:
        return x.values
    if _fused(x.values):
        total = torch.empty_like(x.values)
        _launch(x, None, total, None, 0)
        return total
    total = x.values if x.bias is None else x.values + x.bias
    return total if x.residual is None else total + x.residual


def _normed(x: Frames, norm: Any, past: _Past, convolution: Any, *, keep_sum: bool) -> tuple[Tensor, Tensor]:
    """The frames summed, and normalised through SiLU as the convolution's input, its past in front."""
    values = x.values
    room = past.room(convolution, values, values.shape[-1], 2)
    gamma = norm.gamma.float().flatten() * norm.scale
    if _fused(values):
        alone = x.bias is None and x.residual is None
        total = values if alone or not keep_sum else torch.empty_like(values)
        _launch(x, gamma, None if alone or not keep_sum else total, room, 2)
    else:
        total = _sum(x)
        room[:, 2:] = silu(normalize(total.float(), dim=-1) * gamma).to(total.dtype)
    past.keep(convolution, room, 2)
    return total, room


def _launch(x: Frames, gamma: Tensor | None, total: Tensor | None, room: Tensor | None, first: int) -> None:
    import triton

    from ex4d.generation.wan import frame_kernels

    batch, frames, height, width, channels = x.values.shape
    padded = triton.next_power_of_2(channels)
    tile = max(1, TILE // padded)
    positions = frames * height * width
    frame_kernels.normed[(triton.cdiv(positions, tile), batch)](
        x.values, x.bias, x.residual, gamma, total, room,
        positions, first * height * width, (first + frames) * height * width, channels,
        tile=tile, padded=padded, num_warps=4,
    )  # fmt: skip


def _fused(x: Tensor) -> bool:
    return x.is_cuda and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
