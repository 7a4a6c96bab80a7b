# SPDX-License-Identifier: Apache-2.0
"""What each command of `ex4d` does: a thin skin over one function of the library.

The library is imported where it is used, so that `ex4d --help` answers at once.
"""

import argparse
import dataclasses
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ex4d.errors import InputError, MachineError
from ex4d.progress import Progress

if TYPE_CHECKING:
    from ex4d.generation import GenerateOptions
    from ex4d.shot import Shot

PAID_WORK = {True: "allowed", False: "not allowed by that licence", None: "ask the depth's maker"}


class TerminalProgress:
    """A progress bar per stage on standard error."""

    def __init__(self) -> None:
        self.stage = ""
        self.bar: tqdm | None = None

    def __call__(self, report: Progress) -> None:
        if self.bar is None or report.stage != self.stage:
            self.close()
            self.stage = report.stage
            large = report.n >= 1_000_000  # bytes
            self.bar = tqdm(
                desc=report.stage,
                total=report.n or None,
                initial=report.i,
                unit="B" if large else "it",
                unit_scale=large,
                file=sys.stderr,
                mininterval=0.2,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}, {rate_fmt}]",
            )
        if report.eta_s is not None:  # of more than the stage, where more is known
            self.bar.set_postfix_str(f"{tqdm.format_interval(report.eta_s)} left", refresh=False)
        self.bar.update(report.i - self.bar.n)

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last bar on the screen and end its line."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@dataclass(frozen=True)
class Outcome:
    """What a command did, for people and scripts."""

    facts: dict[str, Any]
    notices: tuple[str, ...] = ()


def report(options: argparse.Namespace, steps: Sequence[Callable[[argparse.Namespace], Outcome]]) -> int:
    """Run steps one after the other and print what they did: JSON for scripts, lines for people."""
    facts: dict[str, Any] = {}
    notices: list[str] = []
    for step in steps:
        outcome = step(options)
        facts |= outcome.facts
        notices += outcome.notices
    if options.json:
        print(json.dumps({**facts, "notices": notices}, indent=2))
        return 0
    width = max(12, *(len(name) for name in facts), 0)
    for name, value in facts.items():
        print(f"{name:>{width}}  {value}")
    for notice in notices:
        print(textwrap.fill(notice, 110, initial_indent=f"{'notice':>{width}}  ", subsequent_indent=" " * (width + 2)))
    return 0


def reconstruct(options: argparse.Namespace) -> Outcome:
    from ex4d.distortion import lens_distortion
    from ex4d.plate import frame_rate
    from ex4d.shot import write_shot
    from ex4d.take import ReconstructOptions, reconstruct

    asked = ReconstructOptions(
        depth=options.depth,
        depth_file=options.depth_file,
        depth_kind=options.depth_kind,
        depth_options=dict(options.depth_option),
        depth_points=options.depth_points,
        accept_licence=options.accept_licence,
        convention=options.convention,
        focal_px=options.focal_px,
        lens_mm=options.lens,
        sensor_width_mm=options.sensor_width,
        source_camera=options.source_camera,
        lens_distortion=None if options.lens_distortion is None else lens_distortion(options.lens_distortion),
        frame_start=options.frames[0],
        frame_count=options.frames[1],
        fps=None if options.fps is None else frame_rate(options.fps),
    )
    with TerminalProgress() as progress:
        shot = reconstruct(options.clip, asked, progress)
        write_shot(options.shot, shot, progress)
    count, height, width = shot.frames.shape[:3]
    number = shot.plate.first_number
    facts = {
        "shot": str(options.shot),
        "plate": f"{count} frames{'' if number is None else f' from {number}'}, {width}x{height}, {shot.fps} fps",
        "depth": shot.depth_info.source,
        "licence": shot.depth_info.licence,
        "paid work": PAID_WORK[shot.depth_info.commercial_use],
    }
    if options.preview_image is not None:
        from ex4d.depth_check import write_depth_check

        write_depth_check(options.preview_image, shot)
        facts["depth check"] = str(options.preview_image)
    if options.save_mesh:
        facts["mesh"] = str(write_first_mesh(options.shot / "mesh.ply", shot))
    return Outcome(facts, shot.notices)


def write_first_mesh(path: Path, shot: "Shot") -> Path:
    """Write the mesh of the shot's first frame as a PLY file, as the release does."""
    from ex4d.mesh import far_depth, watertight_mesh
    from ex4d.ply import write_ply

    sky = None if shot.sky is None else shot.sky[0]
    mesh = watertight_mesh(shot.depth[0], shot.intrinsics, shot.convention, far_depth(shot.depth, shot.sky), sky)
    write_ply(path, mesh, shot.frames[0])
    return path


def render(options: argparse.Namespace) -> Outcome:
    from ex4d.camera import read_camera_path
    from ex4d.passes import Passes, write_passes
    from ex4d.release_files import write_release_files
    from ex4d.shot import read_shot
    from ex4d.source_camera import from_first_frame
    from ex4d.take import render_take
    from ex4d.trajectory import camera_move

    if options.camera is not None and options.size is not None:
        raise InputError("--size belongs to --move: a camera file brings its own size. Leave --size out.")
    with TerminalProgress() as progress:
        shot = read_shot(options.shot, progress)
        if options.camera is not None:
            cameras = read_camera_path(options.camera)
        else:
            count, height, width = shot.depth.shape
            width, height = options.size or (width, height)
            move = camera_move(options.move, shot.depth[0], shot.intrinsics, width, height, count)
            cameras = from_first_frame(move, shot.source_camera_to_world)
        take, drawn = render_take(options.shot, shot, options.take, cameras, options.raster, progress)
        wanted = Passes(options.depth_pass, options.clean_plate)
        take = write_passes(options.shot, shot, take, cameras, drawn, wanted, progress)
        if options.release_files:
            release = options.shot / "takes" / take.name / "release"
            write_release_files(release, take.name, cameras, drawn.color, drawn.mask, progress)
            write_first_mesh(release / "mesh.ply", shot)
    unseen = take.coverage
    facts: dict[str, Any] = {
        "take": str(options.shot / "takes" / take.name),
        "raster": take.raster,
        "unseen": f"{unseen.mean:.1%} of the picture, {unseen.worst:.1%} in frame {unseen.worst_frame}",
        "parallax": f"{unseen.mean_parallax_deg:.1f} degrees in the mean, {max(unseen.parallax_deg):.1f} at most",
        "verdict": unseen.verdict,
    }
    if options.release_files:
        facts["release files"] = str(release)
    if options.json:
        facts["coverage"] = dataclasses.asdict(unseen)
    return Outcome(facts, take.notices)


def check_engine(options: argparse.Namespace) -> Outcome:
    """Refuse what this machine cannot paint before anything else is done."""
    from ex4d.generation import engine

    engine(options.engine).need(_painting(options))
    return Outcome({})


def _painting(options: argparse.Namespace) -> "GenerateOptions":
    from ex4d.generation import GenerateOptions

    return GenerateOptions(
        engine=options.engine,
        seed=options.seed,
        quality=options.quality,
        steps=options.steps,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        erosion_px=options.erosion_px,
        loras=tuple(options.lora),
    )


def generate(options: argparse.Namespace) -> Outcome:
    from ex4d.shot import read_shot
    from ex4d.take import generate_take, read_rendered_take

    with TerminalProgress() as progress:
        shot = read_shot(options.shot, progress)
        rendered = read_rendered_take(options.shot, shot, options.take, progress)
        take = generate_take(options.shot, shot, *rendered, _painting(options), progress)
    result = options.shot / "takes" / take.name / "result.mp4"
    paid = PAID_WORK[take.commercial_use]
    if take.commercial_use is None and options.lora:
        paid = "ask the makers of depth and LoRAs"
    facts = {"result": str(result), "engine": take.engine, "seed": take.seed, "paid work": paid}
    return Outcome(facts, take.all_notices)


def export_depth(options: argparse.Namespace) -> Outcome:
    from ex4d.depth.file_pictures import write_depth_sequence
    from ex4d.shot import read_shot

    with TerminalProgress() as progress:
        shot = read_shot(options.shot, progress)
        plate = shot.plate
        first = plate.first_frame if plate.first_number is None else plate.first_number
        files = write_depth_sequence(options.out, shot.depth, first, progress)
    return Outcome({"depth": f"{len(files)} files, {files[0].name} to {files[-1].name}"})


def doctor(options: argparse.Namespace) -> int:
    from ex4d.doctor import examine

    findings = examine()
    if options.json:
        print(json.dumps([finding.__dict__ for finding in findings], indent=2))
    else:
        for finding in findings:
            state = "ok" if finding.ok else "MISSING" if finding.required else "without"
            print(f"{state:>8}  {finding.what}: {finding.found}")
            if not finding.ok:
                print(f"{'':>8}  {finding.cure}")
    return 0 if all(finding.ok or not finding.required for finding in findings) else 3


def models_list(options: argparse.Namespace) -> int:
    from ex4d.models import MODELS, look

    found = [look(model) for model in MODELS.values()]
    if options.json:
        shown = ("name", "repository", "what", "purpose", "licence", "commercial_use", "size_gb", "files", "needs")
        entries = [
            {key: getattr(one.model, key) for key in (*shown, "command")}
            | {"state": one.state, "folder": str(one.folder), "faults": one.faults, "bytes_here": one.size_bytes}
            for one in found
        ]
        print(json.dumps(entries, indent=2))
        return 0
    paid = {True: "paid work allowed", False: "no paid work", None: "paid work: read the licence"}
    for one in found:
        model = one.model
        print(f"{one.state:>8}  {model.name}: {model.what}, {model.size}")
        print(f"{'':>8}  for: {model.purpose}")
        print(f"{'':>8}  licence: {model.licence} ({paid[model.commercial_use]})")
        print(f"{'':>8}  {'in' if one.state != 'missing' else 'goes to'}: {one.folder}")
        if one.state == "partial":
            print(f"{'':>8}  {'; '.join(one.faults)}")
        if one.state != "complete":
            print(f"{'':>8}  fetch it: {model.command}{f' ({model.note})' if model.note else ''}")
    return 0


def models_download(options: argparse.Namespace) -> int:
    from ex4d.models import with_needs
    from ex4d.models.download import accepted, download

    models = with_needs(options.names)
    for model in models:
        print(f"{model.name}: {model.what}, {model.size}. Licence: {model.licence} ({model.page})")
    accepted(models, options.accept_licence)
    with TerminalProgress() as progress:
        folders = [download(model, options.accept_licence, progress=progress) for model in models]
    for model, folder in zip(models, folders, strict=True):
        print(f"{model.name} is complete in {folder}")
    return 0


def models_verify(options: argparse.Namespace) -> int:
    from ex4d.models import MODELS, look, model_named
    from ex4d.models.verify import verify

    named = [model_named(name) for name in options.names]
    models = named or [model for model in MODELS.values() if look(model).state != "missing"]
    if not models:
        raise MachineError("No weights are on this machine. `ex4d models list` says which there are.")
    with TerminalProgress() as progress:
        checks = {model.name: verify(model, progress=progress) for model in models}
    if options.json:
        print(json.dumps({name: [check.__dict__ for check in found] for name, found in checks.items()}, indent=2))
    else:
        for name, found in checks.items():
            for check in found:
                state = f"good ({check.how})" if check.fault is None else f"BAD: {check.fault}"
                print(f"{name:>14}  {check.file}: {state}")
    bad = sorted({name for name, found in checks.items() for check in found if check.fault is not None})
    if bad and not options.json:
        print(f"Remove the bad files and fetch them again: ex4d models download {' '.join(bad)}")
    return MachineError.exit_code if bad else 0


def demo(options: argparse.Namespace) -> int:
    from ex4d.demo import run_demo

    return run_demo(options.clip, options.out, options.blender)
