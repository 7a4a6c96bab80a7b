# SPDX-License-Identifier: Apache-2.0
"""Sharper previews: a few latent frames through the decoder of a tiny autoencoder, when its weights are here.

The network is TAEHV by Ollin Boer Bohan (github.com/madebyollin/taehv, MIT), trained on Wan2.1's latents ("taew2_1").
Of each latent frame it is asked for one moment only, at half the size: a picture, no clip. Each of its blocks sees its
input of the latent frame before, so a few of those come along.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, relu

from ex4d.errors import MachineError
from ex4d.generation.wan.tensors import read_tensors, some
from ex4d.models import MODELS, look

BEFORE = 2  # latent frames that come along
LATENTS, COLORS = 16, 3
REMEDY = "Check it with: ex4d models verify previews"

# Layers are numbered as in the file. A stage: its channels, those after it, its first block, and into how many moments
# it parts a frame; the last one also doubles the size, which is left out.
STAGES = ((256, 128, 3, 1), (128, 64, 9, 2), (64, 64, 15, 2))
BLOCKS = 3  # of a stage; then come doubling, growing in time, and a convolution to the next stage's channels
FIRST, LAST = "1", "22"


class TinyDecoder:
    """The decoder, where previews are made."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of `read_tiny_decoder`."""
        self._weights = weights

    def picture(self, latents: Tensor, frame: int) -> NDArray[np.uint8] | None:
        """Show one latent frame. None where the memory is so full that there is no room for it.

        Args:
            latents: an estimate of the clean clip, normalised as the model has it. [1, 16, f, h, w]
            frame: which of its f.

        Returns:
            RGB, its last moment. [4 h, 4 w, 3]
        """
        some_frames = latents[0, :, max(frame - BEFORE, 0) : frame + 1].transpose(0, 1)
        try:
            with torch.no_grad():
                rgb = self._decoded(some_frames.to(self._weights[f"{FIRST}.weight"].dtype))
        except torch.OutOfMemoryError:
            return None
        levels = (rgb.float().clamp(0, 1) * 255).round().byte()
        return np.asarray(levels.permute(1, 2, 0).cpu().numpy())

    def _decoded(self, x: Tensor) -> Tensor:
        """[n, 16, h, w], one after the other -> the last one's picture [3, 4 h, 4 w]"""
        x = relu(self._convolved(FIRST, torch.tanh(x / 3) * 3))
        for channels, _, first, _ in STAGES:
            for block in range(first, first + BLOCKS):
                x = self._remembering(block, x)
            grow = first + BLOCKS + 1
            if grow < int(LAST) - 3:
                x = interpolate(x, scale_factor=2.0)
            x = conv2d(x, self._weights[f"{grow}.conv.weight"][-channels:])  # the last moment's
            x = self._convolved(str(grow + 1), x)
        return self._convolved(LAST, relu(x[-1:]))[0]

    def _remembering(self, block: int, x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        y = torch.cat([x, before], dim=1)
        for layer in (0, 2, 4):
            y = self._convolved(f"{block}.conv.{layer}", relu(y) if layer else y)
        return relu(y + x)

    def _convolved(self, name: str, x: Tensor) -> Tensor:
        return conv2d(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"), padding=1)


def find_tiny_decoder(device: torch.device, dtype: torch.dtype) -> tuple[TinyDecoder | None, tuple[str, ...]]:
    """The decoder, when its weights are on this machine, and what is to be said: a preview is not worth a take."""
    found = look(MODELS["previews"])
    if found.state != "complete":
        return None, ()
    try:
        return read_tiny_decoder(found.files[0], device, dtype), ()
    except MachineError as error:
        return None, (f"Previews are coarse: {error}",)


def read_tiny_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """Read `taew2_1.safetensors`.

    Raises:
        MachineError: it is missing, truncated or holds another network.
    """
    tensors = read_tensors(path, REMEDY)
    found = {name.removeprefix("decoder."): value for name, value in tensors.items() if name.startswith("decoder.")}
    wanted = shapes()
    wrong = [
        name for name in wanted.keys() | found.keys() if name not in found or found[name].shape != wanted.get(name)
    ]
    if wrong:
        raise MachineError(f"'{path.name}' does not hold {MODELS['previews'].what}: {some(wrong)} differ. {REMEDY}")
    return TinyDecoder({name: value.to(device, dtype) for name, value in found.items()})


def shapes() -> dict[str, tuple[int, ...]]:
    """Of all weights."""
    known: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, out: int, into: int, *, bias: bool = True) -> None:
        known[f"{name}.weight"] = (out, into, 3, 3)
        if bias:
            known[f"{name}.bias"] = (out,)

    convolution(FIRST, STAGES[0][0], LATENTS)
    for channels, after, first, moments in STAGES:
        for block in range(first, first + BLOCKS):
            for layer, into in ((0, 2 * channels), (2, channels), (4, channels)):
                convolution(f"{block}.conv.{layer}", channels, into)
        known[f"{first + BLOCKS + 1}.conv.weight"] = (channels * moments, channels, 1, 1)
        convolution(f"{first + BLOCKS + 2}", after, channels, bias=False)
    convolution(LAST, COLORS, STAGES[-1][1])
    return known
