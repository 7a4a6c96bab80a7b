# SPDX-License-Identifier: Apache-2.0
"""Words for the DiT. What UMT5 says about a prompt is kept on disk, so that its 11 GB are not loaded for known words.

One file per prompt, named by its words and by the weights that read them. Nothing in the folder is needed: it can be
deleted at any time.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from ex4d.cache_folder import cache_folder
from ex4d.errors import InputError, StorageError
from ex4d.generation.wan.models import TextEncoder, WanModels, computing
from ex4d.progress import ProgressCallback, track
from ex4d.storage import replacing

TOKENS = 512  # the DiT's context: shorter prompts are padded with zeros


def prompt_embeddings(
    models: WanModels, prompts: Sequence[str], progress: ProgressCallback | None = None
) -> list[Tensor]:
    """What the DiT is told for each prompt.

    Args:
        models: its text encoder is only loaded for a prompt that is not on disk.
        prompts: in the artist's words.
        progress: told after each prompt; it may cancel.

    Returns:
        In the text encoder's dtype, zeros after the last word, where the models compute. [1, 512, 4096] each
    """
    known = {prompt: _read(_path(models.text_encoder_id, models.dtype, prompt)) for prompt in prompts}
    unknown = [prompt for prompt, words in known.items() if words is None]
    if unknown:
        encoder = models.load_text_encoder()
        with computing(encoder.network, models.device):
            for prompt in track(unknown, "Reading the prompt", progress):
                known[prompt] = embed(models, encoder, prompt)
                _write(_path(models.text_encoder_id, models.dtype, prompt), known[prompt])
    return [_padded(known[prompt]).to(models.device) for prompt in prompts]


def are_known(text_encoder_id: str, dtype: torch.dtype, prompts: Sequence[str]) -> bool:
    """Whether all embeddings are on disk, so that the text encoder will not be needed."""
    paths = [_path(text_encoder_id, dtype, prompt) for prompt in prompts]
    return all(path is not None and path.is_file() for path in paths)


def embed(models: WanModels, encoder: TextEncoder, prompt: str) -> Tensor:
    """What UMT5 says about a prompt, up to its last word. [tokens, 4096]

    Raises:
        InputError: it is longer than what the DiT was made to be told.
    """
    ids, mask = encoder.tokenizer(prompt, return_mask=True, add_special_tokens=True)
    if bool(mask.all()):  # the tokenizer cuts without a word
        raise InputError(
            f"A prompt has less than {TOKENS} tokens, about 350 English words. One that begins with '{prompt[:40]}' "
            "has more: shorten it."
        )
    ids, mask = ids.to(models.device), mask.to(models.device)
    with torch.no_grad(), models.autocast():
        words: Tensor = encoder.network(ids, mask)
    return words[0, : int(mask.gt(0).sum())]


def _path(text_encoder_id: str, dtype: torch.dtype, prompt: str) -> Path | None:
    """Named by the sha256 of everything that decides an embedding; None when caches are off."""
    folder = cache_folder("prompts")
    parts = (prompt, text_encoder_id, str(dtype))
    return folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.safetensors" if folder else None


def _read(path: Path | None) -> Tensor | None:
    if path is None:
        return None
    try:
        words: Tensor = load_file(path)["words"]
    except FileNotFoundError:
        return None
    except (OSError, KeyError, SafetensorError):
        with contextlib.suppress(OSError):  # damaged: it is made again
            path.unlink()
        return None
    return words


def _write(path: Path | None, words: Tensor) -> None:
    if path is not None:
        with contextlib.suppress(StorageError), replacing(path) as temporary:  # a full disk costs the next run time
            save_file({"words": words.cpu().contiguous()}, temporary)


def _padded(words: Tensor) -> Tensor:
    """[tokens, 4096] -> [1, 512, 4096]"""
    return functional.pad(words, (0, 0, 0, TOKENS - len(words)))[None]
