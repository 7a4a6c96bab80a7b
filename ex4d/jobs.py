# SPDX-License-Identifier: Apache-2.0
"""Self-contained jobs: what the server's worker runs, with files in and files out.

A job names its kind and parameters and brings its input files by role; a role is the file's name in the shot folder.
Nothing but the files and parameters given decides the result.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ex4d.camera import CameraPath, Convention, read_camera_path
from ex4d.depth import DEPTH_KINDS, SOURCES
from ex4d.display import display_arrays
from ex4d.distortion import LensDistortion, lens_distortion
from ex4d.errors import InputError
from ex4d.evaluation.report import REPORT, report_take
from ex4d.generation import ENGINES, GenerateOptions, engine
from ex4d.generation.room import DEPTH_MODEL, make_room
from ex4d.generation.wan.modes import MODES
from ex4d.job_params import Params, choice, integer, names, number, refuse_rest, switch, text, texts
from ex4d.passes import Passes, pack_depth_pass, write_passes
from ex4d.plate import frame_rate
from ex4d.plate_archive import unpacked_plate
from ex4d.progress import ProgressCallback
from ex4d.raster import RASTERISERS
from ex4d.shot import Shot, read_shot, write_shot
from ex4d.take import ReconstructOptions, generate_take, read_rendered_take, reconstruct, render_take
from ex4d.takes import CLEAN, CLEAN_MASK, RESULTS, take_folder

Files = dict[str, Path]
FOLDER_OPTIONS = {"weights", "svd"}  # of depth sources: paths are the command line's alone
SHOT = ("shot.json", "plate.mkv", "depth.npz")
RENDERED = ("take.json", "camera.npz", "color.mkv", "mask.mkv")


def run_job(
    kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback
) -> Files:
    """Run one job.

    Args:
        kind: one of `KINDS`.
        params: see the function of that kind; unknown names are refused.
        inputs: the input files by role.
        workdir: a folder for everything that the job writes; `shot` in it must not exist.
        progress: receives every frame's report; may raise `Cancelled`.

    Returns:
        The output files by role, all inside `workdir`.

    Raises:
        InputError: the job itself is wrong.
    """
    if kind not in KINDS:
        raise InputError(f"A job's kind is one of {', '.join(KINDS)}, got '{kind}'.")
    return KINDS[kind](dict(params), inputs, workdir, progress)


def _reconstruct(params: Params, inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: plate; if wanted depth and its side file, depth_points, source_camera. Outputs: the shot, its display.

    The plate is a video, or a .zip of numbered pictures; those bring fps and number_start.
    """
    _need(inputs, "plate")
    options = ReconstructOptions(
        depth=choice(params, "depth", ("auto", *SOURCES), "auto"),
        depth_file=_depth_file(inputs, workdir),
        depth_kind=choice(params, "depth_kind", DEPTH_KINDS, "z"),
        depth_options=texts(params, "depth_options"),
        depth_points=inputs.get("depth_points"),
        accept_licence=switch(params, "accept_licence"),
        convention=choice(params, "convention", get_args(Convention), "exact"),
        focal_px=number(params, "focal_px", None),
        lens_mm=number(params, "lens_mm", None),
        sensor_width_mm=number(params, "sensor_width_mm", None),
        source_camera=inputs.get("source_camera"),
        lens_distortion=_lens_distortion(params),
        frame_start=integer(params, "frame_start", 0),
        frame_count=integer(params, "frame_count", None),
        fps=_frame_rate(params, "fps"),
        number_start=integer(params, "number_start", None),
    )
    if folders := set(options.depth_options) & FOLDER_OPTIONS:
        raise InputError(
            f"A job may not say where the server's weights lie ({', '.join(sorted(folders))}): leave it out."
        )
    plate_path = text(params, "plate_path", inputs["plate"].name)  # where the sender keeps the plate
    refuse_rest(params)
    make_room(DEPTH_MODEL)
    shot = reconstruct(unpacked_plate(inputs["plate"], workdir / "plate", progress), options, progress)
    shot = dataclasses.replace(shot, plate=dataclasses.replace(shot.plate, path=plate_path))
    folder = workdir / "shot"
    write_shot(folder, shot)
    arrays = display_arrays(shot.depth, shot.intrinsics, shot.convention, progress, shot.sky)
    if shot.source_camera_to_world is not None:  # Blender moves each frame's mesh to where its camera was
        arrays["source_camera_to_world"] = shot.source_camera_to_world
    with (folder / "display.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return _outputs(folder, "shot.json", "plate.mkv", "depth.npz", "display.npz")


def _depth_file(inputs: Mapping[str, Path], workdir: Path) -> Path | None:
    """The depth file, or the first of a numbered sequence of pictures: roles depth-0001, depth-0002, ...

    Files that belong together have to lie together: a sequence, and a side file, which says what the numbers mean.
    """
    pictures = [path for role, path in sorted(inputs.items()) if re.fullmatch(r"depth-\d+", role)]
    files, side_file = pictures or [inputs[role] for role in ("depth",) if role in inputs], inputs.get("depth.json")
    if not files or (len(files) == 1 and side_file is None):
        return files[0] if files else None
    folder = workdir / "depth"
    folder.mkdir()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    together = folder / files[0].name
    if side_file is not None:
        shutil.copyfile(side_file, together.with_suffix(".json"))
    return together


def _render(params: Params, inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and camera.npz. Outputs: the take before it is painted, with its coverage."""
    name = text(params, "name", "take1")
    raster = choice(params, "raster", ("auto", *RASTERISERS), "auto")
    refuse_rest(params)
    folder, shot, cameras = _shot(inputs, workdir, progress)
    render_take(folder, shot, name, cameras, raster, progress)
    return _outputs(take_folder(folder, name), *RENDERED)


def _take(params: Params, inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and camera.npz. Outputs: the take's files, on request with its evaluation."""
    name = text(params, "name", "take1")
    raster = choice(params, "raster", ("auto", *RASTERISERS), "auto")
    options, measured = _painting(params), switch(params, "evaluate")
    wanted = Passes(depth=switch(params, "depth_pass"), clean_plate=switch(params, "clean_plate"))
    refuse_rest(params)
    _need(inputs, *SHOT, "camera.npz")
    engine(options.engine).need(options)
    folder, shot, cameras = _shot(inputs, workdir, progress)
    take, conditioning = render_take(folder, shot, name, cameras, raster, progress)
    take = write_passes(folder, shot, take, cameras, conditioning, wanted, progress)
    generate_take(folder, shot, take, cameras, conditioning, options, progress)
    if measured:
        report_take(folder, name, progress=progress)
    done, passes = take_folder(folder, name), []
    if wanted.depth:
        passes.append(pack_depth_pass(done).name)
    passes += [file for file in (CLEAN, CLEAN_MASK) if (done / file).exists()]
    return _outputs(done, *RENDERED, *RESULTS, *passes, *(REPORT if measured else ()))


def _generate(params: Params, inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and a rendered take's. Outputs: that take painted, on request its evaluation.

    The take's clips are what counts: somebody may have painted in them.
    """
    name = text(params, "name", "take1")
    options, measured = _painting(params), switch(params, "evaluate")
    refuse_rest(params)
    folder = _with_take(inputs, workdir, name, *RENDERED)
    engine(options.engine).need(options)
    shot = read_shot(folder, progress)
    generate_take(folder, shot, *read_rendered_take(folder, shot, name, progress), options, progress)
    if measured:
        report_take(folder, name, progress=progress)
    return _outputs(take_folder(folder, name), "take.json", *RESULTS, *(REPORT if measured else ()))


def _evaluate(params: Params, inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and those of a painted take. Outputs: its evaluation."""
    name = text(params, "name", "take1")
    refuse_rest(params)
    folder = _with_take(inputs, workdir, name, *RENDERED, "result.mkv")
    report_take(folder, name, progress=progress)
    return _outputs(take_folder(folder, name), *REPORT)


def _painting(params: Params) -> GenerateOptions:
    return GenerateOptions(
        engine=choice(params, "engine", ("auto", *ENGINES), "auto"),
        seed=integer(params, "seed", 0),
        quality=choice(params, "quality", tuple(MODES), "lossless"),
        steps=integer(params, "steps", None),
        prompt=text(params, "prompt", None),
        negative_prompt=text(params, "negative_prompt", None),
        erosion_px=integer(params, "erosion_px", None),
        loras=names(params, "loras"),
    )


def _with_take(inputs: Mapping[str, Path], workdir: Path, name: str, *roles: str) -> Path:
    """The shot with a take of these files, in a folder of its own."""
    _need(inputs, *SHOT, *roles)
    folder = workdir / "shot"
    take = take_folder(folder, name)
    _copy(inputs, SHOT, folder)
    _copy(inputs, roles, take)
    return folder


def _shot(inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> tuple[Path, Shot, CameraPath]:
    """The shot in a folder of its own, and the camera path over it."""
    _need(inputs, *SHOT, "camera.npz")
    folder = workdir / "shot"
    _copy(inputs, SHOT, folder)
    return folder, read_shot(folder, progress), read_camera_path(inputs["camera.npz"])


def _copy(inputs: Mapping[str, Path], roles: Sequence[str], folder: Path) -> None:
    """Into a new folder, each under its role's name."""
    folder.mkdir(parents=True)
    for role in roles:
        shutil.copyfile(inputs[role], folder / role)


KINDS: dict[str, Callable[[Params, Mapping[str, Path], Path, ProgressCallback], Files]] = {
    "reconstruct": _reconstruct,
    "render": _render,
    "generate": _generate,
    "take": _take,
    "evaluate": _evaluate,
}


def _lens_distortion(params: Params) -> LensDistortion | None:
    value = text(params, "lens_distortion", None)
    return None if value is None else lens_distortion(value)


def _frame_rate(params: Params, name: str) -> Fraction | None:
    value = text(params, name, None)
    return None if value is None else frame_rate(value)


def _outputs(folder: Path, *names: str) -> Files:
    return {name: folder / name for name in names}


def _need(inputs: Mapping[str, Path], *roles: str) -> None:
    missing = [role for role in roles if role not in inputs]
    if missing:
        raise InputError(
            f"The job lacks the input files {', '.join(missing)}; it came with {', '.join(inputs) or 'none'}."
        )
