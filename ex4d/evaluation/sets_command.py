# SPDX-License-Identifier: Apache-2.0
"""`ex4d evaluate sets`: FID and FVD of many clips against many true ones."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ex4d.commands import Outcome, TerminalProgress
from ex4d.errors import InputError

Judge = Callable[..., tuple[float, int]]  # see frechet.py


def add_set_options(command: argparse.ArgumentParser) -> None:
    """What only `sets` takes."""
    sets = command.add_argument_group("evaluate sets", "FID and FVD by networks of others, see docs/evaluation.md")
    sets.add_argument("--against", type=Path, nargs="+", default=[], metavar="VIDEO", help="the true clips")
    sets.add_argument("--inception", type=Path, metavar="FILE", help="InceptionV3's weights: measures FID")
    sets.add_argument("--i3d", type=Path, metavar="FILE", help="I3D's weights: measures FVD")


def compare_sets(options: argparse.Namespace, ours: Sequence[Path]) -> Outcome:
    """Measure what weights were given for."""
    from ex4d.document import write_document
    from ex4d.evaluation.frechet import FID_FEATURES, FVD_FEATURES, fid, fvd

    if not ours or not options.against or not (options.inception or options.i3d):
        raise InputError(
            "Sets need clips, true clips and a judge's weights: "
            "ex4d evaluate sets shots/*/takes/a/result.mkv --against shots/*/plate.mkv --inception FILE --i3d FILE"
        )
    for file in (*ours, *options.against):
        if not file.is_file():
            raise InputError(f"The clip '{file}' is not there.")
    judges: dict[str, tuple[Judge, Path | None, int, str]] = {
        "fid": (fid, options.inception, FID_FEATURES, "frames"),
        "fvd": (fvd, options.i3d, FVD_FEATURES, "clips"),
    }
    facts: dict[str, Any] = {"clips": len(ours), "true_clips": len(options.against)}
    notices = []
    with TerminalProgress() as progress:
        for name, (judge, weights, features, unit) in judges.items():
            if weights is None:
                continue
            value, count = judge(ours, options.against, weights, progress)
            facts |= {name: round(value, 4), f"{name}_{unit}": count}
            if count < features:
                notices.append(
                    f"{name.upper()} of {count} {unit} is only good to compare with sets of as many: "
                    f"a figure to publish needs {features} and more."
                )
    if options.out is not None:
        write_document(options.out, 1, {**facts, "weights": {n: str(w) for n, (_, w, *_) in judges.items() if w}})
        facts["written"] = str(options.out)
    return Outcome(facts, tuple(notices))
