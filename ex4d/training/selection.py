# SPDX-License-Identifier: Apache-2.0
"""Which clips of a dataset are learned from and which are judged by. Imports no torch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from ex4d.errors import InputError
from ex4d.training.records import Record


@dataclass(frozen=True)
class Selection:
    """Numbers of clips in the dataset's order."""

    learned: tuple[int, ...]
    held_out: tuple[int, ...]
    digest: str  # names what is learned from
    commercial_use: bool | None  # whether its depth allows paid work; None when only its maker knows


def select(records: Sequence[Record], held_out_videos: int, batch_size: int, compiled: bool = False) -> Selection:
    """Divide the clips; no video is in both parts.

    Args:
        records: of all clips.
        held_out_videos: how many videos are only judged by.
        batch_size: clips that are computed at once, which then have one size.
        compiled: whether blocks are compiled: each size once, and after eight of them none any more.

    Raises:
        InputError: nothing is left to learn from, or clips would differ in size that may not.
    """
    if not records:
        raise InputError("The dataset holds no clip. Add videos with `ex4d train prepare`.")
    videos = sorted({record.source_sha256 for record in records})  # in an order that does not depend on what they show
    if held_out_videos >= len(videos):
        raise InputError(
            f"held_out_videos is {held_out_videos} and the dataset has {len(videos)}: nothing is left to learn from. "
            f"Set it to {len(videos) - 1} or less."
        )
    sizes = sorted({(record.frame_count, record.height, record.width) for record in records})
    if len(sizes) > 1 and (batch_size > 1 or compiled):
        shown = ", ".join("x".join(map(str, size)) for size in sizes[:3])
        asked, cure = f"batch_size is {batch_size}", "Set it to 1 and use accumulation instead"
        if compiled:
            asked, cure = "compiled is true", "Set it to false, and batch_size to 1"
        raise InputError(
            f"{asked}, but the clips have {len(sizes)} different sizes ({shown}). {cure}, or prepare the dataset with "
            "one --size."
        )
    kept_out = set(videos[:held_out_videos])
    learned = tuple(number for number, record in enumerate(records) if record.source_sha256 not in kept_out)
    held_out = tuple(number for number, record in enumerate(records) if record.source_sha256 in kept_out)
    chosen = [records[number] for number in learned]
    said = [[record.key, record.caption, record.mask_seed, sorted(record.member_sha256.items())] for record in chosen]
    answers = {record.commercial_use for record in chosen}
    return Selection(
        learned,
        held_out,
        hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        False if False in answers else None if None in answers else True,
    )
