# SPDX-License-Identifier: Apache-2.0
"""Where the published files of Wan2.1 and EX-4D lie on this machine. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ex4d.document import Json
from ex4d.errors import MachineError
from ex4d.generation.options import Lora
from ex4d.generation.wan.modes import Mode
from ex4d.models import MODELS, Model, find_weights, models_root
from ex4d.models.record import read_record
from ex4d.models.registry import CLIP, DRAFT_LORA, EX4D_ADAPTER, T5, TOKENIZER, VAE, WAN_SHARDS


@dataclass(frozen=True)
class WanFiles:
    """Where everything lies, as published."""

    dit: tuple[Path, ...]
    config: Path  # of the DiT: its heads and eps
    text_encoder: Path
    tokenizer: Path  # a folder
    image_encoder: Path
    vae: Path
    adapter: Path  # ex4d.ckpt
    loras: tuple[tuple[Path, float], ...] = ()  # stacked on it, with their strengths


def find_wan_files(mode: Mode, loras: Sequence[Lora] = ()) -> WanFiles:
    """Find all files that a mode needs.

    Args:
        mode: a distilled one needs a LoRA of its own.
        loras: of the models folder's `loras`, with or without `.safetensors` behind their names.

    Raises:
        MachineError: something is not on this machine; the message says how to get it.
    """
    wan, ex4d = find_weights(MODELS["wan"]), find_weights(MODELS["ex4d"])
    stacked = [(find_weights(MODELS["draft"]) / DRAFT_LORA, 1.0)] if mode.distilled else []
    stacked += [(_lora_file(lora.name), lora.strength) for lora in loras]
    return wan_files(wan, ex4d / EX4D_ADAPTER, stacked)


def wan_files(folder: Path, adapter: Path, loras: Sequence[tuple[Path, float]] = ()) -> WanFiles:
    """The files of a folder as Wan-AI publishes it.

    Args:
        folder: Wan2.1-I2V-14B-480P.
        adapter: `ex4d.ckpt`.
        loras: other LoRAs, with their strengths.
    """
    return WanFiles(
        dit=tuple(folder / shard for shard in WAN_SHARDS),
        config=folder / "config.json",
        text_encoder=folder / T5,
        tokenizer=folder / TOKENIZER,
        image_encoder=folder / CLIP,
        vae=folder / VAE,
        adapter=adapter,
        loras=tuple(loras),
    )


def text_encoder_id(files: WanFiles) -> str:
    """Names the text encoder's weights without reading their 11 GB: kept embeddings belong to them."""
    return file_id(files.text_encoder)


def file_id(path: Path) -> str:
    """Names a file of Wan2.1's weights without reading it: by the sum it was fetched with, else by place and time."""
    record = read_record(path.parent, MODELS["wan"].repository)
    known = None if record is None else record.files.get(path.name)
    if known is not None and known.sha256 is not None and path.stat().st_size == known.size:
        return known.sha256
    stat = path.stat()
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def described(files: WanFiles) -> dict[str, Json]:
    """Which weights these are, for a take's record."""
    return {
        "wan": _version(MODELS["wan"], files.config.parent),
        "ex4d": _version(MODELS["ex4d"], files.adapter.parent),
        "loras": [f"{path.name}:{strength:g}" for path, strength in files.loras],
    }


def _version(model: Model, folder: Path) -> str:
    record = read_record(folder, model.repository)
    return model.repository if record is None else f"{model.repository} at {record.revision}"


def _lora_file(name: str) -> Path:
    folder = models_root() / "loras"
    for path in (folder / name, folder / f"{name}.safetensors"):
        if path.is_file():
            return path
    raise MachineError(f"There is no LoRA '{name}' in '{folder}'. Copy its file there, or leave it out.")
