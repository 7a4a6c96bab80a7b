# SPDX-License-Identifier: Apache-2.0
"""The networks of Wan2.1 + EX-4D as one thing to hand around."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class TextEncoder(NamedTuple):
    """UMT5-XXL and what turns words into its ids."""

    network: Any  # diffsynth WanTextEncoder
    tokenizer: Callable[
        ..., Any
    ]  # diffsynth HuggingfaceTokenizer: (text, return_mask=True) -> ids [1, 512], mask [1, 512]


@dataclass(frozen=True)
class WanModels:
    """Wan2.1-I2V-14B-480P with EX-4D's adapter.

    All weights have one dtype: bfloat16, or float32 for exact comparisons on a CPU. All networks but the DiT may lie
    elsewhere than they compute (`computing` moves them); the DiT lies where it computes, or moves itself there.
    """

    dit: Any  # diffsynth WanModel, LoRA included
    vae: Any  # diffsynth WanVideoVAE
    image_encoder: Any  # diffsynth WanImageEncoder: CLIP ViT-H/14
    camera_encoder: Any  # made by camera_encoder.camera_encoder
    load_text_encoder: Callable[[], TextEncoder]  # called only for a prompt whose embedding is not on disk
    text_encoder_id: str  # names its weights: embeddings on disk belong to them
    device: torch.device  # where all of them compute
    dtype: torch.dtype  # of their weights, and of what matrix products are computed in

    def autocast(self) -> AbstractContextManager[Any]:
        """The release's outer autocast; nothing when the weights are float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(self.device.type, self.dtype)
        return context


@contextmanager
def computing(network: Any, device: torch.device) -> Iterator[None]:
    """Have the weights of a network on the device while it computes, and where they were afterwards.

    They are only copied when they lie elsewhere; nothing is copied back.
    """
    weights = [*network.parameters(), *network.buffers()]
    kept = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to(device, non_blocking=True)
        yield
    finally:
        for weight, data in zip(weights, kept, strict=True):
            weight.data = data
