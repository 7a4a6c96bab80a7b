# SPDX-License-Identifier: Apache-2.0
"""Preparing a dataset: many videos, several processes, and going on where the last run stopped.

The samples and their order are planned first, from the videos alone. Each sample is made on its own, anywhere, into
`.parts`; whenever the next shard's samples are all there, they are joined and the index gains a line. So the dataset
never depends on how many processes worked or on how often they were stopped, and what the index names is whole.
"""

import contextlib
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.synchronize import Event as EventType
from pathlib import Path

import cv2

from ex4d.depth import SourceOptions, best_source, depth_source
from ex4d.depth.finding import require_licence
from ex4d.depth.known import KNOWN_OPTIONS
from ex4d.errors import Cancelled, InputError, MachineError, VideoError
from ex4d.licence import allowed_by_all
from ex4d.progress import Progress, ProgressCallback
from ex4d.storage import file_sha256
from ex4d.training.dataset import (
    INDEX,
    DamagedShardError,
    DatasetError,
    Index,
    Record,
    Shard,
    join,
    read_index,
    read_record,
    write_index,
)
from ex4d.training.options import PrepareOptions
from ex4d.training.sample import Made, Task, make_sample
from ex4d.video_decode import read_timeline

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mxf", ".mpg", ".mpeg", ".ts", ".wmv"}
PARTS, SHEETS = ".parts", "sheets"
SHARD_SAMPLES = 64  # about 1 GB of 49 frames at 512 x 512, the size that webdataset's authors advise
TICK_S = 0.5  # how often a waiting run looks whether it is to stop
LOOKING, STAGE = "Looking at the videos", "Preparing samples"


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


@dataclass(frozen=True)
class _Job:
    """What a worker process is told."""

    task: Task
    options: PrepareOptions
    folder: Path
    sheets: bool

    @property
    def part(self) -> Path:
        return self.folder / PARTS / f"{self.task.key}.tar"

    @property
    def label(self) -> str:
        """For people."""
        last = self.task.first_frame + self.options.frame_count - 1
        return f"{self.task.video.name}, frames {self.task.first_frame} to {last}"


@dataclass
class _Plan:
    tasks: list[Task] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


Outcome = Made | str  # a sample, or why there is none


def prepare(
    videos: Sequence[Path],
    folder: Path,
    options: PrepareOptions | None = None,
    workers: int = 1,
    shard_samples: int = SHARD_SAMPLES,
    sheets: bool = True,
    progress: ProgressCallback | None = None,
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

    Raises:
        DatasetError: the folder holds a dataset made with other settings.
        InputError: nothing can be made of these videos; the message says why.
        MachineError: this machine cannot make samples.
    """
    options = options or PrepareOptions()
    for name, value in (("workers", workers), ("samples per shard", shard_samples)):
        if value < 1:
            raise InputError(f"The number of {name} must be at least 1, got {value}.")
    _check_source(options)
    index = _begun(folder, options)
    plan = _planned(_found(videos), options, progress)
    index = replace(index, skipped={**index.skipped, **plan.skipped})
    jobs = [_Job(task, options, folder, sheets) for task in plan.tasks if task.key not in index.keys]
    started, before = time.monotonic(), len(index.records)
    notices, skipped, made_frames = list(plan.notices), dict(plan.skipped), 0
    chunks = [jobs[first : first + shard_samples] for first in range(0, len(jobs), shard_samples)]
    outcomes: dict[str, Outcome] = {}
    with contextlib.closing(_outcomes(jobs, workers, progress)) as results:
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


def _check_source(options: PrepareOptions) -> None:
    """Refuse what would fail for every video alike."""
    if {kind for kind, share in options.shares.items() if share} == {"tracking"}:
        return  # needs no depth
    name = options.depth
    if name == "auto":
        name = "file" if options.depth_file is not None else best_source()
    own = {key: value for key, value in options.depth_options.items() if key not in (*KNOWN_OPTIONS, "normalise")}
    file = None if options.depth_file is None else Path(options.depth_file)
    source = depth_source(name, SourceOptions(file, options.depth_kind, None, None, own))
    require_licence(source, options.accept_licence)


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


def _found(videos: Sequence[Path]) -> list[Path]:
    """The video files, folders opened."""
    found: list[Path] = []
    for path in videos:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"The folder '{path}' holds no video ({', '.join(sorted(SUFFIXES))}).")
            found += inside
        else:
            found.append(path)
    return found


def _planned(videos: Sequence[Path], options: PrepareOptions, progress: ProgressCallback | None) -> _Plan:
    """Cut the videos into samples; the same file counts once, wherever it lies."""
    plan = _Plan()
    known: dict[str, str] = {}
    for number, video in enumerate(videos):
        tell = _told(progress, number, len(videos))
        try:
            timeline = read_timeline(video, tell)
        except VideoError as error:
            plan.skipped[video.name] = str(error)
            continue
        sha256 = file_sha256(video, LOOKING, tell)
        if sha256 in known:
            plan.skipped[video.name if video.name != known[sha256] else str(video)] = (
                f"the same file as {known[sha256]}"
            )
            continue
        known[sha256] = video.name
        count, window = len(timeline.picks), options.frame_count
        if timeline.damage is not None:
            plan.notices.append(f"'{video.name}' is cut off ({timeline.damage}): its first {count} frames are used.")
        if count < window:
            plan.skipped[video.name] = f"it has {count} frames, a sample needs {window}"
            continue
        if count % window:
            plan.notices.append(f"'{video.name}': its last {count % window} of {count} frames fill no sample.")
        plan.tasks += [
            Task(video, sha256, first, variant)
            for first in range(0, count - window + 1, window)
            for variant in range(options.variants)
        ]
    return plan


def _told(progress: ProgressCallback | None, number: int, count: int) -> ProgressCallback:
    """Whatever a step reports about one video, the run reports about all."""

    def tell(_: Progress) -> None:
        if progress is not None:
            progress(Progress(LOOKING, number, count))

    return tell


def _with_shard(folder: Path, index: Index, jobs: Sequence[_Job], outcomes: dict[str, Outcome]) -> Index:
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


def _outcomes(
    jobs: Sequence[_Job], workers: int, progress: ProgressCallback | None
) -> Generator[tuple[_Job, Outcome], None, None]:
    """Make the samples, in whatever order they get ready; those of a stopped run first."""
    start, done, open_jobs = time.monotonic(), 0, []
    for job in jobs:
        try:
            made = Made(read_record(job.part), (), fresh=False) if job.part.exists() else None
        except DamagedShardError:
            made = None
        if made is None:
            open_jobs.append(job)
        else:
            done += 1
            yield job, made
    kept = done

    def tell(*_: object) -> None:
        if progress is not None:
            eta_s = None if done == kept else (time.monotonic() - start) / (done - kept) * (len(jobs) - done)
            progress(Progress(STAGE, done, len(jobs), eta_s))

    tell()
    pool = _in_processes(open_jobs, workers, tell) if workers > 1 else ((job, _make(job, tell)) for job in open_jobs)
    for job, outcome in pool:
        done += 1
        tell()
        yield job, outcome


def _in_processes(jobs: Sequence[_Job], workers: int, tell: ProgressCallback) -> Iterator[tuple[_Job, Outcome]]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        max(1, min(workers, len(jobs))), mp_context=context, initializer=_begin_worker, initargs=(stop,)
    )
    try:
        running = {pool.submit(_make_in_worker, job): job for job in jobs}
        while running:
            ready, _ = wait(running, timeout=TICK_S, return_when=FIRST_COMPLETED)
            tell(Progress(STAGE, 0, 0))
            for future in ready:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise MachineError(
            "A worker process died, most likely for want of memory. Use fewer --workers; what is done is kept, and the "
            "same command goes on from there."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_stop: EventType | None = None  # in a worker process: set when it is to end


def _begin_worker(stop: EventType) -> None:
    """One core for each process; an interrupt from the keyboard reaches the parent, which tells the workers."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _make_in_worker(job: _Job) -> Outcome:
    def look(_: Progress) -> None:
        if _stop is not None and _stop.is_set():
            raise Cancelled("The preparation was stopped.")

    return _make(job, look)


def _make(job: _Job, progress: ProgressCallback | None = None) -> Outcome:
    sheet = job.folder / SHEETS / f"{job.task.key}.jpg" if job.sheets else None
    try:
        return make_sample(job.task, job.options, job.part, sheet, progress)
    except InputError as error:
        return str(error)
