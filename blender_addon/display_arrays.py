# SPDX-License-Identifier: GPL-3.0-or-later
"""display.npz as arrays that Blender takes as they are. Numpy only, so that a background thread can do it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cameras import grid_rays
from .errors import DAMAGED, ShotDataError

STRIDES = {"FULL": 1, "HALF": 2, "QUARTER": 4}

# The outermost vertices are the skirt and the picture's edge: leaving one out would pull the plate's border.
KEPT_AT_EDGES = 2


@dataclass(frozen=True)
class DisplayArrays:
    """The DW-Mesh of every frame over one grid, in Blender's axes under the shot's Empty."""

    rays: np.ndarray  # float32 [V, 3], vertices at depth 1
    quads: np.ndarray  # int32 [Q, 4], vertices of each face; the last one closes the mesh
    corner_uv: np.ndarray  # float32 [Q, 4, 2], texture position of each face's corners, 0-1 from the bottom left
    depth: np.ndarray  # float32 [T, V], shot units
    cut: np.ndarray  # bool [T, Q], faces that only hide what is behind them
    nearest: float  # depth over all frames, without the mesh's border; shot units
    farthest: float
    intrinsics: np.ndarray  # float64 [3, 3], pixels
    width: int
    height: int
    subject: float  # distance of what most likely is the subject, in the first frame; shot units
    source_camera_to_world: np.ndarray | None  # of a plate whose camera moves, OpenCV axes. float64 [T, 4, 4]

    @property
    def frame_count(self) -> int:
        return len(self.depth)


def kept_indices(count: int, stride: int) -> np.ndarray:
    """Return which of a grid's rows (or columns) a stride keeps: every stride-th, and the outer two always."""
    edge = min(KEPT_AT_EDGES, count)
    kept = {*range(edge), *range(count - edge, count), *range(edge, count - edge, stride)}
    return np.array(sorted(kept), dtype=np.int64)


def cut_faces(occluded: np.ndarray, rows: np.ndarray, columns: np.ndarray, has_skirt: bool) -> np.ndarray:
    """Return the faces of a thinned-out grid that only hide what is behind them.

    A coarse face hides as soon as one face inside it does: shown, it would stretch the plate across the gap, and seen
    from the side that reads as a surface where there is none.

    Args:
        occluded: the full grid's quads that do not show the plate. bool [T, H'-1, W'-1]
        rows, columns: the kept ones, first and last included.
        has_skirt: the closing quad only hides, as the skirt does.

    Returns:
        In the order of `grid_quads`, the closing quad last. bool [T, Q]
    """
    cut = np.logical_or.reduceat(np.logical_or.reduceat(occluded, rows[:-1], axis=1), columns[:-1], axis=2)
    closing = np.full((len(cut), 1), has_skirt)
    return np.concatenate([cut.reshape(len(cut), -1), closing], axis=1)


def subject_distance(depth: np.ndarray) -> float:
    """Return a subject's distance: a quarter of the picture's middle third is nearer, as in the library's own moves.

    Args:
        depth: z of a frame, without the mesh's border. [H, W]
    """
    height, width = depth.shape
    middle = depth[height // 3 : height - height // 3, width // 3 : width - width // 3]
    return float(np.quantile(middle, 0.25))


def grid_quads(height: int, width: int) -> np.ndarray:
    """Return the faces of a grid and the closing quad between its corners. int32 [Q, 4]

    (r+1, c), (r+1, c+1), (r, c+1), (r, c): faces look at the source camera and Blender splits them along the same
    diagonal as the rasterisers.
    """
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    cells = np.stack([index[1:, :-1], index[1:, 1:], index[:-1, 1:], index[:-1, :-1]], axis=-1).reshape(-1, 4)
    closing = np.array([[index[-1, 0], index[-1, -1], index[0, -1], index[0, 0]]], dtype=np.int32)
    return np.concatenate([cells, closing])


def read_display(path: Path, stride: int) -> DisplayArrays:
    """Read display.npz and thin it out.

    Args:
        path: the file a reconstruction wrote.
        stride: 1 keeps every vertex, 2 every second row and column, and so on.

    Raises:
        ShotDataError: no such file, or not what a reconstruction writes.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            u, v, depth, occluded = file["u"], file["v"], file["depth"], file["occluded"]
            intrinsics, (width, height) = file["intrinsics"], (int(side) for side in file["size"])
            texture_offset, has_skirt = float(file["texture_offset"]), str(file["convention"]) == "exact"
            motion = file.get("source_camera_to_world")
    except FileNotFoundError as error:
        raise ShotDataError(f"The shot's mesh {path} is gone. Reconstruct the shot again.") from error
    except DAMAGED as error:
        raise ShotDataError(f"The shot's mesh {path} cannot be read ({error}). Reconstruct the shot again.") from error
    frames, quads_shape = len(depth), (len(v) - 1, len(u) - 1)
    bytes_per_frame = -(-math.prod(quads_shape) // 8)
    if depth.shape != (frames, len(v), len(u)) or occluded.shape != (frames, bytes_per_frame) or not frames:
        raise ShotDataError(
            f"The shot's mesh {path} holds depth {list(depth.shape)} and occluded {list(occluded.shape)} for {len(v)} "
            f"rows and {len(u)} columns. Reconstruct the shot again."
        )
    if motion is not None and motion.shape != (frames, 4, 4):
        raise ShotDataError(
            f"The shot's mesh {path} holds {frames} frames, but the plate's camera {list(motion.shape)}. Reconstruct "
            "the shot again."
        )
    bits = np.unpackbits(occluded, axis=1, count=math.prod(quads_shape)).astype(bool).reshape(frames, *quads_shape)
    border = 2 if has_skirt else 1
    inner = depth[:, border:-border, border:-border]
    if not inner.size:
        raise ShotDataError(f"The shot's mesh {path} has no pixel inside its border. Reconstruct the shot again.")
    rows, columns = kept_indices(len(v), stride), kept_indices(len(u), stride)
    u, v = u[columns], v[rows]
    texture_u, texture_v = np.meshgrid((u + texture_offset) / width, 1 - (v + texture_offset) / height)
    uv = np.stack([texture_u, texture_v], axis=-1).reshape(-1, 2).astype(np.float32)
    quads = grid_quads(len(v), len(u))
    return DisplayArrays(
        rays=grid_rays(u, v, intrinsics).reshape(-1, 3).astype(np.float32),
        quads=quads,
        corner_uv=uv[quads],
        depth=np.ascontiguousarray(depth[:, rows][:, :, columns].reshape(frames, -1), dtype=np.float32),
        cut=cut_faces(bits, rows, columns, has_skirt),
        nearest=float(inner.min()),
        farthest=float(inner.max()),
        intrinsics=intrinsics,
        width=width,
        height=height,
        subject=subject_distance(inner[0]),
        source_camera_to_world=motion,
    )
