# SPDX-License-Identifier: Apache-2.0
"""Preparing a dataset: many videos, several processes, and going on where the last run stopped.

The samples and their order are planned first, from the videos alone. Each sample is made on its own, anywhere, into
`.parts`; whenever the next shard's samples are all there, they are joined and the index gains a line. So the dataset
never depends on how many processes worked or on how often they were stopped, and what the index names is whole.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ex4d.depth import SourceOptions, best_source, depth_source
from ex4d.depth.finding import require_licence
from ex4d.depth.known import KNOWN_OPTIONS
from ex4d.errors import InputError
from ex4d.licence import allowed_by_all
from ex4d.progress import ProgressCallback
from ex4d.raster import rasteriser
from ex4d.training.dataset import INDEX, Index, Shard, read_index, write_index
from ex4d.training.making import PARTS, Job, Maker, Outcome, in_processes, in_this_process, make_samples
from ex4d.training.on_ray import Farm, on_cluster
from ex4d.training.options import PrepareOptions
from ex4d.training.plan import found_videos, planned
from ex4d.training.records import DatasetError, Record
from ex4d.training.sample import Made
from ex4d.training.shards import join

SHARD_SAMPLES = 64  # 0.5 to 0.9 GB of 49 frames at 512 x 512


@dataclass(frozen=True)
class Prepared:
    """What a run did."""

    index: Index
    new_samples: int
    skipped: dict[str, str]  # name of a video or of a part of one -> why
    notices: tuple[str, ...]
    made_frames: int  # in this run; samples that a stopped run had left are new, but not made
    seconds: float  # that took

    @property
    def kinds(self) -> dict[str, int]:
        """How many samples there are of each kind of mask."""
        return dict(Counter(record.mask_kind for record in self.index.records))

    @property
    def commercial_use(self) -> bool | None:
        """Whether all depth in it allows paid work; None when only its maker knows."""
        return allowed_by_all(*(record.commercial_use for record in self.index.records))


def prepare(
    videos: Sequence[Path],
    folder: Path,
    options: PrepareOptions | None = None,
    workers: int = 1,
    shard_samples: int = SHARD_SAMPLES,
    sheets: bool = True,
    progress: ProgressCallback | None = None,
    farm: Farm | None = None,
) -> Prepared:
    """Make or extend a dataset.

    Args:
        videos: video files, and folders of them.
        folder: of the dataset. What it already holds of these videos is kept.
        options: what decides the samples; None for the default ones.
        workers: processes; 1 for this one alone.
        shard_samples: samples per shard.
        sheets: write a picture per sample to `sheets`.
        progress: told after each sample, and often enough to stop in between.
        farm: the cluster that makes the samples instead of this machine.

    Raises:
        DatasetError: the folder holds a dataset made with other settings.
        InputError: nothing can be made of these videos; the message says why.
        MachineError: this machine cannot make samples.
    """
    options = options or PrepareOptions()
    for name, value in (("workers", workers), ("samples per shard", shard_samples)):
        if value < 1:
            raise InputError(f"The number of {name} must be at least 1, got {value}.")
    depth = _checked_source(options)
    index = _begun(folder, options)
    files = found_videos(videos)
    plan = planned(files, options, progress)
    earlier = {name: why for name, why in index.skipped.items() if name not in {file.name for file in files}}
    index = replace(index, skipped={**earlier, **plan.skipped})
    # What this machine chooses counts for all who make samples, and they may run in another folder.
    file = options.depth_file
    if file is not None and not file.startswith("{folder}"):
        file = str(Path(file).absolute())
    chosen = replace(options, depth=depth, depth_file=file, raster=rasteriser(options.raster).name)
    jobs = [
        Job(replace(task, video=task.video.absolute()), chosen, folder.absolute(), sheets)
        for task in plan.tasks
        if task.key not in index.keys
    ]
    started, before = time.monotonic(), len(index.records)
    notices, skipped, made_frames = list(plan.notices), dict(plan.skipped), 0
    chunks = [jobs[first : first + shard_samples] for first in range(0, len(jobs), shard_samples)]
    outcomes: dict[str, Outcome] = {}
    maker: Maker = in_this_process if workers == 1 else partial(in_processes, workers)
    if farm is not None:
        maker = partial(on_cluster, farm)
    with contextlib.closing(make_samples(jobs, maker, progress)) as results:
        for job, outcome in results:
            outcomes[job.task.key] = outcome
            while chunks and all(one.task.key in outcomes for one in chunks[0]):
                index = _with_shard(folder, index, chunks.pop(0), outcomes)
    for job in jobs:
        found = outcomes[job.task.key]
        if isinstance(found, str):
            skipped[job.label] = found
        else:
            notices += found.notices
            made_frames += options.frame_count if found.fresh else 0
    seconds = time.monotonic() - started
    write_index(folder, index)
    with contextlib.suppress(OSError):
        (folder / PARTS).rmdir()
    if not index.records:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:5])
        raise InputError(f"No sample could be made. {reasons or 'There is no video.'}")
    return Prepared(index, len(index.records) - before, skipped, tuple(dict.fromkeys(notices)), made_frames, seconds)


def _checked_source(options: PrepareOptions) -> str:
    """Refuse what would fail for every video alike. Returns: the depth source's name"""
    if {kind for kind, share in options.shares.items() if share} == {"tracking"}:
        return options.depth  # needs none
    name = options.depth
    if name == "auto":
        name = "file" if options.depth_file is not None else best_source()
    own = {key: value for key, value in options.depth_options.items() if key not in (*KNOWN_OPTIONS, "normalise")}
    file = None if options.depth_file is None else Path(options.depth_file)
    source = depth_source(name, SourceOptions(file, options.depth_kind, None, None, own))
    require_licence(source, options.accept_licence)
    return name


def _begun(folder: Path, options: PrepareOptions) -> Index:
    """The dataset so far; a new one is begun, so that the next run knows its settings."""
    if not (folder / INDEX).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"'{folder}' exists and is no dataset. Choose another folder.")
        index = Index(options.settings())
        write_index(folder, index)
        return index
    index = read_index(folder)
    settings = options.settings()
    differs = [key for key in settings if index.settings.get(key) != settings[key]]
    if differs:
        key = differs[0]
        raise DatasetError(
            f"'{folder}' was made with other settings: {key} was {index.settings.get(key)}, now it is {settings[key]}. "
            "Use the same settings to go on, or another folder."
        )
    return index


def _with_shard(folder: Path, index: Index, jobs: Sequence[Job], outcomes: dict[str, Outcome]) -> Index:
    """Join finished samples to the next shard, note it, and only then drop them."""
    made = [(job, outcome) for job in jobs if isinstance(outcome := outcomes[job.task.key], Made)]
    failed = {job.task.key: f"{job.label}: {why}" for job in jobs if isinstance(why := outcomes[job.task.key], str)}
    records: tuple[Record, ...] = tuple(outcome.record for _, outcome in made)
    shards = index.shards
    if made:
        path = folder / f"shard-{len(shards):06d}.tar"
        sha256 = join(path, [job.part for job, _ in made])
        shards += (Shard(path.name, sha256, path.stat().st_size, tuple(record.key for record in records)),)
    index = replace(index, shards=shards, records=index.records + records, skipped={**index.skipped, **failed})
    write_index(folder, index)
    for job, _ in made:
        with contextlib.suppress(OSError):  # left behind, it only takes room
            job.part.unlink()
    return index
