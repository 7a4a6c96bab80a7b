# SPDX-License-Identifier: GPL-3.0-or-later
"""display.npz as arrays that Blender takes as they are. Numpy only, so that a background thread can do it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cameras import grid_rays
from .errors import ShotDataError

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
    occluded: np.ndarray  # bool [T, V], vertices that show nothing
    intrinsics: np.ndarray  # float64 [3, 3], pixels
    width: int
    height: int

    @property
    def frame_count(self) -> int:
        return len(self.depth)


def kept_indices(count: int, stride: int) -> np.ndarray:
    """Return which of a grid's rows (or columns) a stride keeps: every stride-th, and the outer two always."""
    edge = min(KEPT_AT_EDGES, count)
    kept = {*range(edge), *range(count - edge, count), *range(edge, count - edge, stride)}
    return np.array(sorted(kept), dtype=np.int64)


def _strided_mask(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return a mask over the kept vertices that is true where any left-out neighbour was.

    A coarse face then has all its corners set exactly when a cut face lies inside it.
    """
    for axis, kept in ((1, rows), (2, columns)):
        begin = np.concatenate(([0], kept[:-1] + 1))
        end = np.concatenate((kept[1:], [kept[-1] + 1]))
        padding = [(1, 0) if i == axis else (0, 0) for i in range(3)]
        running = np.pad(np.cumsum(mask, axis=axis, dtype=np.int32), padding)
        mask = np.take(running, end, axis=axis) > np.take(running, begin, axis=axis)
    return mask


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
        with np.load(path, allow_pickle=False) as file:
            u, v, depth, occluded = file["u"], file["v"], file["depth"], file["occluded"]
            intrinsics, (width, height) = file["intrinsics"], (int(side) for side in file["size"])
            texture_offset = float(file["texture_offset"])
    except FileNotFoundError as error:
        raise ShotDataError(f"The shot's mesh {path} is gone. Reconstruct the shot again.") from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ShotDataError(f"The shot's mesh {path} cannot be read ({error}). Reconstruct the shot again.") from error
    if depth.ndim != 3 or depth.shape[1:] != (len(v), len(u)) or len(occluded) != len(depth):
        raise ShotDataError(
            f"The shot's mesh {path} holds {list(depth.shape)} depths for {len(v)} rows and {len(u)} columns. "
            "Reconstruct the shot again."
        )
    frames = len(depth)
    bits = np.unpackbits(occluded, axis=1, count=len(v) * len(u)).astype(bool).reshape(depth.shape)
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
        occluded=_strided_mask(bits, rows, columns).reshape(frames, -1),
        intrinsics=intrinsics,
        width=width,
        height=height,
    )
