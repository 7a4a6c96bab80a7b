# SPDX-License-Identifier: Apache-2.0
"""evaluation.json: what was measured of a take, for people, scripts and the comparison page."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ex4d.document import Fields, Json, read_document, write_document
from ex4d.errors import ShotError
from ex4d.evaluation.metrics import ANGLE_RANGES, FRAME_METRICS, TAKE_METRICS

SCHEMA = 1
FILE = "evaluation.json"
Column = tuple[float | None, ...]


@dataclass(frozen=True)
class Evaluation:
    """The figures of one take. A figure that could not be measured is None, and `blank` says why."""

    take: str
    frame_count: int
    frames: dict[str, Column]  # by name in FRAME_METRICS, N entries each
    totals: dict[str, float | None]  # by name in TAKE_METRICS
    blank: dict[str, str]  # measures that are missing, and why
    about: dict[str, Json]  # engine, rasteriser, convention, versions, truth
    hashes: dict[str, str] = field(default_factory=dict)  # sha256 of what was measured, by file name

    def mean(self, name: str) -> float | None:
        """Over the frames that have the figure."""
        known = [value for value in self.frames.get(name, ()) if value is not None]
        return float(np.mean(known)) if known else None

    def worst(self, name: str) -> tuple[float, int] | None:
        """The worst figure and its frame; None where neither way is worse, or nothing was measured."""
        better = FRAME_METRICS[name].better
        known = [(value, n) for n, value in enumerate(self.frames.get(name, ())) if value is not None]
        if better == "neither" or not known:
            return None
        pick = max if better == "lower" else min
        return pick(known, key=lambda pair: pair[0])

    def ranges(self) -> dict[str, dict[str, float | int | None]]:
        """Means of the frames from the source view up to 30, 60 and 90 degrees away from it.

        A range that the take does not reach into is left out.
        """
        angles = self.frames["angle_deg"]
        found: dict[str, dict[str, float | int | None]] = {}
        before = -1
        for limit in ANGLE_RANGES:
            inside = [n for n, angle in enumerate(angles) if angle is not None and angle <= limit]
            if any((angles[n] or 0.0) > before for n in inside):
                found[f"0-{limit}"] = {"frames": len(inside)} | {
                    name: _mean([column[n] for n in inside]) for name, column in self.frames.items()
                }
            before = limit
        return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def content(evaluation: Evaluation) -> dict[str, Any]:
    """The document's fields: means and worst frames first, then every frame."""
    summary = {}
    for name in evaluation.frames:
        worst = evaluation.worst(name)
        summary[name] = {"mean": evaluation.mean(name)} | (
            {"worst": worst[0], "worst_frame": worst[1]} if worst is not None else {}
        )
    return {
        "take": evaluation.take,
        "frame_count": evaluation.frame_count,
        "about": evaluation.about,
        "totals": evaluation.totals,
        "summary": summary,
        "angle_ranges_deg": evaluation.ranges(),
        "blank": evaluation.blank,
        "hashes": evaluation.hashes,
        "frames": {name: list(column) for name, column in evaluation.frames.items()},
    }


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write evaluation.json into a folder.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    write_document(folder / FILE, SCHEMA, content(evaluation))
    return folder / FILE


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation.json.

    Raises:
        ShotError: it is missing, damaged or of a newer version.
    """
    if not path.is_file():
        raise ShotError(f"'{path}' is missing. Measure the take first: ex4d evaluate SHOT --take NAME.")
    fields = read_document(path, SCHEMA)
    count = fields.integer("frame_count")
    frames = {name: _column(path, name, value, count) for name, value in fields.json_object("frames").items()}
    if "angle_deg" not in frames:
        raise ShotError(f"'{path}': frames lack angle_deg. Measure the take again.")
    totals: Fields = fields.inside("totals")
    return Evaluation(
        take=fields.text("take"),
        frame_count=count,
        frames={name: column for name, column in frames.items() if name in FRAME_METRICS},
        totals={name: totals.optional_number(name) for name in TAKE_METRICS if totals.has(name)},
        blank=fields.text_map("blank"),
        about=fields.json_object("about"),
        hashes=fields.text_map("hashes"),
    )


def _column(path: Path, name: str, value: object, count: int) -> Column:
    if not isinstance(value, list) or len(value) != count:
        raise ShotError(f"'{path}': frames.{name} must be a list of {count} figures. Measure the take again.")
    for item in value:
        if item is not None and (
            isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item)
        ):
            raise ShotError(f"'{path}': frames.{name} must hold numbers or null, got {item!r}. Measure the take again.")
    return tuple(None if item is None else float(item) for item in value)
