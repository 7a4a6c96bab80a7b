# SPDX-License-Identifier: Apache-2.0
"""From a part of one video to one sample: frames, a random mask, and the picture to judge it by."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import Array, pinhole_intrinsics
from ex4d.depth.clip import DepthClip
from ex4d.depth.finding import DepthRequest, find_depth
from ex4d.document import Json
from ex4d.errors import InputError, StorageError
from ex4d.lens import guessed_focal_px, noted_focal_px
from ex4d.progress import ProgressCallback
from ex4d.raster import Rasteriser, rasteriser
from ex4d.raster.cpu import CpuRasteriser
from ex4d.storage import replacing
from ex4d.training.captions import caption_of
from ex4d.training.cuts import cut_after
from ex4d.training.jitter import jittered, random_jitter
from ex4d.training.masks import cleaned, rendering_masks
from ex4d.training.options import PrepareOptions
from ex4d.training.paths import random_path
from ex4d.training.records import MASK_KINDS, MaskKind, Record
from ex4d.training.shards import write_sample
from ex4d.training.sheets import sheet
from ex4d.training.tracking_masks import STEP_PX, random_holes, tracking_masks
from ex4d.training.working import fitted, scale_to, working_size
from ex4d.video import Clip, read_video

CLEANED_PX = 5  # noise of the sample's true depth tears specks of up to 4 pixels at 512 x 512
# A path that loses the whole clip, or hides nothing of it, teaches nothing: then another one is drawn.
USEFUL_SEEN = (0.12, 0.97)
PATH_TRIES = 4


@dataclass(frozen=True)
class Task:
    """One sample to make. Everything that decides it is in here and in the options."""

    video: Path
    sha256: str  # of the video
    first_frame: int
    variant: int  # which of the masks for these frames

    @property
    def key(self) -> str:
        """Names the sample, wherever the video lies."""
        return hashlib.sha256(f"{self.sha256}:{self.first_frame}:{self.variant}".encode()).hexdigest()[:16]

    def seed(self, dataset_seed: int) -> int:
        """Of everything random in the sample."""
        text = f"{dataset_seed}:{self.sha256}:{self.first_frame}:{self.variant}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@dataclass(frozen=True)
class Made:
    """A sample on disk."""

    record: Record
    notices: tuple[str, ...]  # of its depth, for the artist
    fresh: bool = True  # False: a stopped run had made it


@dataclass(frozen=True)
class _Rendered:
    seen: Array
    new_view: Array
    about: dict[str, Json]
    depth: DepthClip


def make_sample(
    task: Task, options: PrepareOptions, path: Path, sheet_path: Path | None, progress: ProgressCallback | None = None
) -> Made:
    """Make one sample and write it.

    Args:
        task: which.
        options: how.
        path: the tar file to write.
        sheet_path: the picture to write (.jpg); None for none.
        progress: told at least once per frame.

    Raises:
        InputError: this part of the video gives no sample; the message says why.
        MachineError: this machine cannot make any.
    """
    caption = caption_of(task.video, options.caption)
    clip = read_video(task.video, task.first_frame, options.frame_count, progress)
    cut = cut_after(clip.frames)
    if cut is not None:
        raise InputError(
            f"it has a cut after frame {task.first_frame + cut}. Split the video there for samples from both sides"
        )
    size = options.size or working_size(clip.frames.shape[2], clip.frames.shape[1])
    target = fitted(clip.frames, size)
    seed = task.seed(options.seed)
    draw = np.random.default_rng(seed)
    shares = np.array([options.shares.get(kind, 0.0) for kind in MASK_KINDS])
    kind: MaskKind = MASK_KINDS[int(draw.choice(len(MASK_KINDS), p=shares / shares.sum()))]

    seen = np.ones(target.shape[:3], np.bool_)
    about: dict[str, Json] = {}
    rendered = None
    if kind != "tracking":
        rendered = _rendered(task, options, clip, target, seed, progress)
        seen &= rendered.seen
    if kind != "rendering":
        holes = random_holes(draw, *size, len(target))
        tracked, followed = tracking_masks(target, holes, progress)
        seen &= cleaned(tracked, 2 * STEP_PX + 1)
        about |= {"holes": holes.shapes, "placed_in_frame": holes.frame, "followed": round(followed, 4)}
    jitter = random_jitter(draw, len(target), options.jitter_px)
    seen = jittered(seen, jitter)
    seen[0] = True  # EX-4D release, recon.py and generate.py: the first frame is the source's own, without holes
    shown = seen.mean(axis=(1, 2))
    about |= {
        "seen_mean": round(float(shown.mean()), 4),
        "seen_least": round(float(shown.min()), 4),
        "grow_px": list(jitter.grow_px),
    }
    depth = None if rendered is None else rendered.depth
    record = Record(
        key=task.key,
        caption=caption,
        fps=str(clip.fps),
        frame_count=len(target),
        width=size[0],
        height=size[1],
        mask_kind=kind,
        mask_seed=seed,
        mask=about,
        camera={} if rendered is None else rendered.about,
        source=task.video.name,
        source_sha256=task.sha256,
        first_frame=task.first_frame,
        depth_source=None if depth is None else depth.source,
        depth_licence=None if depth is None else depth.licence,
        commercial_use=True if depth is None else depth.commercial_use,
        member_sha256={},
    )
    if sheet_path is not None:
        write_sheet(sheet_path, sheet(record, target, seen, None if rendered is None else rendered.new_view))
    record = write_sample(path, record, target, seen, progress)
    return Made(record, (*clip.notices, *(() if depth is None else depth.notices)))


def write_sheet(path: Path, page: Array) -> None:
    """Write a picture, or raise StorageError. page: RGB [h, w, 3]"""
    written, content = cv2.imencode(".jpg", np.ascontiguousarray(page[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not written:
        raise StorageError(f"'{path}' cannot be written: the picture is {list(page.shape)}.")
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def _rendered(
    task: Task, options: PrepareOptions, clip: Clip, target: Array, seed: int, progress: ProgressCallback | None
) -> _Rendered:
    """The mask of a random new camera, at the target's size."""
    height, width = target.shape[1:3]
    plate_height, plate_width = clip.frames.shape[1:3]
    file = options.depth_path(task.video)
    # A depth file belongs to the plate as it is; a model need not look at more pixels than the sample has.
    looked_at = clip if file is not None else dataclasses.replace(clip, frames=target)
    plate_scale = scale_to(plate_width, plate_height, (width, height))
    scale = plate_scale if file is not None else 1.0
    noted = noted_focal_px(task.video, plate_width, plate_height)
    focal_px = None if noted is None else noted[0] * plate_scale  # of the target
    request = DepthRequest(options.depth, file, options.depth_kind, options.depth_options, None, options.accept_licence)
    found = find_depth(looked_at, request, "exact", None if focal_px is None else focal_px / scale, None, progress)
    if focal_px is None:
        focal_px = guessed_focal_px(width)[0] if found.focal_px is None else found.focal_px * scale
    depth = fitted(found.depth, (width, height), nearest=True)
    sky = None if found.sky is None else fitted(found.sky, (width, height), nearest=True)
    intrinsics = pinhole_intrinsics(focal_px, width, height)
    backend = _backend(options.raster)
    for attempt in range(PATH_TRIES):
        path = random_path(seed + attempt, depth[0], intrinsics, len(target))
        seen, views = rendering_masks(target, depth, intrinsics, path.cameras, backend, sky, progress)
        seen = cleaned(seen, CLEANED_PX)
        if USEFUL_SEEN[0] <= seen.mean() <= USEFUL_SEEN[1]:
            break
    about: dict[str, Json] = {**path.about, "seed": seed + attempt, "focal_px": round(focal_px, 3)}
    return _Rendered(seen, views.color, about, found)


def _backend(name: str) -> Rasteriser:
    """The CPU draws one sample per core rather than one sample on all of them."""
    found = rasteriser(name)
    return CpuRasteriser(threads=1) if found.name == "cpu" else found
