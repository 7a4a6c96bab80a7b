# SPDX-License-Identifier: Apache-2.0
"""What the new camera sees of the plate: the colour and mask clips that steer the generation."""

from dataclasses import dataclass, replace

import numpy as np
import psutil

from ex4d.camera import Array, CameraPath, Convention, check_convention, check_intrinsics
from ex4d.errors import CameraError, InputError, MachineError, ShapeError
from ex4d.mesh import LARGEST_DEPTH, DWMesh, check_depth, far_depth, watertight_mesh
from ex4d.progress import ProgressCallback, track
from ex4d.raster import NEAR_DEPTH, ClipRasteriser, Rasteriser, rasteriser

BYTES_PER_PIXEL = 3 + 1 + 4  # colour, mask, depth


@dataclass(frozen=True)
class Conditioning:
    """The shot from the take's cameras, one entry per output frame."""

    color: Array  # uint8 [N, h, w, 3], black where the mask is False
    mask: Array  # bool [N, h, w], True where the plate shows, False where we must paint
    depth: Array  # float32 [N, h, w], z-depth of the nearest surface, occluders too; inf where nothing is


def render_conditioning(
    frames: Array,
    depth: Array,
    intrinsics: Array,
    convention: Convention,
    cameras: CameraPath,
    raster: str | Rasteriser = "auto",
    progress: ProgressCallback | None = None,
    sky: Array | None = None,
) -> Conditioning:
    """Draw the shot's meshes from the take's cameras.

    In the reference convention the first output frame is its source frame itself with a full mask, as in the release.

    Args:
        frames: the plate. uint8 [T, H, W, 3]
        depth: z-depth of the plate, shot units. float [T, H, W]
        intrinsics: the plate camera's, pixels. [3, 3]
        cameras: the take's; `source_frame` is rounded to the nearest frame of the plate.
        raster: a backend's name or the backend itself.
        sky: where the plate shows the sky, which then stands on the far card (exact). bool [T, H, W]

    Raises:
        CameraError: a camera asks for a frame that the shot does not have, or (reference) for another size.
        ShapeError, DepthError: the arrays do not fit each other or hold no depth; the message names the frame.
    """
    check_convention(convention)
    for name, array in (("frames", frames), ("depth", depth), ("intrinsics", intrinsics)):
        if not isinstance(array, np.ndarray):
            raise ShapeError(f"{name} must be a numpy array, got {type(array).__name__}.")
    if not isinstance(cameras, CameraPath):
        raise CameraError(f"cameras must be a CameraPath, got {type(cameras).__name__}.")
    check_intrinsics(intrinsics)
    source = _source_frames(frames, depth, cameras)
    height, width = frames.shape[1:3]
    if convention == "reference" and (cameras.width, cameras.height) != (width, height):
        size = f"{cameras.width} x {cameras.height}"
        raise CameraError(
            f"The reference convention renders at the plate's size, {width} x {height}, got {size}. "
            "Set the camera's size to the plate's or use the exact convention."
        )
    backend = rasteriser(raster) if isinstance(raster, str) else raster
    if not isinstance(backend, Rasteriser | ClipRasteriser):
        raise InputError(f"raster must be a rasteriser's name or a rasteriser, got {type(backend).__name__}.")
    for frame, plane in enumerate(depth):
        check_depth(plane, frame)
    if sky is not None and (np.shape(sky) != depth.shape or np.asarray(sky).dtype != np.bool_):
        got = f"{np.asarray(sky).dtype} {list(np.shape(sky))}"
        raise ShapeError(f"sky must be bool {list(depth.shape)} like the depth, got {got}.")
    unit = _unit(depth) if convention == "exact" else 1.0
    if unit != 1:
        depth, cameras = depth * unit, _scaled(cameras, unit)
    far = far_depth(depth, sky)
    _check_room(len(cameras), cameras.height, cameras.width)
    if isinstance(backend, ClipRasteriser):
        view = backend.render_clip(frames, depth, intrinsics, convention, cameras, far, sky, progress)
        result = Conditioning(view.color, view.mask, view.depth)
    else:
        result = _frame_by_frame(frames, depth, intrinsics, convention, cameras, source, backend, far, sky, progress)
    if unit != 1:
        result.depth[:] /= unit
    if convention == "reference":
        result.color[0], result.mask[0] = frames[source[0]], True
    return result


def _unit(depth: Array) -> float:
    """What lengths are multiplied with so that the shot lies beyond the near plane: a power of two, exact in floats."""
    wanted, allowed = 2 * NEAR_DEPTH / float(depth.min()), LARGEST_DEPTH / float(depth.max())
    return 1.0 if wanted <= 1 else float(2.0 ** min(np.ceil(np.log2(wanted)), np.floor(np.log2(allowed))))


def _scaled(cameras: CameraPath, unit: float) -> CameraPath:
    poses = cameras.world_to_camera.copy()
    poses[:, :3, 3] *= unit
    return replace(cameras, world_to_camera=poses)


def _frame_by_frame(
    frames: Array,
    depth: Array,
    intrinsics: Array,
    convention: Convention,
    cameras: CameraPath,
    source: Array,
    backend: Rasteriser,
    far: float,
    sky: Array | None,
    progress: ProgressCallback | None,
) -> Conditioning:
    """Build each mesh and draw it. source: the plate's frame of each output frame, int [N]; the rest as above."""
    shape = (len(cameras), cameras.height, cameras.width)
    result = Conditioning(np.empty((*shape, 3), np.uint8), np.empty(shape, np.bool_), np.empty(shape, np.float32))
    mesh: DWMesh | None = None
    for n in track(range(len(cameras)), "Rendering the mesh", progress):
        if mesh is None or source[n] != source[n - 1]:
            shown = source[n]
            mesh = watertight_mesh(depth[shown], intrinsics, convention, far, None if sky is None else sky[shown])
        pose, lens = cameras.world_to_camera[n], cameras.intrinsics[n]
        view = backend.render(mesh, frames[source[n]], pose, lens, cameras.width, cameras.height)
        result.color[n], result.mask[n], result.depth[n] = view.color, view.mask, view.depth
    return result


def _source_frames(frames: Array, depth: Array, cameras: CameraPath) -> Array:
    """Check the clip and find the plate's frame of each output frame. Returns: int [N]"""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3:] != (3,) or frames.size == 0:
        raise ShapeError(f"frames must be uint8 [T, H, W, 3] and not empty, got {frames.dtype} {list(frames.shape)}.")
    if depth.shape != frames.shape[:3]:
        raise ShapeError(f"depth must be {list(frames.shape[:3])} like the frames, got {list(depth.shape)}.")
    source = np.rint(cameras.source_frame)
    late = np.flatnonzero(source > len(frames) - 1)
    if late.size:
        raise CameraError(
            f"source_frame, frame {late[0]}: asks for frame {cameras.source_frame[late[0]]:g}, but the shot has frames "
            f"0 to {len(frames) - 1}. Shorten the camera move or freeze its end."
        )
    return source.astype(np.intp)


def _check_room(count: int, height: int, width: int) -> None:
    """Refuse a result that does not fit while it can still be said: a system may end a process that takes too much."""
    needed = count * height * width * BYTES_PER_PIXEL
    available = psutil.virtual_memory().available
    if needed > available:
        size = f"{count} frames of {width} x {height}"
        raise MachineError(
            f"{size} need {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free. "
            "Render fewer frames or a smaller picture."
        )
