# SPDX-License-Identifier: Apache-2.0
"""The camera that filmed the plate: where it stood in each frame, when it was solved or given.

A plate whose camera moves stands still in the world only if every frame's mesh is put where its camera was. The world
is then the tracked scene's; without this, the plate's camera never moves and its frame is the world.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath, check_intrinsics, check_world_to_camera, read_camera_path
from ex4d.errors import CameraError

LENS_TOLERANCE = 1e-3  # a solver's constant lens wobbles less than this share of its focal length


@dataclass(frozen=True, eq=False)
class SourceCameras:
    """The plate's camera, one entry per frame of the plate's clip.

    Raises:
        CameraError: a pose is no rigid, finite one; the message names the frame.
    """

    camera_to_world: NDArray[np.float64]  # OpenCV camera to the shot's world, shot units. [T, 4, 4]
    intrinsics: NDArray[np.float64]  # pixels of the plate; the same lens in all frames. [3, 3]
    width: int  # of the plate, pixels
    height: int

    def __post_init__(self) -> None:
        check_intrinsics(self.intrinsics, "intrinsics of the source camera")
        if self.camera_to_world.ndim != 3:
            raise CameraError(f"camera_to_world must be [T, 4, 4], got {list(self.camera_to_world.shape)}.")
        for frame, pose in enumerate(self.camera_to_world):
            check_world_to_camera(pose, f"source_camera_to_world, frame {frame}")

    def __len__(self) -> int:
        return len(self.camera_to_world)


def read_source_cameras(path: Path, frame_start: int, frame_count: int, width: int, height: int) -> SourceCameras:
    """Read the plate's camera from a camera file.

    Args:
        path: a camera .npz, one entry per frame used, or one per frame of the whole plate.
        frame_start: first frame of the plate that is used.
        frame_count: how many are used.
        width, height: of the plate; a file for another size of the same shape is scaled.

    Raises:
        CameraError: it cannot be read, has too few frames, another shape of picture, or a lens that zooms.
    """
    cameras = read_camera_path(path)
    if len(cameras) == frame_count:
        frame_start = 0
    elif len(cameras) < frame_start + frame_count:
        raise CameraError(
            f"'{path}' has {len(cameras)} frames, the plate uses frames {frame_start} to "
            f"{frame_start + frame_count - 1}. Export the source camera for every frame of the plate."
        )
    used = slice(frame_start, frame_start + frame_count)
    scale = width / cameras.width
    if abs(cameras.height * scale - height) > 1:
        raise CameraError(
            f"'{path}' is for pictures of {cameras.width} x {cameras.height}, the plate is {width} x {height}. "
            "Export the source camera at the plate's shape."
        )
    lenses = cameras.intrinsics[used]
    focal = lenses[:, [0, 1], [0, 1]]
    if np.ptp(focal, axis=0).max() > LENS_TOLERANCE * focal.max():
        raise CameraError(
            f"The source camera in '{path}' zooms from {focal[:, 0].min():.1f} to {focal[:, 0].max():.1f} px. "
            "A shot has one lens: split the plate where the zoom begins and ends."
        )
    return SourceCameras(
        camera_to_world=np.linalg.inv(cameras.world_to_camera[used]),
        intrinsics=np.diag([scale, scale, 1.0]) @ np.median(lenses, axis=0),
        width=width,
        height=height,
    )


def from_first_frame(path: CameraPath, camera_to_world: NDArray[np.float64] | None) -> CameraPath:
    """Put a camera move that was planned in the first frame's camera into the shot's world.

    Args:
        path: a move that starts at the identity.
        camera_to_world: of the shot's source camera, [T, 4, 4]; None when its world is the plate camera's.
    """
    if camera_to_world is None:
        return path
    return dataclasses.replace(path, world_to_camera=path.world_to_camera @ np.linalg.inv(camera_to_world[0]))


def seen_from_the_plate(path: CameraPath, camera_to_world: NDArray[np.float64] | None) -> CameraPath:
    """Each output frame's camera as seen from the camera that filmed the frame it shows.

    A frame's mesh lies before its own camera. Drawn with this path it stands where it was filmed, so that what does not
    move in the world does not move in the take.

    Args:
        path: in the shot's world.
        camera_to_world: as above.
    """
    if camera_to_world is None:
        return path
    # A frame that the shot does not have is refused where the meshes are drawn.
    shown = np.clip(np.rint(path.source_frame), 0, len(camera_to_world) - 1).astype(np.intp)
    return dataclasses.replace(path, world_to_camera=path.world_to_camera @ camera_to_world[shown])
