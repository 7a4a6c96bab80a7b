# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves by name, as poses of a Blender camera. Numpy only: nothing here knows bpy.

The same moves as on the library's command line. They begin at the camera's own pose; distances are shares of the way to
the subject, so that a move looks alike in any scale. The scene's Z is up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .cameras import Array

UP = np.array([0.0, 0.0, 1.0])
DEGREES_PER_KEY = 7.5  # on an arc; eased Bezier curves with the true slopes are then off by 1e-4 of its radius
NUDGE = 2e-3  # of a move's length, to find its speed: much shorter, and float32 blurs it

EASES: dict[str, Callable[[float], float]] = {
    "linear": lambda s: s,
    "smooth": lambda s: s * s * (3 - 2 * s),
    "in": lambda s: s * s,
    "out": lambda s: s * (2 - s),
}
"""How far a move has come, from 0 to 1, at each share of its time. Cubic at most: one Bezier segment holds it."""


@dataclass(frozen=True)
class Stand:
    """Where a move begins, and round what it turns. Any world whose Z is up."""

    position: Array  # of the camera. [3]
    axes: Array  # the camera's right, up and backward as columns. [3, 3]
    subject: Array  # [3]

    @property
    def forward(self) -> Array:
        return np.asarray(-self.axes[:, 2])

    @property
    def distance(self) -> float:
        """To the subject along the view, at least a hundredth of the straight way."""
        way = self.subject - self.position
        return max(float(way @ self.forward), 0.01 * float(np.linalg.norm(way)))


@dataclass(frozen=True)
class Pose:
    """A camera at one moment."""

    position: Array  # [3]
    axes: Array  # [3, 3]
    zoom: float = 1.0  # factor of the focal length


Numbers = Mapping[str, float]
PoseAt = Callable[[Stand, Numbers, float], Pose]  # the last: how far the move has come, 0 to 1


@dataclass(frozen=True)
class Move:
    """One entry of the library."""

    label: str
    help: str
    amounts: Mapping[str, float]  # name -> default: angle and rise in degrees, distance as a share, turns
    pose_at: PoseAt

    def key_count(self, numbers: Numbers) -> int:
        """Return how many keyframes hold the move's shape: two for a straight one."""
        if "turns" in numbers:
            return 1 + max(8, round(180 * abs(numbers["turns"]) / DEGREES_PER_KEY))
        if "rise" in numbers:
            return 1 + max(4, round(max(abs(numbers["angle"]), abs(numbers["rise"])) / DEGREES_PER_KEY))
        return 5 if self.pose_at is _crane else 2


def turn(axis: Array, angle_rad: float) -> Array:
    """Return the rotation round an axis of length 1, counterclockwise as seen from its tip. [3, 3]"""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross)


def _orbit(stand: Stand, numbers: Numbers, s: float) -> Pose:
    side, rise = np.radians([s * numbers["angle"], s * numbers["rise"]])
    rotation = turn(UP, side) @ turn(stand.axes[:, 0], -rise)
    return Pose(stand.subject + rotation @ (stand.position - stand.subject), rotation @ stand.axes)


def _along(direction: Callable[[Stand], Array]) -> PoseAt:
    def pose_at(stand: Stand, numbers: Numbers, s: float) -> Pose:
        return Pose(stand.position + s * numbers["distance"] * stand.distance * direction(stand), stand.axes)

    return pose_at


def _pan(stand: Stand, numbers: Numbers, s: float) -> Pose:
    return Pose(stand.position, turn(UP, -np.radians(s * numbers["angle"])) @ stand.axes)


def _tilt(stand: Stand, numbers: Numbers, s: float) -> Pose:
    return Pose(stand.position, turn(stand.axes[:, 0], np.radians(s * numbers["angle"])) @ stand.axes)


def _kept_in_view(stand: Stand, position: Array) -> Pose:
    """The camera elsewhere, turned so that the subject stays where it was in the picture. Never rolls."""

    def heading(way: Array) -> tuple[float, float]:
        return np.arctan2(way[1], way[0]), np.arctan2(way[2], np.hypot(way[0], way[1]))

    (before, below), (after, above) = heading(stand.subject - stand.position), heading(stand.subject - position)
    return Pose(position, turn(UP, after - before) @ turn(stand.axes[:, 0], above - below) @ stand.axes)


def _crane(stand: Stand, numbers: Numbers, s: float) -> Pose:
    return _kept_in_view(stand, stand.position + s * numbers["distance"] * stand.distance * UP)


def _spiral(stand: Stand, numbers: Numbers, s: float) -> Pose:
    radius, angle = s * numbers["distance"] * stand.distance, 2 * np.pi * numbers["turns"] * s
    aside = radius * (np.cos(angle) * stand.axes[:, 0] + np.sin(angle) * stand.axes[:, 1])
    return _kept_in_view(stand, stand.position + aside)


def _dolly_zoom(stand: Stand, numbers: Numbers, s: float) -> Pose:
    share = s * numbers["distance"]
    return Pose(stand.position + share * stand.distance * stand.forward, stand.axes, 1 - share)


MOVES: dict[str, Move] = {
    "orbit": Move(
        "Orbit", "Circle round the subject: Angle to the right, Rise upwards", {"angle": 30.0, "rise": 0.0}, _orbit
    ),
    "dolly": Move("Dolly", "Move forward, or back", {"distance": 0.3}, _along(lambda stand: stand.forward)),
    "truck": Move("Truck", "Move to the right, or left", {"distance": 0.2}, _along(lambda stand: stand.axes[:, 0])),
    "pedestal": Move("Pedestal", "Move up, or down", {"distance": 0.2}, _along(lambda stand: UP)),
    "pan": Move("Pan", "Turn to the right, or left, on the spot", {"angle": 15.0}, _pan),
    "tilt": Move("Tilt", "Turn up, or down, on the spot", {"angle": 10.0}, _tilt),
    "crane": Move(
        "Crane", "Move up, or down, and keep the subject where it is in the picture", {"distance": 0.3}, _crane
    ),
    "dolly-zoom": Move(
        "Dolly Zoom",
        "Move forward, or back, and zoom against it so that the subject keeps its size",
        {"distance": 0.3},
        _dolly_zoom,
    ),
    "spiral": Move(
        "Spiral",
        "Circle outwards round the view, with the subject kept where it is",
        {"distance": 0.15, "turns": 1.0},
        _spiral,
    ),
}


@dataclass(frozen=True)
class Keys:
    """A move as keyframes with the speed at each: Bezier curves through them follow it."""

    frames: Array  # scene frames. [K]
    poses: list[Pose]
    before: list[Pose]  # a little earlier and a little later than each
    after: list[Pose]
    nudge: float  # frames between before and after


def keys_of(name: str, numbers: Numbers, ease: str, stand: Stand, frame_start: int, frame_end: int) -> Keys:
    """Return a move as keyframes on whole frames.

    Args:
        name: of `MOVES`.
        numbers: its amounts.
        ease: of `EASES`.
        stand: where it begins.
        frame_start, frame_end: its first and last scene frame, the last one later.
    """
    move, length = MOVES[name], frame_end - frame_start
    frames = np.unique(np.round(np.linspace(frame_start, frame_end, move.key_count(numbers))))
    shares = (frames - frame_start) / length

    def poses_at(times: Array) -> list[Pose]:
        return [move.pose_at(stand, numbers, EASES[ease](float(time))) for time in times]

    before, after = poses_at(shares - NUDGE), poses_at(shares + NUDGE)  # an ease goes on beyond its ends
    return Keys(frames, poses_at(shares), before, after, 2 * NUDGE * length)
