# SPDX-License-Identifier: Apache-2.0
"""Which samples a set of videos gives, decided before any is made, from the videos alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ex4d.errors import InputError, VideoError
from ex4d.progress import Progress, ProgressCallback
from ex4d.storage import file_sha256
from ex4d.training.options import PrepareOptions
from ex4d.training.sample import Task
from ex4d.video_decode import read_timeline

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mxf", ".mpg", ".mpeg", ".ts", ".wmv"}
LOOKING = "Looking at the videos"


@dataclass
class Plan:
    """The samples to make, in their order, and what gives none."""

    tasks: list[Task] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # name of a video -> why
    notices: list[str] = field(default_factory=list)

    def skip(self, video: Path, why: str) -> None:
        """Note a video that gives nothing; by its path when another of that name is noted."""
        self.skipped[video.name if video.name not in self.skipped else str(video)] = why


def planned(videos: Sequence[Path], options: PrepareOptions, progress: ProgressCallback | None) -> Plan:
    """Cut the videos into samples; the same file counts once, wherever it lies."""
    plan = Plan()
    known: dict[str, str] = {}
    for number, video in enumerate(videos):
        tell = _told(progress, number, len(videos))
        try:
            timeline = read_timeline(video, tell)
        except VideoError as error:
            plan.skip(video, str(error))
            continue
        sha256 = file_sha256(video, LOOKING, tell)
        if sha256 in known:
            plan.skip(video, f"the same file as {known[sha256]}")
            continue
        known[sha256] = video.name
        count, window = len(timeline.picks), options.frame_count
        if timeline.damage is not None:
            plan.notices.append(f"'{video.name}' is cut off ({timeline.damage}): its first {count} frames are used.")
        if count < window:
            plan.skip(video, f"it has {count} frames, a sample needs {window}")
            continue
        if count % window:
            plan.notices.append(f"'{video.name}': its last {count % window} of {count} frames fill no sample.")
        plan.tasks += [
            Task(video, sha256, first, variant)
            for first in range(0, count - window + 1, window)
            for variant in range(options.variants)
        ]
    return plan


def found_videos(videos: Sequence[Path]) -> list[Path]:
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


def _told(progress: ProgressCallback | None, number: int, count: int) -> ProgressCallback:
    """Whatever a step reports about one video, the run reports about all."""

    def tell(_: Progress) -> None:
        if progress is not None:
            progress(Progress(LOOKING, number, count))

    return tell
