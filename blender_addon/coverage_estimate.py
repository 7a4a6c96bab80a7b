# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of each picture along a camera path the plate never saw, estimated while the artist still moves the camera.

Numpy only, for a background thread. Points of the plate are thrown into a small picture: where none lands, a take has
to paint. What hides other things is left out, and gaps narrower than a pixel of the small picture are missed; Check
Coverage measures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DAMAGED, ShotDataError
from .path_sampling import SampledPath

POINTS_ACROSS = 200  # of the plate at most
PIXELS_ACROSS = 96  # of the small picture; at least two points land in a pixel where the camera does not come nearer
NEAREST = 1e-4  # shot units before the camera
MEDIAN_STRIDE = 7  # of the points, to find how far apart they land


@dataclass(frozen=True)
class PlateSamples:
    """Points of each frame of the plate, before its own camera."""

    rays: np.ndarray  # float32 [3, P], OpenCV axes, at depth 1
    depth: np.ndarray  # float32 [T, P], shot units; 0 where the plate shows no surface
    columns: int  # across the plate
    focal_px: float  # in points: of a picture that is `columns` wide
    source_camera_to_world: np.ndarray | None  # [T, 4, 4]


def read_samples(path: Path) -> PlateSamples:
    """Read display.npz. For the background thread.

    Raises:
        ShotDataError: no such file, or not what a reconstruction writes.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            u, v, depth, occluded = file["u"], file["v"], file["depth"], file["occluded"]
            intrinsics, width = file["intrinsics"], int(file["size"][0])
            border = 2 if str(file["convention"]) == "exact" else 0
            motion = file.get("source_camera_to_world")
    except DAMAGED as error:
        raise ShotDataError(f"The shot's mesh {path} cannot be read ({error}). Reconstruct the shot again.") from error
    stride = -(-width // POINTS_ACROSS)
    faces = (len(v) - 1) * (len(u) - 1)
    rows, columns = slice(border, len(v) - 1 - border, stride), slice(border, len(u) - 1 - border, stride)
    right, down = np.meshgrid(
        (u[columns] - intrinsics[0, 2]) / intrinsics[0, 0], (v[rows] - intrinsics[1, 2]) / intrinsics[1, 1]
    )
    rays = np.stack([right, down, np.ones_like(right)]).reshape(3, -1).astype(np.float32)
    kept = []
    for frame, bits in zip(depth, occluded, strict=True):  # one by one: a whole plate's faces are large
        is_cut = np.unpackbits(bits, count=faces).astype(bool).reshape(len(v) - 1, len(u) - 1)
        kept.append(np.where(is_cut[rows, columns], 0, frame[rows, columns]).ravel())
    return PlateSamples(
        rays,
        np.array(kept, dtype=np.float32),
        right.shape[1],
        float(intrinsics[0, 0]) * right.shape[1] / width,
        motion,
    )


def unseen_shares(samples: PlateSamples, path: SampledPath) -> np.ndarray:
    """Return which share of each picture the plate does not show, 0 to 1. float64 [N]

    Too low where things stand before each other, for what is hidden counts as seen: on a smooth plate within 0.04 of
    Check Coverage, on the sample plate 0.17 where that measures 0.26.
    """
    shares = np.empty(len(path.source_frame))
    for n, source in enumerate(path.source_frame.astype(np.intp)):
        to_camera = path.world_to_camera[n]
        if samples.source_camera_to_world is not None:
            to_camera = to_camera @ samples.source_camera_to_world[source]
        shares[n] = _unseen(samples, samples.depth[source], to_camera, path.intrinsics[n], path.width, path.height)
    return shares


def _unseen(samples, depth, to_camera, intrinsics, width, height):
    turned = (intrinsics @ to_camera[:3, :3]).astype(np.float32) @ samples.rays
    moved = (intrinsics @ to_camera[:3, 3]).astype(np.float32)
    z = turned[2] * depth + moved[2]
    before = (depth > 0) & (z > NEAREST)
    if not before.any():
        return 1.0
    nearer = (depth[before] / z[before])[::MEDIAN_STRIDE]
    # How far apart neighbouring points land: nearer or zoomed in, the picture has to be smaller to have no gaps.
    apart = float(intrinsics[0, 0]) / samples.focal_px * float(np.quantile(nearer, 0.75))  # pixels of the take
    across = min(PIXELS_ACROSS, max(1, int(width / (2 * apart))))
    scale = across / width
    down = max(1, round(height * scale))
    per_z = np.float32(scale) / np.where(before, z, np.float32(np.inf))
    columns, rows = (turned[0] * depth + moved[0]) * per_z, (turned[1] * depth + moved[1]) * per_z
    inside = before & (columns >= 0) & (columns < across) & (rows >= 0) & (rows < down)
    hit = np.zeros(across * down, dtype=bool)
    hit[rows[inside].astype(np.int32) * across + columns[inside].astype(np.int32)] = True
    return 1 - float(hit.mean())
