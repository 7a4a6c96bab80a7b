# SPDX-License-Identifier: Apache-2.0
"""The network's forward in the `fast` policy: diffsynth's weights, our arithmetic.

Exact fp32 timestep and latents, an fp32 residual stream, matrices in the weights' dtype (bf16, or 8 bits where
`fp8.quantise` was applied), real-valued rotary positions, an attention backend that was chosen, and everything that is
the same in each step computed once per job. With float32 weights it equals diffsynth's own forward.

Two seams:

- `blocks`: any sized iterable of `BlockWeights`, walked once per forward, in order. A block's tensors are needed until
  the next one is asked for, on the stream that is current then; its `cross` is not: `crosses` lends them, once when
  the job is bound. The default lends the network's own tensors; streaming.py brings them to the GPU from main memory.
- `sharding`: how tokens are divided among processes and how their self-attention meets. `share` and `whole` are exact
  inverses along the tokens (dim 1); `attend` gets this process's q, k, v [1, tokens, heads, head_dim] and the attention
  of one process, and returns what this process's tokens attended to. All else is per token.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.nn.functional import conv3d, layer_norm, linear, silu

from ex4d.generation.wan.attention import Attention, Backend, attention, best_backend
from ex4d.generation.wan.block import (
    BlockWeights,
    Cross,
    CrossKeys,
    block_output,
    block_weights,
    cross_attention_inputs,
    cross_keys,
    modulation,
    self_attention_inputs,
)
from ex4d.generation.wan.fp8 import is_quantised
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.rope import rope_table
from ex4d.generation.wan.schedule import sinusoid


class JobConditions(Protocol):
    """The part of `conditions.Conditions` that the network sees."""

    @property
    def ray(self) -> torch.Tensor: ...  # [1, dim, f, h / 2, w / 2]
    @property
    def y(self) -> torch.Tensor: ...  # [1, 20, f, h, w]
    @property
    def clip(self) -> torch.Tensor: ...  # [1, 257, 1280]
    @property
    def context(self) -> Mapping[Any, torch.Tensor]: ...  # branch to [1, 512, 4096]


class BlockSource(Protocol):
    """Weights of all blocks, in order, as often as asked."""

    def __iter__(self) -> Iterator[BlockWeights]: ...
    def __len__(self) -> int: ...
    def crosses(self) -> Iterator[Cross]: ...


class Sharding(Protocol):
    """How tokens are divided among processes."""

    def share(self, tokens: torch.Tensor) -> torch.Tensor: ...
    def whole(self, tokens: torch.Tensor) -> torch.Tensor: ...
    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attend: Attention) -> torch.Tensor: ...


class OneProcess:
    """All tokens here."""

    def share(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def whole(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attend: Attention) -> torch.Tensor:
        return attend(q, k, v)


class ResidentBlocks(Sequence[BlockWeights]):
    """The network's own tensors, wherever they are."""

    def __init__(self, dit: Any) -> None:
        self._blocks = [block_weights(block) for block in dit.blocks]

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        return self._blocks[index]

    def crosses(self) -> Iterator[Cross]:
        return (block.cross for block in self._blocks)


class FastForward:
    """A network bound to one job's conditions: a `Velocity`."""

    def __init__(
        self,
        dit: Any,
        conditions: JobConditions,
        mode: Mode,
        *,
        blocks: BlockSource | None = None,
        sharding: Sharding | None = None,
        backend: Backend | None = None,
    ) -> None:
        """
        Args:
            dit: diffsynth's WanModel with image input; all but its blocks on the device that computes.
            conditions: of the job, any device and dtype.
            mode: a mode of precision `fast`. Where it says fp8, `fp8.quantise` was applied to dit.
            blocks: where the blocks' weights come from; the network's own without it.
            sharding: of the tokens; none without it.
            backend: of the attention; the device's best without it. `self.backend` tells which.
        """
        if mode.fp8 != is_quantised(dit):
            raise ValueError(
                f"quality '{mode.name}' needs {'8-bit' if mode.fp8 else 'unquantised'} weights, these are not: "
                f"{'call fp8.quantise first' if mode.fp8 else 'load them again'}"
            )
        self.device = dit.patch_embedding.weight.device
        self.backend = backend or best_backend(self.device)
        self._dit = dit
        self._blocks: BlockSource = blocks if blocks is not None else ResidentBlocks(dit)
        self._sharding: Sharding = sharding or OneProcess()
        self._attention = attention(self.backend)
        self._heads = dit.blocks[0].self_attn.num_heads

        with torch.no_grad():
            self._bind(conditions)

    def _bind(self, conditions: JobConditions) -> None:
        """What is the same in every step."""
        dit, weight = self._dit, self._dit.patch_embedding.weight
        y = conditions.y.to(self.device, torch.float32)
        frames, rows, columns = (size // patch for size, patch in zip(y.shape[2:], dit.patch_size, strict=True))
        self._grid = (frames, rows, columns)
        latent_channels = weight.shape[1] - y.shape[1]
        self._patch_weight = weight[:, :latent_channels].float().flatten(1)
        bias = dit.patch_embedding.bias.float()
        constant = conv3d(y, weight[:, latent_channels:].float(), bias, stride=dit.patch_size)
        constant += conditions.ray.to(self.device, torch.float32)
        self._constant = self._sharding.share(constant.flatten(2).transpose(1, 2).contiguous())
        cosine, sine = rope_table(dit.freqs, self._grid, self.device)
        self._cosine = self._sharding.share(cosine[None])[0]
        self._sine = self._sharding.share(sine[None])[0]
        self._keys = self._cross_keys(conditions)

    def _cross_keys(self, conditions: JobConditions) -> dict[str, list[CrossKeys]]:
        dit, dtype = self._dit, self._dit.patch_embedding.weight.dtype
        image = dit.img_emb(conditions.clip.to(self.device, dtype))
        texts = {name: dit.text_embedding(text.to(self.device, dtype)) for name, text in conditions.context.items()}
        keys: dict[str, list[CrossKeys]] = {name: [] for name in texts}
        for cross in self._blocks.crosses():
            shared: CrossKeys | None = None
            for name, text in texts.items():
                made = cross_keys(text, image, cross, self._heads)
                shared = shared or made
                keys[name].append(made._replace(k_image=shared.k_image, v_image=shared.v_image))
        return keys

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor, branch: str) -> torch.Tensor:
        """
        Args:
            latents: fp32 [1, 16, f, h, w].
            timestep: fp32 [1], 0..1000.
            branch: whose prompt, `positive` or `negative`.

        Returns:
            The velocity. fp32 [1, 16, f, h, w]
        """
        with torch.no_grad():
            return self._velocity(latents.float(), timestep, branch)

    def _velocity(self, latents: torch.Tensor, timestep: torch.Tensor, branch: str) -> torch.Tensor:
        patches = _patches(latents, self._dit.patch_size)
        x = self._constant + linear(self._sharding.share(patches), self._patch_weight)
        embedded, time = _time(timestep, self._dit)
        for weights, keys in zip(self._blocks, self._keys[branch], strict=True):
            modulated = modulation(time, weights)
            q, k, v = self_attention_inputs(x, modulated, weights, self._cosine, self._sine)
            attended = self._sharding.attend(q, k, v, self._attention)
            x, q = cross_attention_inputs(x, attended, modulated, weights)
            text = self._attention(q, keys.k, keys.v)
            image = self._attention(q, keys.k_image, keys.v_image)
            x = block_output(x, text, image, modulated, weights)
        patches = self._sharding.whole(_head(x, embedded, self._dit))
        return _unpatched(patches, self._grid, self._dit.patch_size)


def _time(timestep: torch.Tensor, dit: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The timestep as the head and as the blocks see it: fp64 sinusoid, fp32 networks. [1, dim], [1, 6, dim]"""
    first, second = dit.time_embedding[0], dit.time_embedding[2]
    embedded = _linear_fp32(silu(_linear_fp32(sinusoid(timestep, dit.freq_dim), first)), second)
    return embedded, _linear_fp32(silu(embedded), dit.time_projection[1]).unflatten(1, (6, -1))


def _head(x: torch.Tensor, embedded: torch.Tensor, dit: Any) -> torch.Tensor:
    """Tokens to patches of the velocity. fp32 [1, tokens, 16 * patch]"""
    shift, scale = (dit.head.modulation.float() + embedded[:, None]).chunk(2, dim=1)
    return _linear_fp32(layer_norm(x, x.shape[-1:], eps=dit.head.norm.eps) * (1 + scale) + shift, dit.head.head)


def _linear_fp32(x: torch.Tensor, module: torch.nn.Linear) -> torch.Tensor:
    return linear(x, module.weight.float(), module.bias.float())


def _patches(x: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """[1, channels, f, h, w] to [1, tokens, channels * patch]"""
    _, channels, frames, height, width = x.shape
    depth, rows, columns = patch
    x = x.reshape(1, channels, frames // depth, depth, height // rows, rows, width // columns, columns)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(1, -1, channels * math.prod(patch))


def _unpatched(patches: torch.Tensor, grid: tuple[int, int, int], patch: tuple[int, int, int]) -> torch.Tensor:
    """[1, tokens, patch * channels] to [1, channels, f, h, w]"""
    x = patches.reshape(1, *grid, *patch, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(1, -1, *(count * size for count, size in zip(grid, patch, strict=True)))
