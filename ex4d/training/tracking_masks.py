# SPDX-License-Identifier: Apache-2.0
"""Tracking masks: holes that stick to what they cover while it moves.

A rendering mask moves with the camera and says little about one and the same thing staying hidden over time. The paper
adds tracking masks for that, from point tracks (CoTracker3, say reviewers of its later version EX-NVS, OpenReview
TAjEC2tHpa; how it turns tracks into holes is not published in what we could read). We follow points with dense optical
flow, which needs no weights, and drop a point where the flow there and back does not return to it. The shapes and
numbers below are ours: a hole opens from one of its edges, as what a moving camera uncovers does.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.depth.alignment import Motion, motion_between
from ex4d.document import Json
from ex4d.progress import ProgressCallback, track

# DIS ends at the picture halved this many times. At its fast preset's 2 a textured square that moves 3 px is found to
# have moved 2; at 1 the error is 0.14 px, for three times the time.
FINEST_SCALE = 1
STEP_PX = 4  # between the points of a hole
HOLE_SHARE = (0.05, 0.25)  # half axes of a hole, as a share of the picture's shorter side
COVERED = (0.1, 0.5)  # share of the picture that a clip's holes cover together
OPENING = (0.2, 0.9)  # share of the clip that a hole takes to open
MOST_HOLES = 24


@dataclass(frozen=True)
class Holes:
    """The points of a clip's holes, in the frame where they were placed."""

    frame: int  # 0-based
    points: Array  # x and y from the centre of the top left pixel. float32 [P, 2]
    opens: Array  # when each point becomes a hole, from 0 (the clip's start) to 1 (its end). float32 [P]
    shapes: list[Json]  # for the record


def random_holes(draw: np.random.Generator, width: int, height: int, frame_count: int) -> Holes:
    """Place ellipses until they cover a random share of the picture.

    Args:
        draw: the sample's random numbers.
        width, height, frame_count: of the clip.
    """
    x, y = (np.ravel(axis) for axis in np.meshgrid(np.arange(0, width, STEP_PX), np.arange(0, height, STEP_PX)))
    opens = np.full(len(x), np.inf, np.float32)
    wanted = draw.uniform(*COVERED)
    shapes: list[Json] = []
    while np.isfinite(opens).mean() < wanted and len(shapes) < MOST_HOLES:
        centre = draw.uniform((0, 0), (width, height))
        axes = draw.uniform(*HOLE_SHARE, 2) * min(width, height)
        turn, way = draw.uniform(0, np.pi), draw.uniform(0, 2 * np.pi)
        span = draw.uniform(*OPENING)
        begin = draw.uniform(0, 1 - span)
        dx, dy = x - centre[0], y - centre[1]
        along = (np.cos(turn) * dx + np.sin(turn) * dy) / axes[0]
        across = (np.cos(turn) * dy - np.sin(turn) * dx) / axes[1]
        inside = along**2 + across**2 <= 1
        depth = (np.cos(way) * along + np.sin(way) * across + 1) / 2  # 0 at the edge that opens first, 1 opposite
        opens[inside] = np.minimum(opens, begin + span * depth)[inside]
        numbers = {"x": centre[0], "y": centre[1], "a": axes[0], "b": axes[1], "turn_rad": turn, "opens_rad": way}
        shapes.append(
            {**{k: round(float(v), 2) for k, v in numbers.items()}, "from": round(begin, 3), "for": round(span, 3)}
        )
    chosen = np.isfinite(opens)
    points = np.stack([x, y], axis=-1)[chosen].astype(np.float32)
    return Holes(int(draw.integers(frame_count)), points, opens[chosen], shapes)


def tracking_masks(frames: Array, holes: Holes, progress: ProgressCallback | None = None) -> tuple[Array, float]:
    """Carry the holes through the clip.

    Args:
        frames: uint8 [T, H, W, 3]
        holes: see `random_holes`.

    Returns:
        True where the plate stays, bool [T, H, W]; share of the points that could be followed to both ends.
    """
    positions, alive = point_tracks(frames, holes.points, holes.frame, progress)
    times = np.linspace(0, 1, len(frames)) if len(frames) > 1 else np.zeros(1)
    seen = np.ones(frames.shape[:3], np.bool_)
    for n, time in enumerate(times):
        open_now = alive[n] & (holes.opens <= time)
        seen[n] = ~_covered(positions[n][open_now], *frames.shape[1:3])
    return seen, float(alive.all(axis=0).mean()) if len(holes.points) else 1.0


def point_tracks(
    frames: Array, points: Array, frame: int, progress: ProgressCallback | None = None
) -> tuple[Array, Array]:
    """Follow points from one frame to both ends of a clip.

    Args:
        frames: uint8 [T, H, W, 3]
        points: x and y from the centre of the top left pixel, in `frame`. float32 [P, 2]

    Returns:
        positions, float32 [T, P, 2]; whether each point is still followed, bool [T, P]
    """
    grey = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in frames]
    positions = np.repeat(points[None], len(frames), axis=0)
    alive = np.ones(positions.shape[:2], np.bool_)
    steps = [(n, n + 1) for n in range(frame, len(frames) - 1)] + [(n, n - 1) for n in range(frame, 0, -1)]
    for here, there in track(steps, "Following points", progress):
        positions[there], kept = _carried(positions[here], motion_between(grey[here], grey[there], FINEST_SCALE))
        alive[there] = alive[here] & kept
    return positions, alive


def _carried(points: Array, motion: Motion) -> tuple[Array, Array]:
    """Where the flow takes points, and whether it is to be trusted there. [P, 2] -> [P, 2], bool [P]"""
    height, width = motion.seen.shape
    x, y = np.clip(points, 0, np.array((width - 1, height - 1), np.float32)).T
    left, top = np.minimum(x.astype(np.intp), width - 2), np.minimum(y.astype(np.intp), height - 2)
    right, down = (x - left)[:, None], (y - top)[:, None]
    flow = motion.flow
    above = flow[top, left] * (1 - right) + flow[top, left + 1] * right
    below = flow[top + 1, left] * (1 - right) + flow[top + 1, left + 1] * right
    moved = points + above * (1 - down) + below * down
    return moved.astype(np.float32), motion.seen[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)]


def _covered(points: Array, height: int, width: int) -> Array:
    """The area of points that were a step apart, without lone ones. float [P, 2] -> bool [height, width]"""
    plane = np.zeros((height, width), np.uint8)
    column, row = np.rint(points).astype(np.intp).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    plane[row[inside], column[inside]] = 1

    def block(reach: int) -> Array:
        return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))

    # Points reach half way to their neighbours and, where the surface came nearer, as far again; the rest is trimmed.
    grown = cv2.erode(cv2.dilate(plane, block(STEP_PX)), block(STEP_PX // 2))
    return np.asarray(cv2.morphologyEx(grown, cv2.MORPH_OPEN, block(STEP_PX))) > 0
