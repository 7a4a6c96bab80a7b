# SPDX-License-Identifier: Apache-2.0
"""Random camera paths as extreme as those that the adapter is for, each from a seed.

The paper's range is -90 to 90 degrees (arXiv 2506.05554, abstract). How it draws its training paths is not published;
the kinds, their shares and the limits below are ours. Every path starts at the source view, as those of a take do.
"""

from dataclasses import dataclass

import numpy as np

from ex4d.camera import Array, CameraPath
from ex4d.document import Json
from ex4d.trajectory import camera_move, default_pivot

MAX_ANGLE_DEG, MIN_ANGLE_DEG = 90.0, 15.0
RISE_DEG = (-10.0, 30.0)  # orbits seldom go below the ground
PIVOT_FACTOR = (0.8, 1.25)  # of the subject's distance: a hand never aims at it exactly
KINDS = {"orbit": 0.5, "dolly": 0.2, "free": 0.3}
# Dollies go forward, aside, up and down. Backward ones hide nothing that the source view shows.
DOLLIES = {"dolly": (0.15, 0.5), "truck": (0.2, 0.9), "pedestal": (0.15, 0.6), "crane": (0.2, 0.9)}
FREE_POSES = 3  # that a free path passes after the source view
FREE_DISTANCE = (0.5, 1.3)  # from the pivot, as a share of the source camera's
FREE_ROLL_DEG = 8.0
EASES = ("linear", "smooth", "out")


@dataclass(frozen=True)
class RandomPath:
    """A camera path and the words that make it again."""

    cameras: CameraPath
    about: dict[str, Json]


def random_path(seed: int, depth0: Array, intrinsics: Array, frame_count: int) -> RandomPath:
    """Draw a path over a clip.

    Args:
        seed: decides everything.
        depth0: z-depth of the clip's first frame. [H, W]
        intrinsics: the plate camera's, pixels. [3, 3]
        frame_count: of the clip; output frame n shows its frame n.
    """
    draw = np.random.default_rng(seed)
    kind = str(draw.choice(list(KINDS), p=list(KINDS.values())))
    pivot = default_pivot(depth0) * float(draw.uniform(*PIVOT_FACTOR))
    if kind == "free":
        return _free_path(draw, pivot, depth0, intrinsics, frame_count)
    if kind == "orbit":
        angle, rise = _angle_deg(draw), draw.uniform(*RISE_DEG)
        move = f"orbit:angle={angle:.2f},rise={rise:.2f}"
    else:
        name = str(draw.choice(list(DOLLIES)))
        distance = draw.uniform(*DOLLIES[name])
        if name != "dolly":
            distance *= draw.choice([-1, 1])
        move = f"{name}:distance={distance:.3f}"
    move += f",ease={draw.choice(EASES)},pivot={pivot:.6g}"
    height, width = depth0.shape
    return RandomPath(camera_move(move, depth0, intrinsics, width, height, frame_count), {"kind": kind, "move": move})


def _angle_deg(draw: np.random.Generator) -> float:
    return float(draw.uniform(MIN_ANGLE_DEG, MAX_ANGLE_DEG) * draw.choice([-1, 1]))


def _free_path(
    draw: np.random.Generator, pivot: float, depth0: Array, intrinsics: Array, frame_count: int
) -> RandomPath:
    """Round the pivot through a few random poses, evenly in time, without a corner, and rolling a little."""
    poses = np.zeros((FREE_POSES + 1, 4))  # azimuth and elevation in degrees, distance, roll in degrees
    poses[:, 2] = 1
    side = draw.choice([-1, 1])
    for pose in poses[1:]:
        pose[:] = (
            side * draw.uniform(0, MAX_ANGLE_DEG),
            draw.uniform(*RISE_DEG),
            draw.uniform(*FREE_DISTANCE),
            draw.uniform(-FREE_ROLL_DEG, FREE_ROLL_DEG),
        )
    azimuth, elevation, distance, roll = _smooth(poses, frame_count).T
    azimuth, elevation, roll = np.radians(azimuth), np.radians(elevation), np.radians(roll)
    out = np.stack(
        [np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), -np.cos(elevation) * np.cos(azimuth)], axis=-1
    )
    eyes = np.array([0, 0, pivot]) + (pivot * distance)[:, None] * out
    world_to_camera = np.stack([_looking(eye, -way, turn) for eye, way, turn in zip(eyes, out, roll, strict=True)])
    height, width = depth0.shape
    lenses = np.repeat(intrinsics[None], frame_count, axis=0)
    cameras = CameraPath(world_to_camera, lenses, width, height, np.arange(frame_count))
    return RandomPath(cameras, {"kind": "free", "pivot": round(pivot, 6), "poses": np.round(poses, 3).tolist()})


def _smooth(poses: Array, count: int) -> Array:
    """A Catmull-Rom curve through the poses. [P, K] -> [count, K]"""
    ends = np.concatenate([poses[:1], poses, poses[-1:]])
    time = np.linspace(0, len(poses) - 1, count)
    first = np.minimum(time.astype(int), len(poses) - 2)
    s = (time - first)[:, None]
    a, b, c, d = (ends[first + k] for k in range(4))
    return np.asarray(b + s / 2 * (c - a + s * (2 * a - 5 * b + 4 * c - d + s * (3 * (b - c) + d - a))))


def _looking(eye: Array, forward: Array, roll_rad: float) -> Array:
    """World to camera of an upright camera that is then rolled clockwise. [4, 4]"""
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll_rad), np.sin(roll_rad)
    rotation = np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix
