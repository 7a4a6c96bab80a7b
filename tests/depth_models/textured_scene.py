# SPDX-License-Identifier: Apache-2.0
"""A still, textured scene seen by a moving camera, ray-cast with numpy: pictures and their exact depth."""

from dataclasses import dataclass

import numpy as np

from ex4d.source_camera import SourceCameras

SPHERES = np.array([[-0.9, 0.1, 4.0, 0.7], [0.8, 0.35, 3.2, 0.45], [0.3, -0.5, 5.5, 0.6]])  # x, y, z, radius; metres
FLOOR_Y, WALL_Z = 0.9, 8.0
SAMPLES = 2  # rays per pixel and axis, for the colours


@dataclass(frozen=True)
class Scene:
    """Pictures of a scene with the truth about them."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    depth: np.ndarray  # z through each pixel's centre. float32 [T, H, W]
    cameras: SourceCameras


def scene(count: int = 9, width: int = 160, height: int = 120, focal_px: float = 150.0, travel: float = 0.8) -> Scene:
    """The camera goes sideways by `travel` metres and a little up and forward, turning to keep the scene in view."""
    intrinsics = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    poses = np.stack([_pose(share, travel) for share in np.linspace(-0.5, 0.5, count)])
    offsets = (np.arange(SAMPLES) + 0.5) / SAMPLES
    frames, depths = [], []
    for pose in poses:
        colour = np.mean(
            [_colour(_points(pose, intrinsics, width, height, x, y)[0]) for x in offsets for y in offsets], axis=0
        )
        frames.append(np.round(255 * colour).astype(np.uint8))
        depths.append(_points(pose, intrinsics, width, height, 0.5, 0.5)[1].astype(np.float32))
    return Scene(np.stack(frames), np.stack(depths), SourceCameras(poses, intrinsics, width, height))


def _pose(share: float, travel: float) -> np.ndarray:
    """camera_to_world [4, 4]"""
    turn, tilt = -0.12 * share, 0.03 * share
    pose = np.eye(4)
    pose[:3, :3] = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]) @ np.array(
        [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    )
    pose[:3, 3] = travel * share, -0.2 * travel * share, 0.25 * travel * share
    return pose


def _points(pose: np.ndarray, intrinsics: np.ndarray, width: int, height: int, x: float, y: float):
    """What each pixel sees at the offset (x, y) inside it: points in the world [H, W, 3], and their z [H, W]."""
    u, v = np.meshgrid(np.arange(width) + x, np.arange(height) + y)
    rays = np.stack([(u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]], axis=-1)
    rays = np.concatenate([rays, np.ones((height, width, 1))], axis=-1) @ pose[:3, :3].T  # z of the camera: 1
    eye = pose[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = [np.where(rays[..., 1] > 0, (FLOOR_Y - eye[1]) / rays[..., 1], np.inf), (WALL_Z - eye[2]) / rays[..., 2]]
    for *centre, radius in SPHERES:
        away = eye - centre
        a, b, c = (rays**2).sum(-1), (rays @ away), away @ away - radius**2
        inside = b**2 - a * c
        hits.append(np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf))
    z = np.min(hits, axis=0)
    return eye + rays * z[..., None], z


_LATTICE = np.random.default_rng(5).uniform(0, 1, (32, 32, 32, 3))


def _colour(points: np.ndarray) -> np.ndarray:
    """Coloured noise that fills space, from coarse to fine: 0..1 [..., 3]"""
    colour = np.full(points.shape, 0.5)
    for scale, strength in ((1.5, 0.5), (4.0, 0.5), (9.0, 0.35)):
        colour += strength * (_noise(points * scale) - 0.5)
    return np.clip(colour, 0, 1)


def _noise(points: np.ndarray) -> np.ndarray:
    low = np.floor(points).astype(int)
    share = points - low
    total = np.zeros(points.shape)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, share, 1 - share), axis=-1)[..., None]
        x, y, z = (low[..., i] + corner[i] for i in range(3))
        total += weight * _LATTICE[x % 32, y % 32, z % 32]
    return total
