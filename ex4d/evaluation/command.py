# SPDX-License-Identifier: Apache-2.0
"""`ex4d evaluate`: measure a take, lay two measured takes side by side, or compare sets of clips."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ex4d.commands import Outcome, TerminalProgress, report
from ex4d.errors import InputError
from ex4d.evaluation.sets_command import add_set_options, compare_sets

if TYPE_CHECKING:
    from ex4d.evaluation.record import Evaluation

Subparsers = Any  # argparse's own type is private and generic over it
COMPARE, SETS = "compare", "sets"


def add_commands(subparsers: Subparsers) -> None:
    """Add `evaluate` to the ex4d command line."""
    from ex4d.cli import add_command

    command = add_command(
        subparsers,
        "evaluate",
        partial(report, steps=(run,)),
        "measure a painted take; `evaluate compare A B` writes a page of two; `evaluate sets` measures FID and FVD",
        "ex4d evaluate shot --take take1\n  ex4d evaluate compare shot/takes/a shot/takes/b --out page.html",
    )
    command.add_argument(
        "what",
        type=Path,
        nargs="+",
        metavar="SHOT | compare A B | sets VIDEO ...",
        help="the shot folder; or two takes; or clips",
    )
    command.add_argument("--take", default="take1", metavar="NAME", help="the take (default take1)")
    command.add_argument("--truth", type=Path, metavar="FILE", help="video of the true second camera, or a folder")
    command.add_argument("--truth-camera", type=Path, metavar="FILE.npz", help="where it stood (default the folder's)")
    command.add_argument("--truth-depth", type=Path, metavar="FILE", help="its z-depth (default the folder's)")
    command.add_argument("--plate-depth", type=Path, metavar="FILE", help="the plate's z-depth (default the folder's)")
    command.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder of evaluation.json (default the take's); page.html; the sets' .json",
    )
    command.add_argument(
        "--name", action="append", default=[], metavar="TEXT", help="what the page calls A, and again for B"
    )
    add_set_options(command)
    command.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> Outcome:
    """`ex4d evaluate`."""
    first, *others = options.what
    if str(first) == COMPARE:
        if len(others) != 2 or options.out is None:
            raise InputError("Comparing needs two takes and a page: ex4d evaluate compare A B --out page.html")
        return compare(options, *others)
    if str(first) == SETS:
        return compare_sets(options, others)
    if others:
        raise InputError(
            f"One shot at a time, got {len(options.what)}. To compare: ex4d evaluate compare A B --out PAGE"
        )
    return measure(options, first)


def measure(options: argparse.Namespace, shot: Path) -> Outcome:
    """Measure one take and keep the figures."""
    from ex4d.evaluation.evaluate import TruthFiles
    from ex4d.evaluation.record import FILE, content
    from ex4d.evaluation.report import PAGE, report_take
    from ex4d.takes import take_folder

    extra = (options.truth_camera, options.truth_depth, options.plate_depth)
    if options.truth is None and any(file is not None for file in extra):
        raise InputError("--truth-camera, --truth-depth and --plate-depth belong to --truth. Give it too.")
    truth = None if options.truth is None else TruthFiles(options.truth, *extra)
    with TerminalProgress() as progress:
        found = report_take(shot, options.take, truth, options.out, progress)
    folder = options.out or take_folder(shot, options.take)
    written = {"evaluation": str(folder / FILE), "page": str(folder / PAGE)}
    if options.json:
        return Outcome(content(found) | written)
    return Outcome(written | _told(found), _missing(found))


def measure_new_take(options: argparse.Namespace) -> Outcome:
    """The last step of `ex4d take --evaluate`."""
    from ex4d.evaluation.record import content
    from ex4d.evaluation.report import report_take

    if not options.evaluate:
        return Outcome({})
    with TerminalProgress() as progress:
        found = report_take(options.shot, options.take, progress=progress)
    return Outcome({"evaluation": content(found)} if options.json else _told(found))


def _told(found: "Evaluation") -> dict[str, str]:
    """The figures for people."""
    from ex4d.evaluation.metrics import FRAME_METRICS, TAKE_METRICS

    facts = {}
    for name, metric in FRAME_METRICS.items():
        if (mean := found.mean(name)) is None:
            continue
        worst = found.worst(name)
        same = worst is None or metric.shown(worst[0]) == metric.shown(mean)
        facts[metric.label] = metric.shown(mean) + (
            "" if worst is None or same else f"  (worst {metric.shown(worst[0])}, frame {worst[1]})"
        )
    for name, value in found.totals.items():
        facts[TAKE_METRICS[name].label] = TAKE_METRICS[name].shown(value)
    return facts


def _missing(found: "Evaluation") -> tuple[str, ...]:
    from ex4d.evaluation.metrics import BLANK

    return tuple(f"Without {name}: {why}." for name, why in found.blank.items() if name not in BLANK)


def compare(options: argparse.Namespace, first: Path, second: Path) -> Outcome:
    """Write a page of two measured takes."""
    from ex4d.evaluation.page import write_page
    from ex4d.evaluation.side import read_side

    if len(options.name) not in (0, 2):
        raise InputError(f"--name is given twice or not at all, got {len(options.name)}.")
    names = options.name or [None, None]
    with TerminalProgress() as progress:
        sides = [read_side(path, name, progress) for path, name in zip((first, second), names, strict=True)]
    page = options.out if options.out.suffix in {".html", ".htm"} else options.out.with_name(options.out.name + ".html")
    write_page(page, sides)
    return Outcome({"page": str(page)})
