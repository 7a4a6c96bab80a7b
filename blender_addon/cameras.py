# SPDX-License-Identifier: GPL-3.0-or-later
"""The one conversion between Blender's cameras and OpenCV's. Numpy only: nothing here knows bpy.

The shot's world is the first plate camera's frame, OpenCV axes (+X right, +Y down, +Z forward). In Blender the same
world lies under the shot's Empty with Z up: (x, y, z) there is (x, z, -y) here, so the source camera looks along +Y.
Blender's cameras look along -Z with +Y up. Pixels count from the picture's top left edge: pixel i's centre is i + 0.5.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Fit = Literal["AUTO", "HORIZONTAL", "VERTICAL"]

BLENDER_FROM_OPENCV: Array = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
OPENCV_FROM_BLENDER: Array = BLENDER_FROM_OPENCV.T

# Turns a camera's own axes from OpenCV's to Blender's, and back.
CAMERA_FLIP: Array = np.diag([1.0, -1.0, -1.0, 1.0])

# Blender computes matrices in float32, about 1e-7 per operation; a chain of parents stays below this.
RIGID_TOLERANCE = 1e-4


class NotRigidError(ValueError):
    """A matrix holds NaN, shear or a mirror, so that it is no camera pose."""


@dataclass(frozen=True)
class Lens:
    """What a Blender camera says about its lens."""

    lens_mm: float
    sensor_width_mm: float
    sensor_height_mm: float
    sensor_fit: Fit
    shift_x: float
    shift_y: float


@dataclass(frozen=True)
class Picture:
    """Size of the rendered picture in pixels, and the shape of one pixel."""

    width: int
    height: int
    pixel_aspect_x: float = 1.0
    pixel_aspect_y: float = 1.0


def intrinsics_of(lens: Lens, picture: Picture) -> Array:
    """Return the pinhole matrix of a Blender camera, pixels. [3, 3]"""
    aspect = picture.pixel_aspect_y / picture.pixel_aspect_x
    fit, sensor_mm = lens.sensor_fit, lens.sensor_width_mm
    if fit == "AUTO":  # AUTO measures both ways with the sensor's width
        fit = "HORIZONTAL" if picture.width >= picture.height * aspect else "VERTICAL"
    elif fit == "VERTICAL":
        sensor_mm = lens.sensor_height_mm
    span = picture.width if fit == "HORIZONTAL" else picture.height * aspect
    focal_px = lens.lens_mm * span / sensor_mm
    center_x = picture.width / 2 - lens.shift_x * span
    center_y = picture.height / 2 + lens.shift_y * span / aspect
    return np.array([[focal_px, 0.0, center_x], [0.0, focal_px / aspect, center_y], [0.0, 0.0, 1.0]])


def lens_of(intrinsics: Array, width: int, height: int, sensor_width_mm: float = 36.0) -> Lens:
    """Return the lens whose `intrinsics_of` a picture with square pixels is the given matrix. [3, 3]

    The sensor spans the picture's width, so that focal length and film back read as on a data sheet.
    """
    return Lens(
        lens_mm=float(intrinsics[0, 0]) * sensor_width_mm / width,
        sensor_width_mm=sensor_width_mm,
        sensor_height_mm=sensor_width_mm * height / width,
        sensor_fit="HORIZONTAL",
        shift_x=(width / 2 - float(intrinsics[0, 2])) / width,
        shift_y=(float(intrinsics[1, 2]) - height / 2) / width,
    )


def _rotation(matrix: Array, what: str) -> Array:
    """Return the nearest rotation to the upper left 3x3 block of a pose whose scale does not matter."""
    if not np.isfinite(matrix).all():
        raise NotRigidError(f"{what} is not a number")
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if lengths.min() == 0:
        raise NotRigidError(f"{what} is scaled to zero")
    axes = axes / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > RIGID_TOLERANCE:
        raise NotRigidError(f"{what} is sheared")
    if np.linalg.det(axes) < 0:
        raise NotRigidError(f"{what} is mirrored")
    left, _, right = np.linalg.svd(axes)
    return np.asarray(left @ right)


def world_to_camera(camera_to_scene: Array, shot_to_scene: Array) -> Array:
    """Return a Blender camera's pose in the shot's world.

    Args:
        camera_to_scene: the camera's `matrix_world`; its scale does not matter, as in Blender. [4, 4]
        shot_to_scene: `matrix_world` of the shot's Empty; any position, rotation and uniform scale. [4, 4]

    Returns:
        Rigid matrix from the shot's world to the camera, OpenCV axes, shot units. [4, 4]

    Raises:
        NotRigidError: NaN, shear or a mirror in either, or the Empty scaled unevenly.
    """
    _rotation(shot_to_scene, "the shot's Empty")
    scales = np.linalg.norm(shot_to_scene[:3, :3], axis=0)
    if scales.max() - scales.min() > RIGID_TOLERANCE * scales.max():
        raise NotRigidError("the shot's Empty is scaled unevenly")
    _rotation(camera_to_scene, "the camera")
    camera_to_world = OPENCV_FROM_BLENDER @ np.linalg.inv(shot_to_scene) @ camera_to_scene @ CAMERA_FLIP
    rotation = _rotation(camera_to_world, "the camera")
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ camera_to_world[:3, 3]
    return pose


def camera_to_shot(world_to_camera_pose: Array) -> Array:
    """Return the Blender matrix, relative to the shot's Empty, of a camera of the shot's world. [4, 4]"""
    return np.asarray(BLENDER_FROM_OPENCV @ np.linalg.inv(world_to_camera_pose) @ CAMERA_FLIP)


def shot_from_solved(camera_to_solved: Array, points: Array, first: Array) -> tuple[Array, Array]:
    """Bring a solve into the shot's world, which is its first camera's frame.

    Args:
        camera_to_solved: each frame's pose as Blender's tracking keeps it: Blender's camera axes, any world. [T, 4, 4]
        points: the solved tracks, in that world. [P, 3]
        first: the earliest camera's pose there, whether its frame is used or not. [4, 4]

    Returns:
        world_to_camera of each frame, rigid, OpenCV axes [T, 4, 4], and the points in the shot's world [P, 3].
    """
    to_first = CAMERA_FLIP @ np.linalg.inv(first)
    camera_to_world = to_first @ camera_to_solved @ CAMERA_FLIP
    left, _, right = np.linalg.svd(camera_to_world[:, :3, :3])  # the nearest rotations: Blender keeps float32
    rotations = (left @ right).transpose(0, 2, 1)
    poses = np.tile(np.eye(4), (len(camera_to_solved), 1, 1))
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = -np.einsum("nij,nj->ni", rotations, camera_to_world[:, :3, 3])
    return poses, points @ to_first[:3, :3].T + to_first[:3, 3]


def mesh_to_shot(camera_to_world: Array) -> Array:
    """Return the Blender matrix, relative to the shot's Empty, of the mesh of a frame whose camera stood there.

    A frame's mesh is built before a camera at the Empty that looks along +Y; this moves it before the frame's own.

    Args:
        camera_to_world: the frame's camera in the shot's world, OpenCV axes. [..., 4, 4]

    Returns:
        [..., 4, 4]
    """
    return np.asarray(BLENDER_FROM_OPENCV @ camera_to_world @ OPENCV_FROM_BLENDER)


def grid_rays(u: Array, v: Array, intrinsics: Array) -> Array:
    """Return each grid vertex at depth 1, in Blender's axes under the Empty: depth times this is the vertex.

    Args:
        u: column coordinates, pixels from the picture's left edge. [W']
        v: row coordinates, pixels from the top edge. [H']
        intrinsics: the source camera's. [3, 3]

    Returns:
        [H', W', 3]
    """
    right, down = np.meshgrid((u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1])
    return np.stack([right, np.ones_like(right), -down], axis=-1)
