# SPDX-License-Identifier: Apache-2.0
"""A measured take as a page shows it: its figures and its clips."""

from dataclasses import dataclass, field
from pathlib import Path

from ex4d.camera import Array
from ex4d.errors import Ex4dError, InputError
from ex4d.evaluation.record import FILE, Evaluation, read_evaluation
from ex4d.evaluation.truth import true_pictures
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256
from ex4d.video import read_video


@dataclass(frozen=True, eq=False)
class Side:
    """One take of a page."""

    name: str
    evaluation: Evaluation
    result: Array  # uint8 [N, h, w, 3]
    mesh: Array  # uint8 [N, h, w, 3]
    stale: bool  # whether the result was painted again after it was measured
    truth: dict[int, Array] = field(default_factory=dict)  # true pictures by the take's frame, uint8 [h, w, 3]


def read_side(path: Path, name: str | None = None, progress: ProgressCallback | None = None) -> Side:
    """Read a take's folder, with its evaluation.json, or the folder to which that was written.

    Raises:
        ShotError, VideoError, InputError: a file is missing or damaged.
    """
    folder = path.parent if path.name == FILE else path
    evaluation = read_evaluation(folder / FILE)
    measured = evaluation.about.get("folder")
    if not (folder / "result.mkv").is_file() and isinstance(measured, str):
        folder = Path(measured)  # the figures were written elsewhere
    clips = [read_video(folder / file, progress=progress).frames for file in ("result.mkv", "color.mkv")]
    for clip in clips:
        if len(clip) != evaluation.frame_count:
            raise InputError(
                f"'{folder}' has {len(clip)} frames, {evaluation.frame_count} were measured. Measure the take again."
            )
    stale = evaluation.hashes.get("result.mkv") != file_sha256(folder / "result.mkv", "Hashing", progress)
    return Side(name or _short_name(folder), evaluation, clips[0], clips[1], stale, _truth(evaluation))


def _truth(evaluation: Evaluation) -> dict[int, Array]:
    """What the figures were measured against, where it still lies there: the figures do not need it."""
    path = evaluation.about.get("truth")
    if not isinstance(path, str):
        return {}
    try:
        return dict(zip(*true_pictures(Path(path), evaluation.frame_count), strict=True))
    except Ex4dError:
        return {}


def _short_name(folder: Path) -> str:
    """A take's folder as people would call it: its shot and its own name."""
    place = folder.resolve()
    return f"{place.parents[1].name}, {place.name}" if place.parent.name == "takes" else place.name
