# SPDX-License-Identifier: Apache-2.0
"""The `ex4d` command line: which commands there are and what they take. What they do stands in `commands.py`."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import ex4d
from ex4d.commands import (
    check_engine,
    demo,
    doctor,
    export_depth,
    generate,
    models_download,
    models_list,
    models_verify,
    reconstruct,
    render,
    report,
)
from ex4d.errors import Cancelled, Ex4dError
from ex4d.evaluation.command import add_commands as add_evaluation_commands
from ex4d.evaluation.command import measure_new_take
from ex4d.training.command import add_commands as add_training_commands

Subparsers = Any  # argparse's own type is private and generic over it


def add_command(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], int], summary: str, example: str
) -> argparse.ArgumentParser:
    """A sub-command whose help ends with an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def frame_range(text: str) -> tuple[int, int | None]:
    """`A:B` (B excluded, either may be missing) as first frame and frame count."""
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first else 0
        stop = int(last) if last else None
    except ValueError:
        start, stop = -1, None
    if not colon or start < 0 or (stop is not None and stop <= start):
        raise argparse.ArgumentTypeError(f"expected A:B with 0 <= A < B, got '{text}'")
    return start, None if stop is None else stop - start


def picture_size(text: str) -> tuple[int, int]:
    """`WxH` in pixels."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WxH in pixels, got '{text}'")
    return int(width), int(height)


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got '{text}'")
    return key, value


def add_plate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "clip",
        type=Path,
        metavar="CLIP",
        help="the filmed plate: any video, or pictures: their folder, plate.####.exr, or any one of them",
    )
    parser.add_argument("--fps", metavar="RATE", help="of pictures: 24, 23.976, 24000/1001 (default 24)")
    parser.add_argument("--out", dest="shot", type=Path, required=True, metavar="SHOT", help="the shot folder to write")
    parser.add_argument(
        "--depth", default="auto", metavar="NAME", help="depth source, for example file or preview (default auto)"
    )
    parser.add_argument(
        "--depth-file", type=Path, metavar="FILE", help="EXR or 16-bit PNG (depth.####.exr), .npz, .npy, 16-bit video"
    )
    parser.add_argument("--depth-kind", default="z", choices=["z", "ray", "disparity", "inverse"], help="what it holds")
    parser.add_argument(
        "--depth-option",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the source, or what is known: near=2, far=30, distances=X,Y,Z (docs/depth.md); may be repeated",
    )
    parser.add_argument("--depth-points", type=Path, metavar="FILE", help="tracked points with their distance (.npz)")
    parser.add_argument(
        "--accept-licence", action="store_true", help="use a depth source that forbids paid work; the shot is marked"
    )
    parser.add_argument(
        "--source-camera", type=Path, metavar="FILE", help="the plate's own moving camera (.npz): brings lens and place"
    )
    parser.add_argument(
        "--lens-distortion",
        metavar="MODEL:KEY=VALUE,...",
        help="undo it: polynomial, division, nuke or brown with focal, x, y in pixels and k1, k2, ... "
        "(docs/command_line.md)",
    )
    parser.add_argument(
        "--preview-image", type=Path, metavar="FILE", help="write a picture to judge the depth by (.png, .jpg)"
    )
    parser.add_argument("--convention", default="exact", choices=["exact", "reference"], help="pixel convention")
    parser.add_argument("--focal-px", type=float, metavar="F", help="focal length in pixels of the plate")
    parser.add_argument("--lens", type=float, metavar="MM", help="focal length; needs --sensor-width")
    parser.add_argument("--sensor-width", type=float, metavar="MM", help="width of the film back")
    parser.add_argument(
        "--frames", type=frame_range, default=(0, None), metavar="A:B", help="frames to use, from 0, B excluded"
    )


def add_camera_options(parser: argparse.ArgumentParser, default_take: str) -> None:
    camera = parser.add_mutually_exclusive_group(required=True)
    camera.add_argument("--camera", type=Path, metavar="FILE", help="camera path (.npz, ours or the release's)")
    camera.add_argument("--move", metavar="NAME[:ARGS]", help="a camera move, for example orbit:angle=20")
    parser.add_argument(
        "--take", default=default_take, metavar="NAME", help=f"name of the take (default {default_take})"
    )
    parser.add_argument(
        "--size", type=picture_size, metavar="WxH", help="output size of a --move (default the plate's)"
    )
    parser.add_argument(
        "--raster", default="auto", metavar="NAME", help="rasteriser: native, nvdiffrast, cpu, reference (default auto)"
    )
    parser.add_argument("--depth-pass", action="store_true", help="also write the depth of the new view, as EXR")
    parser.add_argument(
        "--clean-plate", action="store_true", help="also write what the plate shows of the background at any time"
    )
    parser.add_argument(
        "--release-files", action="store_true", help="also write what the EX-4D release would: camera, videos, mesh.ply"
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", default="auto", choices=["auto", "preview", "wan"], help="what paints the unseen part"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every random choice")
    wan = parser.add_argument_group("engine wan", "Wan2.1 with EX-4D, see docs/generation.md")
    wan.add_argument(
        "--quality",
        default="lossless",
        choices=["reference", "lossless", "fp8", "cached", "draft"],
        help="what may be given up for speed (default lossless)",
    )
    wan.add_argument("--steps", type=int, metavar="N", help="denoising steps (default the quality's own)")
    wan.add_argument("--prompt", metavar="TEXT", help="what the take shows (default the release's prompt)")
    wan.add_argument("--negative-prompt", metavar="TEXT", help="what it should not show (default the release's)")
    wan.add_argument("--erosion-px", type=int, metavar="N", help="by how much the mask shrinks (default 5)")
    wan.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="NAME[:STRENGTH]",
        help="a LoRA of the models folder on top of EX-4D's; may be repeated",
    )


def add_models_commands(commands: Subparsers) -> None:
    parser = commands.add_parser("models", help="list, fetch and check the weights of models")
    models = parser.add_subparsers(dest="models_command", required=True, metavar="COMMAND")
    command = add_command(
        models, "list", models_list, "say which models there are, what for, and which are here", "ex4d models list"
    )
    command.add_argument("--json", action="store_true", help="print the outcome as JSON")
    command = add_command(
        models,
        "download",
        models_download,
        "fetch models and what they need; goes on where it stopped",
        "ex4d models download ex4d",
    )
    command.add_argument("names", nargs="+", metavar="NAME", help="of the list, or OWNER/NAME of a depth model")
    command.add_argument(
        "--accept-licence", action="store_true", help="fetch models whose licence forbids or limits paid work"
    )
    command = add_command(
        models,
        "verify",
        models_verify,
        "check weights that are on this machine, by sum or by structure",
        "ex4d models verify wan",
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="which (default: all that are here)")
    command.add_argument("--json", action="store_true", help="print the outcome as JSON")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ex4d", description="Re-shoot a filmed plate from a new camera.")
    parser.add_argument("--version", action="version", version=f"ex4d {ex4d.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = add_command(
        commands,
        "demo",
        demo,
        "do an artist's whole job once, through Blender and the server",
        "ex4d demo --clip plate.mov",
    )
    command.add_argument("--clip", type=Path, metavar="FILE", help="your own plate (default: the sample)")
    command.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="where to leave it (default demo)"
    )
    command.add_argument("--blender", type=Path, metavar="PATH", help="a Blender, or a Python that has the bpy module")

    command = add_command(
        commands,
        "reconstruct",
        partial(report, steps=(reconstruct,)),
        "turn a plate into a shot folder",
        "ex4d reconstruct plate.mov --out shot",
    )
    add_plate_options(command)
    command.add_argument("--save-mesh", action="store_true", help="also write frame 0's mesh as mesh.ply")

    command = add_command(
        commands,
        "render",
        partial(report, steps=(render,)),
        "render a shot along a camera path",
        "ex4d render shot --move orbit:angle=20",
    )
    command.add_argument("shot", type=Path, metavar="SHOT", help="the shot folder")
    add_camera_options(command, "take1")

    command = add_command(
        commands,
        "generate",
        partial(report, steps=(check_engine, generate)),
        "paint what a rendered take never saw",
        "ex4d generate shot --take take1",
    )
    command.add_argument("shot", type=Path, metavar="SHOT", help="the shot folder")
    command.add_argument("--take", default="take1", metavar="NAME", help="the take (default take1)")
    add_engine_options(command)

    command = add_command(
        commands,
        "export-depth",
        partial(report, steps=(export_depth,)),
        "write a shot's depth as EXR, to correct it and read it back with --depth-file",
        "ex4d export-depth shot --out depth.####.exr",
    )
    command.add_argument("shot", type=Path, metavar="SHOT", help="the shot folder")
    command.add_argument("--out", type=Path, required=True, metavar="PATTERN", help="files to write, depth.####.exr")

    command = add_command(
        commands,
        "take",
        partial(report, steps=(check_engine, reconstruct, render, generate, measure_new_take)),
        "reconstruct, render and generate in one go",
        "ex4d take plate.mov --out shot --move orbit:angle=20",
    )
    add_plate_options(command)
    command.add_argument("--save-mesh", action="store_true", help="also write frame 0's mesh as mesh.ply")
    add_camera_options(command, "take1")
    add_engine_options(command)
    command.add_argument("--evaluate", action="store_true", help="also measure the take (docs/evaluation.md)")

    add_models_commands(commands)
    add_training_commands(commands)
    add_evaluation_commands(commands)
    add_command(commands, "doctor", doctor, "say what this machine can do and what it lacks", "ex4d doctor")
    for name in ("reconstruct", "render", "generate", "export-depth", "take", "doctor"):
        commands.choices[name].add_argument("--json", action="store_true", help="print the outcome as JSON")

    # The server is a package of its own that imports this one; it adds its commands without being imported here.
    for entry in entry_points(group="ex4d.commands"):
        entry.load()(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit codes are those of `ex4d.errors`."""
    options = build_parser().parse_args(arguments)
    _let_gpu_memory_grow()
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("ex4d: stopped", file=sys.stderr)
        return Cancelled.exit_code
    except Ex4dError as error:
        print(f"ex4d: {error}", file=sys.stderr)
        return error.exit_code


def _let_gpu_memory_grow() -> None:
    """Ask torch, here and in every process started from here, for GPU memory that grows in place.

    Otherwise what is free can lie in pieces too small to use: streaming on a 16 GB card ran out of memory with 4.3 GiB
    free. torch reads this where CUDA begins. A choice of the user's own stands. Linux only, as in torch.
    """
    if sys.platform == "linux" and "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
