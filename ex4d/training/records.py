# SPDX-License-Identifier: Apache-2.0
"""What a training sample is and says about itself."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ex4d.document import Fields, Json
from ex4d.errors import InputError

SIDE_STEP = 16  # pixels of a token of Wan2.1: its VAE's 8 times its patch's 2
FRAME_STEP = 4  # frames of a latent of Wan2.1 after the first one, so clips have 4 n + 1

MaskKind = Literal["rendering", "tracking", "both"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)


class DatasetError(InputError):
    """A dataset is missing, written by a newer version, or made with other settings."""

    code = "bad_dataset"


class DamagedShardError(DatasetError):
    """A shard is there but cannot be used; other shards may be fine."""

    code = "damaged_shard"


@dataclass(frozen=True)
class Record:
    """What a sample says about itself: its KEY.json."""

    key: str  # 16 hexadecimal digits of where it comes from
    caption: str
    fps: str  # exact, such as 24000/1001
    frame_count: int  # 4 n + 1
    width: int  # multiples of 16
    height: int
    mask_kind: MaskKind
    mask_seed: int  # of everything random in it
    mask: dict[str, Json]  # what was drawn from that seed: shapes, jitter, seen share
    camera: dict[str, Json]  # the path that made a rendering mask; empty without one
    source: str  # name of the video file
    source_sha256: str  # of the whole file
    first_frame: int  # of the sample in that file, 0-based, at its constant rate
    depth_source: str | None  # None: no depth was needed
    depth_licence: str | None
    commercial_use: bool | None  # whether the depth's licence allows paid work; None when only its maker knows
    member_sha256: dict[str, str]  # of target.mkv and mask.mkv


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip to learn from."""

    record: Record
    target: NDArray[np.uint8]  # RGB. [T, H, W, 3]
    mask: NDArray[np.bool_]  # True where the model is given the target. [T, H, W]


def record_of(fields: Fields) -> Record:
    """A record as its JSON says it, or ShotError."""
    return Record(
        key=fields.text("key"),
        caption=fields.text("caption"),
        fps=fields.text("fps"),
        frame_count=fields.integer("frame_count"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        mask_kind=fields.choice("mask_kind", MASK_KINDS),
        mask_seed=fields.integer("mask_seed"),
        mask=fields.json_object("mask"),
        camera=fields.json_object("camera"),
        source=fields.text("source"),
        source_sha256=fields.text("source_sha256"),
        first_frame=fields.integer("first_frame"),
        depth_source=fields.optional_text("depth_source"),
        depth_licence=fields.optional_text("depth_licence"),
        commercial_use=fields.optional_boolean("commercial_use"),
        member_sha256=fields.text_map("member_sha256"),
    )
