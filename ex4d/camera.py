# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: the path of a take, its file, and the way between pixels and points.

Camera frame: OpenCV (+X right, +Y down, +Z forward). Pixel positions count from the picture's top left edge, so pixel
i is centred at i + 0.5 and the middle of the picture is width / 2. Intrinsics are stored that way in both conventions.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ex4d.errors import CameraError, ShapeError
from ex4d.storage import replacing

Array = npt.NDArray[Any]
Convention = Literal["exact", "reference"]
CONVENTIONS: tuple[Convention, ...] = ("exact", "reference")

# The release saves world-to-camera with the rows of +Y down and +Z forward negated (OpenGL axes).
OPENGL_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
# How far a stored rotation may be from orthonormal: float32 files are within 1e-6, hand-typed ones within 1e-4.
RIGID_TOLERANCE = 1e-4
MAX_SIDE_PX = 16384


@dataclass(frozen=True)
class CameraPath:
    """The camera of every output frame of a take.

    Raises:
        CameraError: a field is no rigid, finite pinhole path; the message names the field and the frame.
    """

    world_to_camera: Array  # float64 [N, 4, 4], OpenCV, rigid
    intrinsics: Array  # float64 [N, 3, 3], pixels
    width: int
    height: int
    source_frame: Array  # float64 [N], 0-based: which frame of the shot each output frame shows

    def __post_init__(self) -> None:
        for name, shape in (("world_to_camera", (4, 4)), ("intrinsics", (3, 3)), ("source_frame", ())):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), shape))
        count = len(self.world_to_camera)
        if count == 0:
            raise CameraError("A camera path needs at least one frame, got 0.")
        for name in ("intrinsics", "source_frame"):
            if len(getattr(self, name)) != count:
                raise CameraError(f"{name} has {len(getattr(self, name))} frames, but world_to_camera has {count}.")
        for name in ("width", "height"):
            object.__setattr__(self, name, _side(name, getattr(self, name)))
        for frame in range(count):
            check_world_to_camera(self.world_to_camera[frame], f"world_to_camera, frame {frame}")
            check_intrinsics(self.intrinsics[frame], f"intrinsics, frame {frame}")
        bad = np.flatnonzero(~(np.isfinite(self.source_frame) & (self.source_frame >= 0)))
        if bad.size:
            value = self.source_frame[bad[0]]
            raise CameraError(f"source_frame, frame {bad[0]}: expected a frame number of 0 or more, got {value}.")

    def __len__(self) -> int:
        return len(self.world_to_camera)


def _numbers(name: str, value: object, shape: tuple[int, ...]) -> Array:
    try:
        array = np.array(value)
        if array.dtype.kind == "c":
            raise CameraError(f"{name} must be real numbers, got complex ones ({array.dtype}).")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CameraError(f"{name} must be an array of numbers, got {type(value).__name__}.") from error
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise CameraError(f"{name} must be {['N', *shape]}, got {list(array.shape)}.")
    return array


def _side(name: str, value: object) -> int:
    if not isinstance(value, int | np.integer) or not 1 <= value <= MAX_SIDE_PX:
        raise CameraError(f"{name} must be a whole number of pixels from 1 to {MAX_SIDE_PX}, got {value!r}.")
    return int(value)


def check_world_to_camera(matrix: Array, name: str = "world_to_camera") -> None:
    """Refuse anything but a finite rotation and translation. matrix: [4, 4]."""
    if matrix.shape != (4, 4):
        raise CameraError(f"{name} must be [4, 4], got {list(matrix.shape)}.")
    if not np.isfinite(matrix).all():
        raise CameraError(f"{name}: {np.count_nonzero(~np.isfinite(matrix))} of 16 numbers are NaN or infinite.")
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > RIGID_TOLERANCE or np.linalg.det(rotation) < 0:
        kind = "mirrors" if error <= RIGID_TOLERANCE else f"scales or shears (off by {error:.3g})"
        raise CameraError(f"{name} must only rotate and move, but it {kind}. Remove scale from the camera's parents.")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID_TOLERANCE:
        raise CameraError(f"{name}: the last row must be 0 0 0 1, got {matrix[3].tolist()}.")


def check_intrinsics(matrix: Array, name: str = "intrinsics") -> None:
    """Refuse anything but [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0. matrix: [3, 3], pixels."""
    if matrix.shape != (3, 3):
        raise CameraError(f"{name} must be [3, 3], got {list(matrix.shape)}.")
    if not np.isfinite(matrix).all():
        raise CameraError(f"{name}: {np.count_nonzero(~np.isfinite(matrix))} of 9 numbers are NaN or infinite.")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CameraError(f"{name}: focal lengths must be above 0 px, got {matrix[0, 0]:g} and {matrix[1, 1]:g}.")
    pinhole = [[matrix[0, 0], 0, matrix[0, 2]], [0, matrix[1, 1], matrix[1, 2]], [0, 0, 1]]
    if not np.array_equal(matrix, pinhole):
        raise CameraError(f"{name} must be a pinhole [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}.")


def check_convention(convention: str) -> None:
    """Refuse a pixel convention that does not exist."""
    if convention not in CONVENTIONS:
        raise CameraError(f"The pixel convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}.")


def pinhole_intrinsics(focal_px: float, width: int, height: int) -> Array:
    """A symmetric pinhole with square pixels. Returns: float64 [3, 3], pixels from the picture's edge."""
    matrix = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], dtype=np.float64)
    check_intrinsics(matrix)
    return matrix


def focal_px_from_lens(lens_mm: float, sensor_width_mm: float, width: int) -> float:
    """Focal length in pixels of a lens before a sensor whose width fills the picture's."""
    for name, value in (("lens_mm", lens_mm), ("sensor_width_mm", sensor_width_mm), ("width", width)):
        if not (np.isfinite(value) and value > 0):
            raise CameraError(f"{name} must be above 0, got {value:g}.")
    return lens_mm * width / sensor_width_mm


def pixel_grid(width: int, height: int, convention: Convention) -> tuple[Array, Array]:
    """Where each column and row of the plate lies, pixels from the edge.

    exact: at the pixel's centre, i + 0.5. reference: at i, as the release places its rays (recon.py).

    Returns:
        u [W] and v [H], float64.
    """
    check_convention(convention)
    offset = 0.5 if convention == "exact" else 0.0
    return np.arange(width) + offset, np.arange(height) + offset


def project(points: Array, intrinsics: Array) -> Array:
    """Find the pixels of camera-frame points.

    Args:
        points: camera frame, any unit. [..., 3]
        intrinsics: pinhole matrix, pixels. [3, 3]

    Returns:
        Pixels from the picture's top left edge; meaningless for points with z <= 0. float64 [..., 2]
    """
    if points.shape[-1:] != (3,):
        raise ShapeError(f"points must be [..., 3], got {list(points.shape)}.")
    check_intrinsics(intrinsics)
    focal, centre = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(points[..., :2] / points[..., 2:] * focal + centre, dtype=np.float64)


def unproject_depth(depth: Array, intrinsics: Array, convention: Convention) -> Array:
    """Lift a depth map to points in the camera frame.

    Args:
        depth: distance along +Z, shot units. [..., H, W]
        intrinsics: pinhole matrix, pixels. [3, 3]
        convention: where in the picture a pixel's ray starts, see `pixel_grid`.

    Returns:
        Camera-frame points, shot units. float64 [..., H, W, 3]
    """
    if depth.ndim < 2:
        raise ShapeError(f"depth must be [..., H, W], got {list(depth.shape)}.")
    check_intrinsics(intrinsics)
    u, v = pixel_grid(depth.shape[-1], depth.shape[-2], convention)
    ray_x, ray_y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    z = depth.astype(np.float64)
    return np.stack([z * ray_x, z * ray_y[:, None], z], axis=-1)


def read_camera_path(path: Path | str) -> CameraPath:
    """Read camera.npz of a take, or a camera file of the EX-4D release.

    The release's files hold `extrinsics` [N, 4, 4] in OpenGL axes and one `intrinsics` [3, 3]; the picture's size is
    twice its principal point, and every frame shows its own source frame.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise CameraError(f"There is no camera file {path}.") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CameraError(f"{path} is no camera file: expected an .npz of plain numbers ({error}).") from error
    if "extrinsics" in arrays and "intrinsics" in arrays:
        return _release_path(path, arrays["extrinsics"], arrays["intrinsics"])
    missing = {"world_to_camera", "intrinsics", "size", "source_frame"} - set(arrays)
    if missing:
        raise CameraError(
            f"{path} lacks {', '.join(sorted(missing))}; it holds {', '.join(sorted(arrays)) or 'nothing'}."
        )
    size = arrays["size"]
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise CameraError(f"{path}: size must be two whole numbers (width, height), got {size.tolist()}.")
    return CameraPath(
        arrays["world_to_camera"], arrays["intrinsics"], int(size[0]), int(size[1]), arrays["source_frame"]
    )


def _release_path(path: Path | str, extrinsics: Array, intrinsics: Array) -> CameraPath:
    if extrinsics.ndim != 3 or extrinsics.shape[1:] != (4, 4) or intrinsics.shape != (3, 3):
        found = f"{list(extrinsics.shape)} and {list(intrinsics.shape)}"
        raise CameraError(f"{path}: expected extrinsics [N, 4, 4] and intrinsics [3, 3], got {found}.")
    extrinsics = _numbers(f"{path}: extrinsics", extrinsics, (4, 4))
    intrinsics = _numbers(f"{path}: intrinsics", intrinsics, (3,))
    check_intrinsics(intrinsics, f"{path}: intrinsics")
    count = len(extrinsics)
    return CameraPath(
        OPENGL_FLIP @ extrinsics,
        np.repeat(intrinsics[None], count, axis=0),
        round(2 * intrinsics[0, 2]),
        round(2 * intrinsics[1, 2]),
        np.arange(count),
    )


def write_camera_path(path: Path | str, cameras: CameraPath) -> None:
    """Write camera.npz of a take, or raise StorageError. A reader never sees half a file."""
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            world_to_camera=cameras.world_to_camera,
            intrinsics=cameras.intrinsics,
            size=np.array([cameras.width, cameras.height], dtype=np.int64),
            source_frame=cameras.source_frame,
        )
