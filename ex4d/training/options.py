# SPDX-License-Identifier: Apache-2.0
"""What decides the samples of a dataset."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ex4d.depth import DEPTH_KINDS, DepthKind
from ex4d.document import Json
from ex4d.errors import InputError
from ex4d.raster import RASTERISERS
from ex4d.training.records import FRAME_STEP, MASK_KINDS, SIDE_STEP

# The paper mixes rendering and tracking masks and finds both needed; in which shares is not published in what we could
# read. Halves, with some of the rendering half having tracked holes as well.
SHARES = {"rendering": 0.4, "tracking": 0.4, "both": 0.2}
MAX_FRAMES = 1001
MAX_JITTER_PX = 64


@dataclass(frozen=True)
class PrepareOptions:
    """How videos become samples.

    Raises:
        InputError: a field says what cannot be done.
    """

    depth: str = "auto"  # name of a depth source; auto takes the best one that this machine has
    depth_file: str | None = None  # of each video: {folder} and {name} stand for its folder and its name without suffix
    depth_kind: DepthKind = "z"  # what that file holds
    depth_options: dict[str, str] = field(default_factory=dict)  # of the source
    accept_licence: bool = False  # of a source that forbids paid work
    raster: str = "auto"
    frame_count: int = 49  # of a sample, 4 n + 1; the release's 49
    size: tuple[int, int] | None = None  # width and height of all samples; None: each video's own shape
    variants: int = 1  # masks for the same frames
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))  # of each kind of mask, any sum
    jitter_px: int = 4  # by how much holes grow at most
    caption: str | None = None  # of videos without a caption file; None: what the release asks its model for
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.frame_count <= MAX_FRAMES or self.frame_count % FRAME_STEP != 1:
            raise InputError(
                f"A sample must have {FRAME_STEP} n + 1 frames, from 1 to {MAX_FRAMES}, got {self.frame_count}. "
                "The release's model was trained on 49."
            )
        if self.size is not None and any(side < SIDE_STEP or side % SIDE_STEP for side in self.size):
            raise InputError(f"A sample's sides must be multiples of {SIDE_STEP}, got {'x'.join(map(str, self.size))}.")
        if self.variants < 1:
            raise InputError(f"Each part of a video needs at least one mask, got {self.variants}.")
        if not 0 <= self.jitter_px <= MAX_JITTER_PX:
            raise InputError(f"The jitter must be from 0 to {MAX_JITTER_PX} pixels, got {self.jitter_px}.")
        unknown = sorted(set(self.shares) - set(MASK_KINDS))
        values = self.shares.values()
        if unknown or not all(math.isfinite(v) and v >= 0 for v in values) or not sum(values) > 0:
            shown = ", ".join(f"{kind}={share:g}" for kind, share in self.shares.items())
            raise InputError(
                f"The shares of masks are numbers of 0 or more for {', '.join(MASK_KINDS)}, not all 0; got {shown}."
            )
        if self.raster not in ("auto", *RASTERISERS):
            raise InputError(f"There is no rasteriser '{self.raster}'. Choose auto, {', '.join(RASTERISERS)}.")
        if self.depth_kind not in DEPTH_KINDS:
            raise InputError(f"The kind of a depth file is one of {', '.join(DEPTH_KINDS)}, got '{self.depth_kind}'.")
        if self.seed < 0:
            raise InputError(f"The seed must be 0 or more, got {self.seed}.")

    def settings(self) -> dict[str, Json]:
        """What all samples of one dataset share. More variants can be added later."""
        fields = asdict(self)
        del fields["variants"], fields["accept_licence"]
        return {**fields, "size": None if self.size is None else list(self.size)}

    def depth_path(self, video: Path) -> Path | None:
        """The depth file of a video."""
        if self.depth_file is None:
            return None
        return Path(self.depth_file.replace("{folder}", str(video.parent)).replace("{name}", video.stem))
