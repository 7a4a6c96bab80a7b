# SPDX-License-Identifier: Apache-2.0
"""Making planned samples, each a file of its own, which a stopped run leaves: here in one process or in several."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event as EventType
from pathlib import Path

import cv2

from ex4d.errors import Cancelled, InputError, MachineError
from ex4d.progress import Progress, ProgressCallback
from ex4d.training.options import PrepareOptions
from ex4d.training.records import DamagedShardError
from ex4d.training.sample import Made, Task, make_sample
from ex4d.training.shards import read_record

PARTS, SHEETS = ".parts", "sheets"
TICK_S = 0.5  # how often a waiting run looks whether it is to stop
STAGE = "Preparing samples"

Outcome = Made | str  # a sample, or why there is none
Maker = Callable[[Sequence["Job"], ProgressCallback], Generator[tuple["Job", Outcome], None, None]]


@dataclass(frozen=True)
class Job:
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


def make_samples(
    jobs: Sequence[Job], maker: Maker, progress: ProgressCallback | None
) -> Generator[tuple[Job, Outcome], None, None]:
    """Make the samples, in whatever order they get ready; those of a stopped run first.

    Args:
        jobs: the samples.
        maker: makes those that are not there yet.
        progress: told after each sample, and often enough to stop in between.
    """
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
    with contextlib.closing(maker(open_jobs, tell)) as results:
        for job, outcome in results:
            done += 1
            tell()
            yield job, outcome


def in_this_process(jobs: Sequence[Job], tell: ProgressCallback) -> Generator[tuple[Job, Outcome], None, None]:
    """One after the other."""
    for job in jobs:
        yield job, make(job, tell)


def in_processes(
    workers: int, jobs: Sequence[Job], tell: ProgressCallback
) -> Generator[tuple[Job, Outcome], None, None]:
    """Several at a time, each process on one core."""
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


def _make_in_worker(job: Job) -> Outcome:
    def look(_: Progress) -> None:
        if _stop is not None and _stop.is_set():
            raise Cancelled("The preparation was stopped.")

    return make(job, look)


def make(job: Job, progress: ProgressCallback | None = None) -> Outcome:
    """Make one sample, or say why there is none."""
    sheet = job.folder / SHEETS / f"{job.task.key}.jpg" if job.sheets else None
    try:
        return make_sample(job.task, job.options, job.part, sheet, progress)
    except InputError as error:
        return str(error)
