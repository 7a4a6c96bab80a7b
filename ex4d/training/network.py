# SPDX-License-Identifier: Apache-2.0
"""The network as it is trained: painting's reference arithmetic with gradients, block by block.

The base weights are frozen in bfloat16; what learns is float32 and rounded by autocast where it is used. All products
of matrices are bfloat16; timestep, modulations, gates, the residual stream and the loss are float32. With a float32
base nothing is rounded.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ex4d.generation.wan.camera_encoder import ray_latent
from ex4d.generation.wan.conditions import Conditions, Seen, beside_noise
from ex4d.generation.wan.denoise import Branch
from ex4d.generation.wan.reference_forward import ReferenceForward, block_output
from ex4d.generation.wan.rope import rotated


class TrainedBlock(nn.Module):  # type: ignore[misc, unused-ignore]
    """One block of the DiT. Sharding gathers its weights when it is called, and for no longer."""

    def __init__(self, block: nn.Module, checkpointing: bool, compiled: bool) -> None:
        super().__init__()
        self.trained = block
        self._checkpointing, self._compiled = checkpointing, compiled

    def forward(self, tokens: Tensor, *told: Any) -> Tensor:
        """See `block_output`, which gets the same arguments."""
        if self._checkpointing and torch.is_grad_enabled():
            # Nothing in a block is random, so there is no state of chance to keep.
            result: Tensor = checkpoint(self._output, tokens, *told, use_reentrant=False, preserve_rng_state=False)
            return result
        return self._output(tokens, *told)

    def _output(self, tokens: Tensor, *told: Any) -> Tensor:
        output = _fused() if self._compiled else _block_output
        with autocast(tokens.device, told[-1]):  # the dtype of the frozen weights
            return output(self.trained, tokens, *told)


class TrainedNetwork(nn.Module):  # type: ignore[misc, unused-ignore]
    """The DiT with its LoRA, and the camera encoder: from noisy latents to a velocity."""

    def __init__(
        self,
        dit: Any,
        camera_encoder: nn.ModuleDict,
        dtype: torch.dtype,
        checkpointing: bool = True,
        compiled: bool = False,
    ) -> None:
        """Take the networks over; the DiT's blocks are replaced by `TrainedBlock`s.

        Args:
            dit: diffsynth's WanModel, with a LoRA.
            camera_encoder: see there.
            dtype: of the frozen weights.
            checkpointing: compute each block again on the way back rather than remember what it did.
            compiled: have torch.compile fuse the small steps of the blocks.
        """
        super().__init__()
        self.dtype = dtype
        self.camera_encoder = camera_encoder.float().requires_grad_(True)
        dit.blocks = nn.ModuleList(TrainedBlock(block, checkpointing, compiled) for block in dit.blocks)
        self.dit = dit

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        told: Seen | Conditions,
        words: Tensor | None = None,
        branch: Branch = "positive",
    ) -> Tensor:
        """Ask the network.

        Args:
            latents: noisy. float32 [B, 16, f, h, w]
            timesteps: float32 [B], not rounded
            told: what the encoders see, to learn from; or whole conditions, to paint with.
            words: the captions' embeddings; whole conditions have their own. [B, 512, 4096]
            branch: which of theirs to tell.

        Returns:
            float32 [B, 16, f, h, w]
        """
        conditions = told if isinstance(told, Conditions) else self._conditions(told, words)
        return ReferenceForward(self.dit, conditions, run_block=_call)(latents, timesteps, branch)

    def _conditions(self, seen: Seen, words: Tensor | None) -> Conditions:
        assert words is not None
        color, mask, still, clip = (part.to(self.dtype) for part in (seen.color, seen.mask, seen.still, seen.clip))
        with autocast(color.device, self.dtype):
            ray = ray_latent(self.camera_encoder, color, mask)
        return Conditions(ray, beside_noise(still), clip, {"positive": words})


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Products of matrices in the dtype of the frozen weights; nothing for float32."""
    if dtype == torch.float32:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.autocast(device.type, dtype)
    return context


def fastest_attention() -> AbstractContextManager[Any]:
    """cuDNN's attention before PyTorch's own where there is a choice: 1.9 times as fast on Hopper."""
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    context: AbstractContextManager[Any] = sdpa_kernel(order, set_priority=True)
    return context


def _call(
    block: nn.Module,
    tokens: Tensor,
    modulation: Tensor,
    words: Tensor,
    picture: Tensor,
    rotations: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Real single precision rather than complex double: 4e-7 apart, and an eighth of the memory."""
    turns = torch.view_as_real(rotations).float()
    result: Tensor = block(tokens, modulation, words, picture, turns, dtype)
    return result


def _rotate(x: Tensor, turns: Tensor, heads: int) -> Tensor:
    """[B, n, C], turns of `_call` [n, 1, channels of a head / 2, 2]"""
    turned = rotated(x.unflatten(-1, (heads, -1)).float(), turns[..., 0], turns[..., 1])
    return turned.flatten(2).to(x.dtype)


_block_output: Callable[..., Tensor] = partial(block_output, rotate=_rotate)


@cache
def _fused() -> Callable[..., Tensor]:
    """One program for all blocks, of the same kernels every time where torch can be told so."""
    from torch import _inductor

    steady = {"deterministic": True} if "deterministic" in _inductor.list_options() else None
    fused: Callable[..., Tensor] = torch.compile(_block_output, dynamic=False, options=steady)
    return fused
