# SPDX-License-Identifier: Apache-2.0
"""Measure a take and leave the figures beside it, for programs and for people."""

import dataclasses
from pathlib import Path

from ex4d.evaluation.evaluate import TruthFiles, evaluate_take
from ex4d.evaluation.page import write_page
from ex4d.evaluation.record import FILE, Evaluation, write_evaluation
from ex4d.evaluation.side import read_side
from ex4d.progress import ProgressCallback
from ex4d.takes import take_folder

PAGE = "evaluation.html"
REPORT = (FILE, PAGE)


def report_take(
    shot_folder: Path,
    name: str,
    truth_files: TruthFiles | None = None,
    out: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Measure a painted take and write `REPORT`.

    Args:
        shot_folder, name, truth_files, progress: see `evaluate_take`.
        out: the folder to write into; None for the take's.
    """
    place = take_folder(shot_folder, name)
    found = evaluate_take(shot_folder, name, truth_files, progress)
    if out is not None:  # whoever reads the figures there has to find the clips
        found = dataclasses.replace(found, about=found.about | {"folder": str(place.resolve())})
    folder = out or place
    write_evaluation(folder, found)
    write_page(folder / PAGE, [read_side(folder, name, progress)])
    return found
