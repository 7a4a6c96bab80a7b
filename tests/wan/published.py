# SPDX-License-Identifier: Apache-2.0
"""The published files of Wan2.1 and EX-4D, with the names they have on the hub and tiny random weights inside."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_wan import SMALL, Size, known_weights, random_lora, tiny_dit, tiny_image_encoder, tiny_text_encoder, tiny_vae
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.models.registry import CLIP, EX4D_ADAPTER, T5, TOKENIZER, VAE, WAN_SHARDS


def publish(root: Path, size: Size = SMALL) -> tuple[Path, Path]:
    """Write everything.

    Returns:
        The folder of Wan2.1, and `ex4d.ckpt`.
    """
    wan, ex4d = root / "Wan-AI" / "Wan2.1-I2V-14B-480P", root / "yihouxiang" / "EX-4D"
    (wan / TOKENIZER).mkdir(parents=True)
    ex4d.mkdir(parents=True)
    publish_dit(wan, size)
    torch.save(tiny_text_encoder(size, torch.bfloat16).network.state_dict(), wan / T5)
    torch.save(_inner(tiny_vae().state_dict()), wan / VAE)
    # The file also holds the half of CLIP that reads, and its temperature.
    clip = {
        **_inner(tiny_image_encoder().state_dict()),
        "textual.head.weight": torch.zeros(2),
        "log_scale": torch.ones(()),
    }
    torch.save(clip, wan / CLIP)
    publish_tokenizer(wan / TOKENIZER)
    return wan, publish_adapter(ex4d / EX4D_ADAPTER, size)


def publish_adapter(path: Path, size: Size = SMALL) -> Path:
    """EX-4D's LoRA and camera encoder."""
    encoder = known_weights(camera_encoder(hidden=32, tokens=size.dim), 4)
    torch.save({**random_lora(tiny_dit(size)), **encoder.state_dict()}, path)
    return path


def publish_dit(folder: Path, size: Size) -> None:
    """The DiT in seven float32 shards with their index, and its configuration."""
    weights = tiny_dit(size).state_dict()
    names = sorted(weights)
    index = {}
    for number, shard in enumerate(WAN_SHARDS):
        part = {name: weights[name].contiguous() for name in names[number :: len(WAN_SHARDS)]}
        save_file(part, folder / shard)
        index |= dict.fromkeys(part, shard)
    content = {"metadata": {"total_size": 0}, "weight_map": index}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    config = {"_class_name": "WanModel", "dim": size.dim, "num_heads": size.heads, "eps": 1e-6}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def publish_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, ended by </s>."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "flower": 4, "turns": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    whole.save_pretrained(folder)
    # As on the hub: the class that the configuration names would not make the same ids.
    config = {"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "spiece.model").write_bytes(b"not read: tokenizer.json is")
    (folder / "special_tokens_map.json").write_text("{}", encoding="utf-8")


def _inner(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the name that diffsynth's wrapper puts in front."""
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}
