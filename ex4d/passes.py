# SPDX-License-Identifier: Apache-2.0
"""What a compositor may want of a take beside its result: the depth of the new view, and a clean plate.

depth/depth.0001.exr ...    z-depth along the new camera's view axis, in shot units (metres where the shot is metric),
                            32-bit float, once as channel Z and once as Y; 1e10 where nothing was drawn
depth/depth.json            nearest and farthest of it
clean.mkv, clean_mask.mkv   what of the background the plate shows at any time; mask 255 where it does

The depth is that of the whole mesh. Where the take was painted (the matte is black) it is a guess: the mesh spans gaps
behind what stands before them, and what was painted there may lie elsewhere. The clean plate is no painting: it holds
only what was filmed, and is black where nothing that stands still was ever seen.
"""

import dataclasses
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.depth.file_pictures import BEYOND, write_exr
from ex4d.generation.background import clean_plate, moments_of, stands_still
from ex4d.mesh import watertight_mesh
from ex4d.progress import ProgressCallback, track
from ex4d.raster import rasteriser
from ex4d.shot import Shot
from ex4d.storage import replacing
from ex4d.takes import CLEAN, CLEAN_MASK, DEPTH_FOLDER, Take, take_folder, write_take
from ex4d.video import write_video

NO_CLEAN_PLATE = "There is no clean plate: it is made of what stands still, and the plate's own camera moves."


@dataclass(frozen=True)
class Passes:
    """Which of them are wanted."""

    depth: bool = False
    clean_plate: bool = False


def write_passes(
    shot_folder: Path,
    shot: Shot,
    take: Take,
    cameras: CameraPath,
    conditioning: Conditioning,
    wanted: Passes,
    progress: ProgressCallback | None = None,
) -> Take:
    """Write the passes into a rendered take's folder; return the take with what has to be said of them.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    folder = take_folder(shot_folder, take.name)
    if wanted.depth:
        write_depth_pass(folder / DEPTH_FOLDER, conditioning.depth, progress)
    if not wanted.clean_plate:
        return take
    clean = clean_plate_along(shot, cameras, progress)
    if clean is None:
        take = dataclasses.replace(take, notices=(*take.notices, NO_CLEAN_PLATE))
        write_take(shot_folder, take)
        return take
    color, mask = clean
    write_video(folder / CLEAN, color, shot.fps, "ffv1", progress)
    write_video(folder / CLEAN_MASK, mask.astype(np.uint8) * np.uint8(255), shot.fps, "ffv1", progress)
    return take


def write_depth_pass(folder: Path, depth: NDArray[np.float32], progress: ProgressCallback | None = None) -> list[Path]:
    """Write z-depth as numbered EXR files which Blender and compositors read without being told how.

    Args:
        folder: is made.
        depth: shot units, infinite where nothing was drawn. [N, h, w]
        progress: told after each frame.

    Returns:
        The files, the .json last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for n, plane in enumerate(track(depth, "Writing the depth", progress), start=1):
        full = np.where(np.isfinite(plane), plane, np.float32(BEYOND)).astype(np.float32)
        files.append(folder / f"depth.{n:04d}.exr")
        write_exr(files[-1], {"Y": full, "Z": full})
    drawn = np.isfinite(depth)
    reach = [float(depth[drawn].min()), float(depth[drawn].max())] if drawn.any() else [0.0, 0.0]
    content = {"kind": "z", "unit": "shot", "scale": 1.0, "nearest": reach[0], "farthest": reach[1], "nothing": BEYOND}
    with replacing(folder / "depth.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return [*files, folder / "depth.json"]


def pack_depth_pass(take: Path) -> Path:
    """Pack a take's depth into one file beside it: a job has few files, a take may have thousands of frames."""
    packed = take / f"{DEPTH_FOLDER}.zip"
    with replacing(packed) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # the pictures are packed already
        for file in sorted((take / DEPTH_FOLDER).iterdir()):
            archive.write(file, f"{DEPTH_FOLDER}/{file.name}")
    return packed


def clean_plate_along(
    shot: Shot, cameras: CameraPath, progress: ProgressCallback | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """What stands still, as the plate filmed it at any time, seen along a path.

    Returns:
        Colour RGB [N, h, w, 3], black where the mask [N, h, w] is False; None when the plate's own camera moves.
    """
    frames = moments_of(len(shot.frames))
    if shot.source_camera_to_world is not None or not stands_still(shot.frames[frames]):
        return None
    layer = clean_plate(shot.frames[frames], shot.depth[frames], shot.intrinsics)
    mesh, backend = watertight_mesh(layer.depth, layer.intrinsics, "exact"), rasteriser("auto")
    color = np.empty((len(cameras), cameras.height, cameras.width, 3), np.uint8)
    mask = np.empty(color.shape[:3], np.bool_)
    for n in track(range(len(cameras)), "Rendering the clean plate", progress):
        pose, intrinsics = cameras.world_to_camera[n], cameras.intrinsics[n]
        view = backend.render(mesh, layer.color, pose, intrinsics, cameras.width, cameras.height)
        color[n], mask[n] = view.color, view.mask
    return color, mask
