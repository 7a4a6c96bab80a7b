# SPDX-License-Identifier: Apache-2.0
"""Adapters of Wan2.1's DiT: EX-4D's `ex4d.ckpt` and other LoRAs, read strictly, added to the weights or beside them.

An adapter changes a layer by two thin matrices, W + strength * scale * up @ down, or a parameter by what is added to
it: `diff` (weight), `diff_b` (bias) and `diff_m` (modulation) of step-distilled LoRAs. Every name in a file must be
understood and must fit the network: nothing is skipped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ex4d.errors import InputError
from ex4d.generation.wan.tensors import read_tensors, some

EX4D_BLOCKS = 40  # of Wan2.1-I2V-14B
EX4D_TARGETS = (*(f"{part}.{name}" for part in ("self_attn", "cross_attn") for name in "qkvo"), "ffn.0", "ffn.2")
CAMERA_NAMES = tuple(
    f"{layer}.{kind}"
    for layer in ("latent_encoder.0", "latent_encoder.2", "latent_encoder.4", "latent_patch_embedding")
    for kind in ("weight", "bias")
)
# In front of the network's own names: diffsynth's pipelines, ComfyUI, peft.
PREFIXES = ("pipe.dit.", "model.diffusion_model.", "diffusion_model.", "base_model.model.", "dit.")
HALVES = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
# The last name before .weight is the adapter's own in files that peft wrote: "default".
LORA = re.compile(r"(?P<layer>.+)\.(?P<half>lora_A|lora_B|lora_down|lora_up)(\.[^.]+)?\.weight")
ADDED = {"diff": "weight", "diff_b": "bias", "diff_m": "modulation"}
EX4D_REMEDY = "Check it with: ex4d models verify ex4d"


@dataclass(frozen=True)
class LowRank:
    """What is added to a linear's weight: scale * up @ down."""

    down: Tensor  # [rank, in]
    up: Tensor  # [out, rank]
    scale: float = 1.0  # alpha / rank; 1 where the file names no alpha

    @property
    def shape(self) -> tuple[int, int]:
        return self.up.shape[0], self.down.shape[1]


@dataclass(frozen=True)
class Adapter:
    """A file of changes, its names brought to those of the network."""

    source: str  # the file's name, for messages
    layers: Mapping[str, LowRank] = field(default_factory=dict)  # by linear: "blocks.0.self_attn.q"
    added: Mapping[str, Tensor] = field(default_factory=dict)  # by parameter: "blocks.0.self_attn.q.bias"
    camera: Mapping[str, Tensor] = field(default_factory=dict)  # EX-4D's camera encoder


Stack = Sequence[tuple[Adapter, float]]
"""Adapters with their strengths, first to last."""


def read_adapter(path: Path, remedy: str | None = None) -> Adapter:
    """Read a LoRA for Wan2.1.

    Args:
        path: .safetensors, or what `torch.save` wrote.
        remedy: what to do when the file is not whole; None for a file of the artist's own.

    Raises:
        MachineError: it is missing or truncated.
        InputError: it is no LoRA, or says things that are not understood.
    """
    tensors = read_tensors(path, remedy or "Copy it again.")
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    added: dict[str, Tensor] = {}
    camera: dict[str, Tensor] = {}
    foreign: list[str] = []
    for full_name, tensor in tensors.items():
        name = _without_prefix(full_name)
        layer, _, kind = name.rpartition(".")
        if name in CAMERA_NAMES:
            camera[name] = tensor
        elif match := LORA.fullmatch(name):
            halves.setdefault(match["layer"], {})[HALVES[match["half"]]] = tensor
        elif kind == "alpha" and layer and tensor.numel() == 1:
            alphas[layer] = float(tensor)
        elif kind in ADDED and layer:
            added[f"{layer}.{ADDED[kind]}"] = tensor
        else:
            foreign.append(full_name)
    if foreign:
        raise InputError(
            f"'{path.name}' is no LoRA for Wan2.1 that is understood here: {len(foreign)} of its {len(tensors)} "
            f"entries are unknown ({some(foreign)})."
        )
    lone = [layer for layer, found in halves.items() if len(found) != 2]
    lone += [layer for layer in alphas if layer not in halves]
    if lone:
        raise InputError(f"'{path.name}' is not complete: {len(lone)} layers lack half of their LoRA ({some(lone)}).")
    layers = {}
    for layer, found in halves.items():
        down, up = found["down"], found["up"]
        if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1] or not len(down):
            raise InputError(
                f"'{path.name}' does not fit together at {layer}: its two halves are {list(down.shape)} and "
                f"{list(up.shape)}."
            )
        layers[layer] = LowRank(down, up, alphas.get(layer, float(len(down))) / len(down))
    return Adapter(path.name, layers, added, camera)


def read_ex4d(path: Path, blocks: int = EX4D_BLOCKS) -> Adapter:
    """Read EX-4D's adapter: its LoRA and its camera encoder, whole and nothing else.

    Args:
        path: `ex4d.ckpt`.
        blocks: of the network; 20 LoRA tensors belong to each.

    Raises:
        MachineError: it is missing or truncated.
        InputError: it lacks something, or holds something else; the counts are said.
    """
    adapter = read_adapter(path, EX4D_REMEDY)
    wanted = {f"blocks.{block}.{target}" for block in range(blocks) for target in EX4D_TARGETS}
    missing = [*(wanted - set(adapter.layers)), *(set(CAMERA_NAMES) - set(adapter.camera))]
    unexpected = [*(set(adapter.layers) - wanted), *adapter.added]
    if missing or unexpected:
        found = f"{2 * len(adapter.layers)} + {len(adapter.camera)} tensors"
        text = f"'{path.name}' is not EX-4D's adapter: {2 * len(wanted)} LoRA + {len(CAMERA_NAMES)} camera tensors "
        text += f"were expected, {found} are there."
        text += f" Missing: {some(missing)}." if missing else ""
        text += f" Not expected: {some(unexpected)}." if unexpected else ""
        raise InputError(f"{text} {EX4D_REMEDY}")
    return adapter


def check_fit(dit: nn.Module, adapter: Adapter) -> None:
    """Make sure that every change has its place in the network.

    Raises:
        InputError: one has not; it is a LoRA for another model.
    """
    modules, parameters = dict(dit.named_modules()), dict(dit.named_parameters())
    for layer, change in adapter.layers.items():
        linear = modules.get(layer)
        if not isinstance(linear, nn.Linear):
            raise _unfit(adapter, f"this network has no linear layer {layer}")
        shape = (linear.out_features, linear.in_features)
        if change.shape != shape:
            raise _unfit(adapter, f"{layer} is {list(shape)} here and {list(change.shape)} in the LoRA")
    for name, difference in adapter.added.items():
        if name not in parameters:
            raise _unfit(adapter, f"this network has no {name}")
        if parameters[name].numel() != difference.numel():
            shapes = f"{list(parameters[name].shape)} here and {list(difference.shape)} in the LoRA"
            raise _unfit(adapter, f"{name} is {shapes}")


def fuse(dit: nn.Module, stack: Stack, dtype: torch.dtype | None = None) -> None:
    """Add adapters to the weights themselves, in place. The way back is to load the weights again.

    The sum over all adapters is taken in float32 and rounded once: fusing two adapters in one call is more exact than
    in two.

    Args:
        dit: the network, anywhere.
        stack: adapters with their strengths.
        dtype: of the changed weights; None to keep theirs.

    Raises:
        InputError: one is for another model.
    """
    for adapter, _ in stack:
        check_fit(dit, adapter)
    for name, parameter in dit.named_parameters():
        parameter.data = fused(name, parameter.data, stack, dtype)


def fused(name: str, weight: Tensor, stack: Stack, dtype: torch.dtype | None = None) -> Tensor:
    """One parameter with its changes, where it lies; itself when nothing changes it.

    Args:
        name: of the parameter in the network.
        weight: its values.
        stack: adapters with their strengths, which fit.
        dtype: of the result when it is changed; None for the weight's.
    """
    layer, _, kind = name.rpartition(".")
    total: Tensor | None = None
    for adapter, strength in stack:
        if kind == "weight" and layer in adapter.layers:
            change = adapter.layers[layer]
            total = weight.float() if total is None else total
            up, down = (half.to(weight.device, torch.float32) for half in (change.up, change.down))
            total = torch.addmm(total, up, down, alpha=strength * change.scale)
        if name in adapter.added:
            total = weight.float() if total is None else total
            total = total + strength * adapter.added[name].to(weight.device, torch.float32).view(weight.shape)
    return weight if total is None else total.to(dtype or weight.dtype)


class LinearWithLoRA(nn.Linear):  # type: ignore[misc, unused-ignore]
    """A linear with adapters beside it, in the release's arithmetic (peft's): W x + b + scale * up (down x)."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.downs, self.ups = nn.ParameterList(), nn.ParameterList()
        self.scales: list[float] = []

    def add(self, change: LowRank, strength: float) -> None:
        """One adapter more. Its halves take the weight's dtype, as in the release."""
        for half, halves in ((change.down, self.downs), (change.up, self.ups)):
            halves.append(nn.Parameter(half.to(self.weight.device, self.weight.dtype), requires_grad=False))
        self.scales.append(strength * change.scale)

    def forward(self, x: Tensor) -> Tensor:
        total = functional.linear(x, self.weight, self.bias)
        for down, up, scale in zip(self.downs, self.ups, self.scales, strict=True):
            total = total + functional.linear(functional.linear(x, down), up) * scale
        return total


def attach(dit: nn.Module, stack: Stack) -> None:
    """Put adapters beside the linears of the blocks, as the release runs its LoRA. What else they change is fused.

    Args:
        dit: the network, with its weights in the dtype that it computes in.
        stack: adapters with their strengths.

    Raises:
        InputError: one is for another model.
    """
    for adapter, _ in stack:
        check_fit(dit, adapter)
    elsewhere = [(_elsewhere(adapter), strength) for adapter, strength in stack]
    for name, parameter in dit.named_parameters():
        parameter.data = fused(name, parameter.data, elsewhere)
    for adapter, strength in stack:
        for layer, change in adapter.layers.items():
            if layer.startswith("blocks."):
                _with_lora(dit, layer).add(change, strength)


def _with_lora(dit: nn.Module, layer: str) -> LinearWithLoRA:
    parent_name, _, own_name = layer.rpartition(".")
    parent: Any = dit.get_submodule(parent_name)
    linear = getattr(parent, own_name)
    if not isinstance(linear, LinearWithLoRA):
        linear = LinearWithLoRA(linear)
        setattr(parent, own_name, linear)
    return linear


def _elsewhere(adapter: Adapter) -> Adapter:
    outside = {layer: change for layer, change in adapter.layers.items() if not layer.startswith("blocks.")}
    return Adapter(adapter.source, outside, adapter.added)


def _without_prefix(name: str) -> str:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _unfit(adapter: Adapter, why: str) -> InputError:
    return InputError(
        f"'{adapter.source}' is a LoRA for another model: {why}. Wan2.1-I2V-14B takes LoRAs that were made for it."
    )
