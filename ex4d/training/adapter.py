# SPDX-License-Identifier: Apache-2.0
"""The part that learns: a LoRA on the layers of the EX-4D release, and its camera encoder; 99.8 M numbers in float32.

The LoRA is peft's, as in the release. Names in files are those of `ex4d.ckpt`, so that the release and our own painting
read what was trained here.
"""

import itertools
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    LoraConfig,
    inject_adapter_in_model,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from ex4d.errors import InputError
from ex4d.generation.wan.camera_encoder import HIDDEN_CHANNELS, camera_encoder
from ex4d.generation.wan.checkpoint import CAMERA_NAMES, EX4D_TARGETS, Adapter, check_fit, read_ex4d
from ex4d.storage import replacing

RANK = ALPHA = 16  # EX-4D release: scale 1
LORA_NAMES = {"down": "lora_A.default.weight", "up": "lora_B.default.weight"}
FORMATS = (".ckpt", ".safetensors")


def with_fresh_lora(dit: nn.Module, seed: int = 0) -> None:
    """Put a LoRA that changes nothing yet beside the linears of the blocks, and freeze everything else.

    Args:
        dit: diffsynth's WanModel.
        seed: of the halves that are not zero.
    """
    targets = "|".join(target.replace(".", r"\.") for target in EX4D_TARGETS)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=rf"blocks\.\d+\.({targets})", bias="none")
    dit.requires_grad_(False)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks for a config that only models of transformers have
        torch.manual_seed(seed)
        inject_adapter_in_model(config, dit)
    module: Any
    for module in dit.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # autocast rounds the weights instead: no copies of the tokens
    for name, parameter in dit.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def fresh_camera_encoder(tokens: int, hidden: int = HIDDEN_CHANNELS, seed: int = 0) -> nn.ModuleDict:
    """A camera encoder that adds nothing to the tokens yet.

    Args:
        tokens: channels of the DiT.
        hidden: channels between its layers.
        seed: of the layers before the last.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = camera_encoder(hidden, tokens)
    for parameter in encoder["latent_patch_embedding"].parameters():
        nn.init.zeros_(parameter)
    return encoder


def read_start(path: Path, dit: Any) -> Adapter:
    """Read an adapter to go on from.

    Args:
        path: as `ex4d.ckpt`.
        dit: the network that it is for, without LoRA.

    Raises:
        MachineError: it is missing or truncated.
        InputError: it is for another network, or of another rank.
    """
    adapter = read_ex4d(path, blocks=len(dit.blocks))
    check_fit(dit, adapter)
    for layer, change in adapter.layers.items():
        if len(change.down) != RANK or change.scale != 1:
            raise InputError(
                f"'{path}' has a LoRA of rank {len(change.down)} and scale {change.scale:g} at {layer}. Training "
                f"starts from rank {RANK} and scale 1, as the release's: choose another 'start'."
            )
    return adapter


def named(network: nn.Module) -> dict[str, nn.Parameter]:
    """What learns, by its name in files.

    Args:
        network: a TrainedNetwork, wrapped for several processes or not.
    """
    return {
        published_name(name): parameter for name, parameter in network.named_parameters() if parameter.requires_grad
    }


def published_name(name: str) -> str:
    """The name in `ex4d.ckpt` of a parameter of a TrainedNetwork."""
    for inner in ("module.", "dit.", "camera_encoder."):
        name = name.removeprefix(inner)
    return name.replace(".trained.", ".")


def tensors_of(adapter: Adapter) -> dict[str, Tensor]:
    """An adapter's tensors under the names of `ex4d.ckpt`."""
    lora = {
        f"{layer}.{LORA_NAMES[half]}": getattr(change, half)
        for layer, change in adapter.layers.items()
        for half in ("down", "up")
    }
    return {**lora, **adapter.camera}


def fill(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Give what learns, or what is kept of it, its values.

    Args:
        parameters: written in place.
        tensors: under the same names.
        source: the file's name, for messages.

    Raises:
        InputError: names or shapes differ.
    """
    fits = parameters.keys() == tensors.keys() and all(
        parameter.shape == tensors[name].shape for name, parameter in parameters.items()
    )
    if not fits:
        raise InputError(
            f"'{source}' does not fit the network that is trained: {len(tensors)} tensors are in it, {len(parameters)} "
            "were expected with the same shapes."
        )
    for name, parameter in parameters.items():
        set_whole(parameter.data, tensors[name])


def whole(tensor: Tensor) -> Tensor:
    """A copy in main memory, gathered from all processes where its parts are spread; all of them have to ask."""
    full: Any = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    copy: Tensor = full.detach().to("cpu", copy=True)
    return copy


def set_whole(tensor: Tensor, values: Tensor) -> None:
    """Write all values of a tensor; where its parts are spread, each process takes its own."""
    values = values.to(tensor.device, tensor.dtype)
    if hasattr(tensor, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        spread: Any = tensor
        values = distribute_tensor(values, spread.device_mesh, spread.placements)
    tensor.copy_(values)


def count(parameters: Iterable[Tensor]) -> int:
    """How many numbers these are."""
    return sum(parameter.numel() for parameter in parameters)


def write_adapter(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what was learned so that the EX-4D release and `ex4d generate` read it.

    Args:
        path: .ckpt for both, .safetensors for ours alone.
        tensors: under the names of `ex4d.ckpt`.

    Raises:
        InputError: another ending, or the tensors are not those of one adapter.
        StorageError: the disk is full or refuses to be written.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"An adapter is written as {' or '.join(FORMATS)}, got '{path.name}'.")
    blocks = 1 + max((int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")), default=-1)
    layers = (f"blocks.{block}.{target}" for block, target in itertools.product(range(blocks), EX4D_TARGETS))
    wanted = {*CAMERA_NAMES, *(f"{layer}.{half}" for layer in layers for half in LORA_NAMES.values())}
    if not blocks or set(tensors) != wanted:
        raise InputError(f"This is no whole adapter: {len(tensors)} tensors, {len(wanted)} were expected.")
    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    with replacing(path) as temporary:
        if path.suffix == ".ckpt":
            torch.save(ordered, temporary)
        else:
            save_file(ordered, temporary)
