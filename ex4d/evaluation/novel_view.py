# SPDX-License-Identifier: Apache-2.0
"""A shot with true depth, seen from a second camera whose true pictures exist: what the mesh and the raster are worth.

The truth lies in a folder, as in examples/sample: plate.mp4, depth.mkv, camera.json; second_camera.npz; truth/NNNN.jpg
for some of its frames, and truth_depth.mkv for the same ones.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import Array, CameraPath, Convention, project, read_camera_path
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.depth.file_formats import read_depth_file
from ex4d.errors import InputError
from ex4d.evaluation.score import Score, score_view
from ex4d.progress import ProgressCallback
from ex4d.raster import Rasteriser
from ex4d.video import read_video

SAME_SURFACE = 0.02  # two views see one point when its depths agree to this share


@dataclass(frozen=True, eq=False)
class TrueViews:
    """A plate with its true depth, and true pictures of a second camera, at some frames."""

    frame: Array  # which frames of the plate. int [N]
    plate: Array  # uint8 [N, H, W, 3]
    depth: Array  # z-depth of the plate. float32 [N, H, W]
    intrinsics: Array  # the source camera's. [3, 3]
    cameras: CameraPath  # the second camera at these frames; source_frame counts from 0 to N - 1
    color: Array  # what it truly sees. uint8 [N, h, w, 3]
    color_depth: Array  # and its true z-depth. float32 [N, h, w]


def read_true_views(folder: Path, frames: list[int] | None = None) -> TrueViews:
    """Read the truth of a folder; frames: some of those that it has pictures of, None for all but the source view.

    Raises:
        InputError: there is no true picture of a frame, or a file is missing or damaged.
    """
    try:
        about = json.loads((folder / "camera.json").read_text(encoding="utf-8"))
        known = [int(number) for number in about["truth_frames"]]
        intrinsics = np.array(about["intrinsics"], dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{folder / 'camera.json'}' cannot be used: {error}.") from error
    frames = known[1:] if frames is None else frames
    missing = sorted(set(frames) - set(known))
    if missing or not frames:
        raise InputError(f"'{folder}' has true pictures of the frames {known}, not of {missing or 'none'}.")
    path = read_camera_path(folder / "second_camera.npz")
    pictures = []
    for number in frames:
        picture = cv2.imread(str(folder / "truth" / f"{number:04d}.jpg"))
        if picture is None:
            raise InputError(f"'{folder / 'truth' / f'{number:04d}.jpg'}' is missing or no picture.")
        pictures.append(picture[..., ::-1])
    plate = read_video(folder / "plate.mp4").frames
    order = [known.index(number) for number in frames]
    return TrueViews(
        frame=np.array(frames),
        plate=plate[frames],
        depth=_z_depth(folder / "depth.mkv", len(plate))[frames],
        intrinsics=intrinsics,
        cameras=CameraPath(
            path.world_to_camera[frames], path.intrinsics[frames], path.width, path.height, np.arange(len(frames))
        ),
        color=np.stack(pictures),
        color_depth=_z_depth(folder / "truth_depth.mkv", len(known))[order],
    )


def _z_depth(path: Path, count: int) -> Array:
    stored = read_depth_file(path, "z", 0, count)
    values = stored.values.astype(np.float64)
    return np.asarray(1 / values if stored.kind == "inverse" else values, dtype=np.float32)


def render_true_views(
    views: TrueViews,
    convention: Convention,
    depth: Array | None = None,
    raster: str | Rasteriser = "auto",
    progress: ProgressCallback | None = None,
) -> Conditioning:
    """The plate from the second camera. depth: in place of the true one, [N, H, W]."""
    plane = views.depth if depth is None else depth
    drawn = render_conditioning(views.plate, plane, views.intrinsics, convention, views.cameras, raster, progress)
    if convention == "reference" and views.frame[0] != 0:
        # Its first output frame is the source frame itself; this path starts later, where that would be no view at all.
        twice = CameraPath(
            views.cameras.world_to_camera[[0, 0]],
            views.cameras.intrinsics[[0, 0]],
            views.cameras.width,
            views.cameras.height,
            np.zeros(2),
        )
        second = render_conditioning(views.plate[:1], plane[:1], views.intrinsics, convention, twice, raster, progress)
        drawn.color[0], drawn.mask[0], drawn.depth[0] = second.color[1], second.mask[1], second.depth[1]
    return drawn


def plate_saw(views: TrueViews) -> Array:
    """Where the second camera sees a point that the plate shows as well, so that a perfect mesh would show it.

    Returns:
        bool [N, h, w]
    """
    height, width = views.color_depth.shape[1:]
    pixels = np.stack([*np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), np.ones((height, width))], -1)
    saw = np.empty(views.color_depth.shape, np.bool_)
    for n in range(len(saw)):
        ray = pixels @ np.linalg.inv(views.cameras.intrinsics[n]).T
        pose = views.cameras.world_to_camera[n]
        points = (views.color_depth[n][..., None] * ray - pose[:3, 3]) @ pose[:3, :3]
        column, row = np.moveaxis(project(points, views.intrinsics) - 0.5, -1, 0).astype(
            np.float32
        )  # cv2: from centres
        plate_depth = cv2.remap(views.depth[n], column, row, cv2.INTER_NEAREST, borderValue=np.inf)
        saw[n] = np.abs(plate_depth / points[..., 2] - 1) < SAME_SURFACE
    return saw


def score_true_views(views: TrueViews, drawn: Conditioning) -> list[Score]:
    """Score what was drawn of each frame, over the pixels that it marks as seen."""
    return [
        score_view(drawn.color[n], drawn.mask[n], drawn.depth[n], views.color[n], views.color_depth[n])
        for n in range(len(views.frame))
    ]
