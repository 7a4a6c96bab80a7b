# SPDX-License-Identifier: Apache-2.0
"""`ex4d train`: its commands. What they do stands in the modules beside this one."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from ex4d.commands import PAID_WORK, Outcome, TerminalProgress, report
from ex4d.training.run_command import add_run_and_export

Subparsers = Any  # argparse's own type is private and generic over it


def add_commands(subparsers: Subparsers) -> None:
    """Add `train` to the ex4d command line."""
    parser = subparsers.add_parser("train", help="tune the EX-4D adapter on your own footage")
    commands = parser.add_subparsers(dest="train_command", required=True, metavar="COMMAND")
    add_prepare(commands)
    add_run_and_export(commands)


def add_prepare(commands: Subparsers) -> None:
    """Add `train prepare`."""
    from ex4d.cli import add_command, key_value, picture_size

    command = add_command(
        commands,
        "prepare",
        partial(report, steps=(prepare,)),
        "turn videos into masked clips to learn from; again, to go on or to add videos",
        "ex4d train prepare footage/ --out dataset --workers 8",
    )
    command.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="video files, or folders of them")
    command.add_argument("--out", type=Path, required=True, metavar="DATASET", help="folder of the dataset")
    command.add_argument("--frames", type=int, default=49, metavar="N", help="of each clip, 4 n + 1 (default 49)")
    command.add_argument(
        "--size",
        type=picture_size,
        metavar="WxH",
        help="of all clips, multiples of 16 (default each video's own shape)",
    )
    command.add_argument(
        "--variants",
        type=int,
        default=1,
        metavar="N",
        help="masks for the same frames (default 1; more for few videos)",
    )
    command.add_argument(
        "--share",
        type=_share,
        action="append",
        default=[],
        metavar="KIND=NUMBER",
        help="of the kinds of masks (default rendering=0.4, tracking=0.4, both=0.2)",
    )
    command.add_argument(
        "--jitter-px", type=int, default=4, metavar="N", help="how much holes grow at most (default 4)"
    )
    command.add_argument("--depth", default="auto", metavar="NAME", help="depth source (default auto)")
    command.add_argument(
        "--depth-file",
        metavar="PATTERN",
        help="each video's depth, such as {folder}/{name}.####.exr (docs/training.md)",
    )
    command.add_argument(
        "--depth-kind", default="z", choices=["z", "ray", "disparity", "inverse"], help="what it holds"
    )
    command.add_argument(
        "--depth-option", type=key_value, action="append", default=[], metavar="KEY=VALUE", help="of the depth source"
    )
    command.add_argument(
        "--accept-licence", action="store_true", help="use a depth source that forbids paid work; the dataset is marked"
    )
    command.add_argument(
        "--caption", metavar="TEXT", help="of videos without a NAME.txt beside them (default the release's prompt)"
    )
    command.add_argument("--raster", default="auto", metavar="NAME", help="rasteriser (default auto)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of every random choice")
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default 1); on a cluster samples at a time (default as many as it can)",
    )
    command.add_argument("--ray", metavar="HOST:PORT", help="make the samples on this Ray cluster")
    command.add_argument(
        "--ray-gpus", type=float, default=0.0, metavar="N", help="of each sample, for a depth model; 0.5: two share one"
    )
    command.add_argument("--allow-open-cluster", action="store_true", help="use a Ray cluster that asks for no token")
    command.add_argument("--shard-samples", type=int, default=64, metavar="N", help="clips per shard (default 64)")
    command.add_argument("--no-sheets", action="store_true", help="write no pictures to judge the masks by")
    command.add_argument("--json", action="store_true", help="print the outcome as JSON")


def prepare(options: argparse.Namespace) -> Outcome:
    """`ex4d train prepare`."""
    from ex4d.ray_cluster import Cluster
    from ex4d.training.lock import only_writer
    from ex4d.training.making import SHEETS
    from ex4d.training.on_ray import Farm
    from ex4d.training.options import SHARES, PrepareOptions
    from ex4d.training.prepare import prepare

    asked = PrepareOptions(
        depth=options.depth,
        depth_file=options.depth_file,
        depth_kind=options.depth_kind,
        depth_options=dict(options.depth_option),
        accept_licence=options.accept_licence,
        raster=options.raster,
        frame_count=options.frames,
        size=options.size,
        variants=options.variants,
        shares=dict(options.share) or dict(SHARES),
        jitter_px=options.jitter_px,
        caption=options.caption,
        seed=options.seed,
    )
    farm = None
    if options.ray is not None:
        farm = Farm(Cluster(options.ray, options.allow_open_cluster), options.workers, options.ray_gpus)
    workers = 1 if options.workers is None else options.workers
    with only_writer(options.out), TerminalProgress() as progress:
        done = prepare(
            options.videos, options.out, asked, workers, options.shard_samples, not options.no_sheets, progress, farm
        )
    masks = dict(sorted(done.kinds.items()))
    facts: dict[str, Any] = {
        "dataset": str(options.out),
        "samples": len(done.index.records),
        "new": done.new_samples,
        "masks": masks if options.json else ", ".join(f"{count} {kind}" for kind, count in masks.items()),
        "shards": len(done.index.shards),
        "megabytes": round(sum(shard.size_bytes for shard in done.index.shards) / 1e6, 1),
        "paid work": PAID_WORK[done.commercial_use],
    }
    if done.made_frames:
        facts["frames per s"] = round(done.made_frames / done.seconds, 2)
    if not options.no_sheets:
        facts["sheets"] = str(options.out / SHEETS)
    if options.json:
        facts["skipped"] = done.skipped
        return Outcome(facts, done.notices)
    return Outcome(facts, (*(f"Skipped {name}: {why}" for name, why in done.skipped.items()), *done.notices))


def _share(text: str) -> tuple[str, float]:
    """`KIND=NUMBER`."""
    kind, _, number = text.partition("=")
    try:
        return kind, float(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected KIND=NUMBER, got '{text}'") from error
