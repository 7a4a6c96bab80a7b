# SPDX-License-Identifier: Apache-2.0
"""Encoding clips once, before training: VAE, CLIP and text encoder are not needed afterwards.

One file per clip, named by what is in the clip, how its mask is eroded and which weights saw it; one per caption. They
are made as painting makes its conditions, with the release's arithmetic. The folder can be deleted at any time.
"""

import gc
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ex4d.errors import InputError
from ex4d.generation.wan.conditions import Seen, check_pictures, check_seen, eroded, masked_video, seen_of
from ex4d.generation.wan.files import WanFiles, file_id
from ex4d.generation.wan.models import WanModels, computing
from ex4d.generation.wan.prompts import TOKENS, embed
from ex4d.generation.wan.reference_vae import ReferenceVae
from ex4d.generation.wan.settings import PROMPT
from ex4d.generation.wan.tensors import read_tensors
from ex4d.progress import ProgressCallback, track
from ex4d.storage import replacing
from ex4d.training.records import Record, Sample

if TYPE_CHECKING:  # a GPU without video libraries can learn from what is encoded
    from ex4d.training.dataset import Dataset

SCHEMA = 1  # of the files: raised when they are made differently
CLIP_TENSORS = ("clean", *(field.name for field in fields(Seen)))


class Lesson(NamedTuple):
    """Clips to learn from, encoded, in the dtype of the encoders' weights."""

    clean: Tensor  # latents of the truth. [B, 16, f, h, w]
    seen: Seen
    words: Tensor  # embedding of the captions, zeros after the last word. [B, 512, 4096]

    def to(self, device: torch.device) -> "Lesson":
        """Where it is learned from."""
        seen = (getattr(self.seen, field.name).to(device) for field in fields(Seen))
        return Lesson(self.clean.to(device), Seen(*seen), self.words.to(device))


@dataclass(frozen=True)
class LatentCache:
    """The folder of encoded clips."""

    folder: Path
    weights: str  # names the encoders' weights and the dtype they compute in
    erosion_px: int | None  # see conditions.eroded

    def clip_path(self, record: Record) -> Path:
        """Where a clip's latents belong."""
        sums = [record.member_sha256[name] for name in sorted(record.member_sha256)]
        return self._path("clip", sums, self.weights, self.erosion_px, record.mask_seed)

    def words_path(self, record: Record) -> Path:
        """Where the embedding of its caption belongs."""
        return self._path("words", caption(record), self.weights)

    def lesson(self, records: Sequence[Record]) -> Lesson:
        """Read clips of one size as a batch.

        Raises:
            MachineError: a file is missing or damaged.
        """
        remedy = "Delete it and start again: it is made anew."
        clips = [read_tensors(self.clip_path(record), remedy) for record in records]
        words = [read_tensors(self.words_path(record), remedy)["words"] for record in records]
        stacked = {name: torch.stack([clip[name] for clip in clips]) for name in CLIP_TENSORS}
        padded = torch.stack([functional.pad(word, (0, 0, 0, TOKENS - len(word))) for word in words])
        return Lesson(stacked.pop("clean"), Seen(**stacked), padded)

    def _path(self, kind: str, *content: object) -> Path:
        name = hashlib.sha256(json.dumps([SCHEMA, *content]).encode()).hexdigest()
        return self.folder / f"{kind}-{name}.safetensors"


def caption(record: Record) -> str:
    """What the network is told about a clip; the release's prompt where nobody wrote anything."""
    return record.caption.strip() or PROMPT


def encoders_id(files: WanFiles, dtype: torch.dtype) -> str:
    """Names the encoders that clips are seen by."""
    return " ".join([*(file_id(path) for path in (files.vae, files.image_encoder, files.text_encoder)), str(dtype)])


def encode_missing(
    cache: LatentCache,
    dataset: "Dataset",
    numbers: Iterable[int],
    models: WanModels,
    progress: ProgressCallback | None = None,
) -> int:
    """Encode what is not in the cache yet.

    Args:
        cache: where to.
        dataset: of the clips.
        numbers: which of its clips; each process takes some.
        models: text encoder, VAE and CLIP are used.
        progress: told after every caption and every clip; it may cancel.

    Returns:
        How many clips were encoded.

    Raises:
        DatasetError: a shard is damaged.
        InputError: a clip cannot be learned from; it is named.
    """
    records = {number: dataset.index.records[number] for number in numbers}
    captions = {cache.words_path(record): caption(record) for record in records.values()}
    _encode_words({path: words for path, words in captions.items() if not path.is_file()}, models, progress)
    missing = [number for number, record in records.items() if not cache.clip_path(record).is_file()]
    for number in track(missing, "Encoding the clips", progress):
        tensors = encode(dataset[number], models, cache.erosion_px)
        _write(cache.clip_path(records[number]), tensors)
    return len(missing)


def encode(sample: Sample, models: WanModels, erosion_px: int | None) -> dict[str, Tensor]:
    """What is kept of a clip: `clean` of a `Lesson` and all of `Seen`, without their first dimension."""
    mask = eroded(sample.mask, erosion_px, sample.record.mask_seed)
    color = sample.target * mask[..., None]
    try:
        check_pictures(color, mask)
        check_seen(mask)
    except InputError as error:
        raise InputError(
            f"Clip {sample.record.key} of '{sample.record.source}' cannot be learned from: {error}"
        ) from error
    vae = ReferenceVae(models)
    seen = seen_of(models, color, mask, vae)
    everything = torch.ones(mask.shape, dtype=torch.bool, device=models.device)
    truth = masked_video(torch.from_numpy(sample.target).to(models.device), everything)[None].to(models.dtype)
    with torch.no_grad(), computing(models.vae, models.device):
        clean = vae.encode(truth)
    return {"clean": clean[0], **{field.name: getattr(seen, field.name)[0] for field in fields(Seen)}}


def _encode_words(captions: dict[Path, str], models: WanModels, progress: ProgressCallback | None) -> None:
    if not captions:
        return
    encoder = models.load_text_encoder()
    with computing(encoder.network, models.device):
        for path, words in track(captions.items(), "Reading the captions", progress, len(captions)):
            _write(path, {"words": embed(models, encoder, words)})
    del encoder
    gc.collect()


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)
