# SPDX-License-Identifier: Apache-2.0
"""Self-contained jobs: what the server's worker runs, with files in and files out.

A job names its kind and parameters and brings its input files by role; a role is the file's name in the shot folder.
Nothing but the files and parameters given decides the result.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ex4d.camera import CameraPath, Convention, read_camera_path
from ex4d.depth import DEPTH_KINDS, SOURCES
from ex4d.display import display_arrays
from ex4d.errors import InputError
from ex4d.generation import ENGINES, GenerateOptions, engine
from ex4d.generation.room import DEPTH_MODEL, make_room
from ex4d.generation.wan.modes import MODES
from ex4d.plate import frame_rate
from ex4d.plate_archive import unpacked_plate
from ex4d.progress import ProgressCallback
from ex4d.raster import RASTERISERS
from ex4d.shot import Shot, read_shot, write_shot
from ex4d.take import ReconstructOptions, generate_take, reconstruct, render_take
from ex4d.takes import take_folder

Files = dict[str, Path]
FOLDER_OPTIONS = {"weights", "svd"}  # of depth sources: paths are the command line's alone
SHOT_AND_CAMERA = ("shot.json", "plate.mkv", "depth.npz", "camera.npz")
RENDERED = ("take.json", "camera.npz", "color.mkv", "mask.mkv")


def run_job(
    kind: str, params: Mapping[str, Any], inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback
) -> Files:
    """Run one job.

    Args:
        kind: `reconstruct`, `render` or `take`.
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


def _reconstruct(
    params: dict[str, Any], inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback
) -> Files:
    """Inputs: plate; if wanted depth and its side file, depth_points, source_camera. Outputs: the shot, its display.

    The plate is a video, or a .zip of numbered pictures; those bring fps and number_start.
    """
    _need(inputs, "plate")
    options = ReconstructOptions(
        depth=_choice(params, "depth", ("auto", *SOURCES), "auto"),
        depth_file=_depth_file(inputs, workdir),
        depth_kind=_choice(params, "depth_kind", DEPTH_KINDS, "z"),
        depth_options=_texts(params, "depth_options"),
        depth_points=inputs.get("depth_points"),
        accept_licence=_switch(params, "accept_licence"),
        convention=_choice(params, "convention", get_args(Convention), "exact"),
        focal_px=_number(params, "focal_px", None),
        lens_mm=_number(params, "lens_mm", None),
        sensor_width_mm=_number(params, "sensor_width_mm", None),
        source_camera=inputs.get("source_camera"),
        frame_start=_integer(params, "frame_start", 0),
        frame_count=_integer(params, "frame_count", None),
        fps=_frame_rate(params, "fps"),
        number_start=_integer(params, "number_start", None),
    )
    if folders := set(options.depth_options) & FOLDER_OPTIONS:
        raise InputError(
            f"A job may not say where the server's weights lie ({', '.join(sorted(folders))}): leave it out."
        )
    plate_path = _text(params, "plate_path", inputs["plate"].name)  # where the sender keeps the plate
    _refuse_rest(params)
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


def _render(params: dict[str, Any], inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and camera.npz. Outputs: the take before it is painted, with its coverage."""
    name = _text(params, "name", "take1")
    raster = _choice(params, "raster", ("auto", *RASTERISERS), "auto")
    _refuse_rest(params)
    folder, shot, cameras = _shot(inputs, workdir, progress)
    render_take(folder, shot, name, cameras, raster, progress)
    return _outputs(take_folder(folder, name), *RENDERED)


def _take(params: dict[str, Any], inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> Files:
    """Inputs: the shot folder's files and camera.npz. Outputs: the take's files."""
    name = _text(params, "name", "take1")
    raster = _choice(params, "raster", ("auto", *RASTERISERS), "auto")
    options = GenerateOptions(
        engine=_choice(params, "engine", ("auto", *ENGINES), "auto"),
        seed=_integer(params, "seed", 0),
        quality=_choice(params, "quality", tuple(MODES), "lossless"),
        steps=_integer(params, "steps", None),
        prompt=_text(params, "prompt", None),
        negative_prompt=_text(params, "negative_prompt", None),
        erosion_px=_integer(params, "erosion_px", None),
        loras=_names(params, "loras"),
    )
    _refuse_rest(params)
    _need(inputs, *SHOT_AND_CAMERA)
    engine(options.engine).need(options)
    folder, shot, cameras = _shot(inputs, workdir, progress)
    take, conditioning = render_take(folder, shot, name, cameras, raster, progress)
    generate_take(folder, shot, take, cameras, conditioning, options, progress)
    return _outputs(take_folder(folder, name), *RENDERED, "result.mkv", "result.mp4")


def _shot(inputs: Mapping[str, Path], workdir: Path, progress: ProgressCallback) -> tuple[Path, Shot, CameraPath]:
    """The shot in a folder of its own, and the camera path over it."""
    _need(inputs, *SHOT_AND_CAMERA)
    folder = workdir / "shot"
    folder.mkdir()
    for role in ("shot.json", "plate.mkv", "depth.npz"):
        shutil.copyfile(inputs[role], folder / role)
    return folder, read_shot(folder, progress), read_camera_path(inputs["camera.npz"])


KINDS: dict[str, Callable[[dict[str, Any], Mapping[str, Path], Path, ProgressCallback], Files]] = {
    "reconstruct": _reconstruct,
    "render": _render,
    "take": _take,
}


def _outputs(folder: Path, *names: str) -> Files:
    return {name: folder / name for name in names}


def _need(inputs: Mapping[str, Path], *roles: str) -> None:
    missing = [role for role in roles if role not in inputs]
    if missing:
        raise InputError(
            f"The job lacks the input files {', '.join(missing)}; it came with {', '.join(inputs) or 'none'}."
        )


# Parameters are taken out of the dictionary as they are read; what is left at the end is unknown.


def _taken(params: dict[str, Any], name: str, default: Any) -> Any:
    """A parameter's value; null means that the sender leaves it to us."""
    value = params.pop(name, None)
    return default if value is None else value


def _choice(params: dict[str, Any], name: str, allowed: tuple[str, ...], default: str) -> Any:
    value = _taken(params, name, default)
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    return value


def _text(params: dict[str, Any], name: str, default: str | None) -> Any:
    value = _taken(params, name, default)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} must be text, got {value!r}.")
    return value


def _number(params: dict[str, Any], name: str, default: float | None) -> float | None:
    value = _taken(params, name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _frame_rate(params: dict[str, Any], name: str) -> Fraction | None:
    value = _text(params, name, None)
    return None if value is None else frame_rate(value)


def _integer(params: dict[str, Any], name: str, default: int | None) -> Any:
    value = _taken(params, name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f"{name} must be a whole number, got {value!r}.")
    return value


def _switch(params: dict[str, Any], name: str) -> bool:
    value = _taken(params, name, False)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}.")
    return value


def _texts(params: dict[str, Any], name: str) -> dict[str, str]:
    value = _taken(params, name, {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise InputError(f"{name} must be texts by name, got {value!r}.")
    return value


def _names(params: dict[str, Any], name: str) -> tuple[str, ...]:
    value = _taken(params, name, ())
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{name} must be a list of texts, got {value!r}.")
    return tuple(value)


def _refuse_rest(params: dict[str, Any]) -> None:
    if params:
        raise InputError(f"Unknown parameters: {', '.join(sorted(params))}. Update the server or the sender.")
