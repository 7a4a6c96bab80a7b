# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of each picture along a camera path the plate never saw, estimated while the artist still moves the camera.

Numpy only, for a background thread. The mesh is thrown into a small picture as points: what shows the plate, and, along
edges that were torn apart, what only hides. In each pixel the nearest one decides; where none lands, or one that hides,
a take has to paint. Check Coverage measures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DAMAGED, ShotDataError
from .path_sampling import SampledPath

POINTS_ACROSS = 180  # of the plate at most
PIXELS_ACROSS = 96  # of the small picture; at least two points land in a pixel where the camera does not come nearer
MOST_PIXELS = 30_000  # of it, in a very tall picture; `_keys` has place for 32768
NEAREST = 1e-4  # shot units before the camera
EVERY = 7  # of the points that tell how far apart they land


@dataclass(frozen=True)
class FrameSamples:
    """A frame of the plate as points and torn edges."""

    depth: np.ndarray  # float32 [P], shot units
    shows: np.ndarray  # points that show the plate. intp [S]
    torn: np.ndarray  # pairs of points, with a face between them that only hides. intp [2, E]


@dataclass(frozen=True)
class PlateSamples:
    """Each frame of the plate, before its own camera."""

    rays: np.ndarray  # float32 [3, P], OpenCV axes, at depth 1
    frames: list[FrameSamples]
    spacing: float  # between neighbouring rays, at depth 1
    source_camera_to_world: np.ndarray | None  # [T, 4, 4]


def read_samples(path: Path) -> PlateSamples:
    """Read display.npz. For the background thread.

    Raises:
        ShotDataError: no such file, or not what a reconstruction writes.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            u, v, depth, occluded = file["u"], file["v"], file["depth"], file["occluded"]
            intrinsics, width = file["intrinsics"], int(file["size"][0])
            border = 2 if str(file["convention"]) == "exact" else 1
            motion = file.get("source_camera_to_world")
    except DAMAGED as error:
        raise ShotDataError(f"The shot's mesh {path} cannot be read ({error}). Reconstruct the shot again.") from error
    stride = -(-width // POINTS_ACROSS)
    rows, columns = _picked(len(v), border, stride), _picked(len(u), border, stride)
    right, down = np.meshgrid(
        (u[columns] - intrinsics[0, 2]) / intrinsics[0, 0], (v[rows] - intrinsics[1, 2]) / intrinsics[1, 1]
    )
    rays = np.stack([right, down, np.ones_like(right)]).reshape(3, -1).astype(np.float32)
    size = len(v) - 1, len(u) - 1
    frames = []
    for vertices, bits in zip(depth, occluded, strict=True):  # one by one: a whole plate's faces are large
        hides = np.unpackbits(bits, count=size[0] * size[1]).astype(bool).reshape(size)
        frames.append(_frame(vertices[np.ix_(rows, columns)].astype(np.float32), hides, rows, columns, border))
    return PlateSamples(rays, frames, stride / float(intrinsics[0, 0]), motion)


def _picked(count, border, stride):
    """The rows or columns of the grid that are looked at: its rings outside the picture, and every so many inside."""
    rings = *range(border), *range(count - border, count)
    return np.array(sorted({*rings, *range(border, count - border, stride), count - border - 1}))


def _frame(depth, hides, rows, columns, border):
    """Pick points and torn edges.

    Args:
        depth: of the picked vertices. float32 [R, C]
        hides: whether a face of the whole grid only hides. bool [H - 1, W - 1]
        border: rings of vertices outside the plate's pixels.
    """
    around = np.pad(~hides, 1)  # by vertex: does one of the four faces that meet there show?
    shows = around[:-1, :-1] | around[1:, :-1] | around[:-1, 1:] | around[1:, 1:]
    for ring in (slice(None, border), slice(-border, None)):
        shows[ring] = shows[:, ring] = False
    torn = np.logical_or.reduceat(np.logical_or.reduceat(hides, rows[:-1], axis=0), columns[:-1], axis=1)
    number = np.arange(depth.size).reshape(depth.shape)
    beside = np.pad(torn, 1)  # no face beyond the border
    across = beside[:-1, 1:-1] | beside[1:, 1:-1]  # an edge is torn with a face above or below it
    along = beside[1:-1, :-1] | beside[1:-1, 1:]
    pairs = (
        (number[:, :-1][across], number[:, 1:][across]),
        (number[:-1][along], number[1:][along]),
        (number[:-1, :-1][torn], number[1:, 1:][torn]),  # and a diagonal of the face itself
    )
    first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return FrameSamples(depth.ravel(), number[shows[np.ix_(rows, columns)]], np.stack([first, second]))


def unseen_shares(samples: PlateSamples, path: SampledPath) -> np.ndarray:
    """Return which share of each picture the plate does not show, 0 to 1. float64 [N]"""
    shares = np.empty(len(path.source_frame))
    for n, source in enumerate(path.source_frame.astype(np.intp)):
        to_camera = path.world_to_camera[n]
        if samples.source_camera_to_world is not None:
            to_camera = to_camera @ samples.source_camera_to_world[source]
        shares[n] = _unseen(samples, samples.frames[source], to_camera, path.intrinsics[n], path.width, path.height)
    return shares


def _unseen(samples, frame, to_camera, intrinsics, width, height):
    turned = (intrinsics @ to_camera[:3, :3]).astype(np.float32) @ samples.rays
    moved = (intrinsics @ to_camera[:3, 3]).astype(np.float32)
    z = turned[2] * frame.depth + moved[2]
    before = z > NEAREST
    shows = frame.shows[before.take(frame.shows)]
    if not len(shows):
        return 1.0
    nearer = np.sort(frame.depth[shows[::EVERY]] / z[shows[::EVERY]])
    # How far apart neighbouring points land: nearer or zoomed in, the picture has to be smaller to have no gaps.
    cell = float(intrinsics[0, 0]) * samples.spacing  # pixels of the take, at the plate's own distance
    most = min(PIXELS_ACROSS, (MOST_PIXELS * width / height) ** 0.5)
    across = max(1, int(min(most, width / (2 * cell * float(nearer[3 * len(nearer) // 4])))))
    scale = across / width
    down = max(1, round(height * scale))
    nearness = 1 / np.where(before, z, np.float32(np.inf))
    per_z = np.float32(scale) * nearness
    places = (turned[0] * frame.depth + moved[0]) * per_z, (turned[1] * frame.depth + moved[1]) * per_z
    hidden_at, hidden_nearness = _torn_points(frame.torn, places, nearness, cell * scale, across, down)
    keys = np.concatenate(
        [
            _keys((places[0].take(shows), places[1].take(shows)), nearness.take(shows), 1, across, down),
            _keys(hidden_at, hidden_nearness, 0, across, down),
        ]
    )
    keys.sort()
    pixels = keys >> np.uint32(17)
    is_nearest = np.append(pixels[1:] != pixels[:-1], True)
    return 1 - float((keys[is_nearest] & np.uint32(1)).sum()) / (across * down)


def _torn_points(torn, places, nearness, cell, across, down):
    """Points along torn edges, one in each pixel by which an edge is longer than the faces always were."""
    x, y = places
    first, second = torn
    length = np.maximum(np.abs(x.take(second) - x.take(first)), np.abs(y.take(second) - y.take(first)))
    could = np.flatnonzero((length > cell + 0.5) & (nearness.take(first) > 0) & (nearness.take(second) > 0))
    first, second, length = first.take(could), second.take(could), length.take(could)
    begin = x.take(first), y.take(first)
    apart = x.take(second) - begin[0], y.take(second) - begin[1]
    shown_from, shown_to = np.zeros_like(length), np.ones_like(length)  # as shares of the edge
    with np.errstate(divide="ignore", invalid="ignore"):  # an edge that runs along a side of the picture
        for start, step, end in zip(begin, apart, (across, down), strict=True):
            one, other = -start / step, (end - start) / step
            np.fmax(shown_from, np.fmin(one, other), out=shown_from)
            np.fmin(shown_to, np.fmax(one, other), out=shown_to)
    counts = np.rint((length - np.float32(cell)) * np.maximum(shown_to - shown_from, 0)).astype(np.intp)
    edges = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(edges)) - (np.cumsum(counts) - counts).take(edges)
    spacing = ((shown_to - shown_from) / np.maximum(counts, 1)).astype(np.float32)
    share = shown_from.take(edges) + (within + np.float32(0.5)).astype(np.float32) * spacing.take(edges)
    near, farther = nearness.take(first), nearness.take(second)
    columns = begin[0].take(edges) + share * apart[0].take(edges)
    rows = begin[1].take(edges) + share * apart[1].take(edges)
    return (columns, rows), near.take(edges) + share * (farther - near).take(edges)


def _keys(places, nearness, shows, across, down):
    """One whole number for each point in the picture, which sorts by pixel, then by nearness, then by `shows`.

    Positive floats sort as their bits do; the upper 16 of these tell depths apart that differ by 0.4 %. uint32 [P]
    """
    x, y = places
    inside = np.flatnonzero((x >= 0) & (x < across) & (y >= 0) & (y < down))
    pixels = y.take(inside).astype(np.uint32) * np.uint32(across) + x.take(inside).astype(np.uint32)
    bits = nearness.take(inside).astype(np.float32).view(np.uint32) >> np.uint32(15)
    return pixels << np.uint32(17) | bits << np.uint32(1) | np.uint32(shows)
