# SPDX-License-Identifier: Apache-2.0
"""What an artist says about a plate's distances, read from options and files."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ex4d.depth.normalise import Known
from ex4d.errors import DepthError
from ex4d.source_camera import SourceCameras

KNOWN_OPTIONS = ("near", "far", "distances")
"""near=Z, far=Z: of the clip. distances=X,Y,Z[,FRAME];...: measured along the camera's axis at a pixel."""


def known_distances(
    values: Mapping[str, str], points_file: Path | None = None, cameras: SourceCameras | None = None
) -> Known:
    """Collect what is known.

    Args:
        values: of `KNOWN_OPTIONS`.
        points_file: .npz with `points` [P, 4] (frame, x, y, z), or `world_points` [P, 3], a solver's bundles.
        cameras: the plate's, to see world points from.

    Raises:
        DepthError: something cannot be read; the message says what was expected.
    """
    points = [_typed_points(values["distances"])] if "distances" in values else []
    if points_file is not None:
        points.append(_stored_points(points_file, cameras))
    return Known(
        near=number(values, "near", None),
        far=number(values, "far", None),
        points=np.concatenate(points) if points else np.empty((0, 4)),
    )


def number(values: Mapping[str, str], key: str, default: float | None) -> float | None:
    """An option as a number."""
    if key not in values:
        return default
    try:
        value = float(values[key])
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DepthError(f"The depth option {key} must be a number, got '{values[key]}'.")
    return value


def switch(values: Mapping[str, str], key: str) -> bool:
    """An option as yes or no; no when it is not there."""
    value = values.get(key, "no").lower()
    if value not in {"yes", "no", "true", "false"}:
        raise DepthError(f"The depth option {key} must be yes or no, got '{values[key]}'.")
    return value in {"yes", "true"}


def _typed_points(text: str) -> NDArray[np.float64]:
    points = []
    for part in text.split(";"):
        try:
            numbers = [float(item) for item in part.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (3, 4):
            raise DepthError(
                "The depth option distances must be X,Y,Z or X,Y,Z,FRAME, several parted by ';' (pixels from the top "
                f"left, Z in shot units), got '{part}'."
            )
        x, y, z, frame = (*numbers, 0.0)[:4]
        points.append((frame, x, y, z))
    return np.array(points, np.float64)


def _stored_points(path: Path, cameras: SourceCameras | None) -> NDArray[np.float64]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            stored = {name: np.asarray(arrays[name], np.float64) for name in arrays}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DepthError(f"The known points '{path}' cannot be read: {error}. Save them with numpy.savez.") from error
    if "points" in stored and stored["points"].ndim == 2 and stored["points"].shape[1] == 4:
        return stored["points"]
    if "world_points" in stored and stored["world_points"].ndim == 2 and stored["world_points"].shape[1] == 3:
        if cameras is None:
            raise DepthError(f"'{path}' holds points of the world: give the solved camera too (--source-camera).")
        return seen_points(stored["world_points"], cameras)
    held = ", ".join(f"{name} {list(array.shape)}" for name, array in stored.items()) or "nothing"
    raise DepthError(f"'{path}' must hold points [P, 4] (frame, x, y, z) or world_points [P, 3], it holds {held}.")


def seen_points(world_points: NDArray[np.float64], cameras: SourceCameras) -> NDArray[np.float64]:
    """Where and how far a solver's points are in every frame that sees them.

    Args:
        world_points: in the cameras' world, shot units. [P, 3]
        cameras: of the plate.

    Returns:
        frame, x, y, z. [Q, 4]
    """
    seen = []
    for frame, pose in enumerate(cameras.camera_to_world):
        points = (world_points - pose[:3, 3]) @ pose[:3, :3]
        x, y, z = cameras.intrinsics @ points.T
        ahead = z > 1e-6
        x, y, z = x[ahead] / z[ahead], y[ahead] / z[ahead], z[ahead]
        inside = (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
        seen.append(np.column_stack([np.full(inside.sum(), frame), x[inside], y[inside], z[inside]]))
    return np.concatenate(seen)
