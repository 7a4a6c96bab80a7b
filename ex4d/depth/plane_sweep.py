# SPDX-License-Identifier: Apache-2.0
"""Depth of a still scene from a camera whose motion is known: compare the frames at many distances.

Every plane of constant depth before a frame says where each of its pixels lies in the neighbouring frames. Where the
plane is right, the colours agree. The agreement is smoothed along scan lines, the best plane is refined between planes,
and what the neighbouring frames' own depth confirms is kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ex4d.progress import ProgressCallback, track

WINDOW = 5  # pixels over which colours are compared
WORST = 0.25  # mean colour difference (0..1) beyond which a plane is simply wrong: one occluded corner decides nothing
UNSEEN = 0.08  # where a neighbour does not see: worse than agreement (0.02), better than disagreement (0.15)
SMALL_STEP, LARGE_STEP = 0.006, 0.06  # price of a depth step by one plane, and of a jump, between neighbouring pixels
EDGE = 0.03  # colour difference between neighbouring pixels at which a jump costs half
CONFIRMED_STEPS = 2.0  # planes by which a neighbouring frame's depth may differ and still confirm
CONFIRMED_COLOUR = 0.08  # and how far its colours may be off: what moves is consistent with itself, not with its place
BATCH = 4  # frames smoothed together: more work for each of many small operations


@dataclass(frozen=True)
class Sweep:
    """Frames ready to be compared, on one device."""

    frames: torch.Tensor  # RGB 0..1. [T, 3, H, W]
    intrinsics: torch.Tensor  # [3, 3]
    world_to_camera: torch.Tensor  # [T, 4, 4]
    inverse_depths: torch.Tensor  # of the planes, evenly spaced, far to near. [D]
    neighbours: NDArray[np.int64]  # frames with which each frame is compared. [T, N]


def swept_depth(sweep: Sweep, progress: ProgressCallback | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the inverse depth of every frame.

    Returns:
        Inverse depth [T, H, W]; whether the neighbouring frames confirm it, bool [T, H, W].
    """
    count = len(sweep.frames)
    found = torch.empty((count, *sweep.frames.shape[2:]), device=sweep.frames.device)
    starts = range(0, count, BATCH)
    for start in track(starts, "Comparing the frames", progress):
        batch = range(start, min(start + BATCH, count))
        costs = torch.stack([matching_cost(sweep, frame) for frame in batch])
        costs = smoothed_cost(costs, sweep.frames[start : start + BATCH])
        found[start : start + BATCH] = best_plane(costs, sweep.inverse_depths)
    confirmed = torch.empty(found.shape, dtype=torch.bool, device=found.device)
    merged = torch.empty_like(found)
    for frame in track(range(count), "Confirming the depth", progress):
        merged[frame], confirmed[frame] = confirmed_depth(sweep, found, frame)
    return merged, confirmed


def matching_cost(sweep: Sweep, frame: int) -> torch.Tensor:
    """How little the frame agrees with its neighbours on each plane: 0 same colours .. `WORST`. [D, H, W]"""
    here = sweep.frames[frame]
    height, width = here.shape[1:]
    rays = pixel_rays(sweep.intrinsics, width, height)
    costs = []
    for other in sweep.neighbours[frame]:
        turn, shift = _relative(sweep, frame, int(other))
        ahead = (sweep.intrinsics @ turn @ rays.reshape(3, -1)).reshape(3, 1, height, width)
        moved = (sweep.intrinsics @ shift).reshape(3, 1, 1, 1) * sweep.inverse_depths.view(1, -1, 1, 1)
        place = ahead + moved  # [3, D, H, W]
        grid, inside = _grid(place, width, height)
        there = functional.grid_sample(
            sweep.frames[other].expand(len(grid), -1, -1, -1), grid, padding_mode="border", align_corners=False
        )
        difference = (there - here).abs().mean(dim=1)  # [D, H, W]
        costs.append(torch.where(inside, _averaged(difference).clamp(max=WORST), UNSEEN))
    best = torch.stack(costs).sort(dim=0).values[: max(1, len(costs) // 2)]  # the other half may be occluded
    return best.mean(dim=0)


def smoothed_cost(costs: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Semi-global smoothing: what each plane costs, summed over the four scan lines that end in a pixel.

    H. Hirschmueller, Stereo Processing by Semiglobal Matching and Mutual Information, 2008.

    Args:
        costs: [B, D, H, W].
        frames: colour edges make jumps cheap. [B, 3, H, W]

    Returns:
        [B, D, H, W]
    """
    edges = frames.diff(dim=2).abs().mean(dim=1)  # [B, H - 1, W]
    total = _smoothed_down_and_up(costs, edges)
    edges = frames.diff(dim=3).abs().mean(dim=1).transpose(1, 2)
    return total + _smoothed_down_and_up(costs.transpose(2, 3).contiguous(), edges).transpose(2, 3)


def _smoothed_down_and_up(costs: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """The two scan lines along the rows' axis. [B, D, H, W], [B, H - 1, W] -> [B, D, H, W]"""
    total = torch.empty_like(costs)
    jump = (LARGE_STEP / (1 + (edges / EDGE) ** 2)).clamp(min=SMALL_STEP)
    last = costs.shape[2] - 1
    total[:, :, 0] = path = costs[:, :, 0]
    for row in range(1, last + 1):
        path = costs[:, :, row] + _cheapest_step(path, jump[:, None, row - 1])
        total[:, :, row] = path
    path = costs[:, :, last]
    total[:, :, last] += path
    for row in range(last - 1, -1, -1):
        path = costs[:, :, row] + _cheapest_step(path, jump[:, None, row])
        total[:, :, row] += path
    return total


def _cheapest_step(previous: torch.Tensor, jump: torch.Tensor) -> torch.Tensor:
    """What it costs at least to come to each plane from the pixel before. [B, D, L], [B, 1, L] -> [B, D, L]"""
    least = previous.amin(dim=1, keepdim=True)
    cheapest = torch.minimum(previous, least + jump)
    stepped = previous + SMALL_STEP
    cheapest[:, 1:] = torch.minimum(cheapest[:, 1:], stepped[:, :-1])
    cheapest[:, :-1] = torch.minimum(cheapest[:, :-1], stepped[:, 1:])
    return cheapest - least


def best_plane(costs: torch.Tensor, inverse_depths: torch.Tensor) -> torch.Tensor:
    """The inverse depth of least cost, refined by a parabola through its neighbours. [B, D, H, W] -> [B, H, W]"""
    last = len(inverse_depths) - 1
    best = costs.argmin(dim=1, keepdim=True)
    below, at, above = (costs.gather(1, (best + step).clamp(0, last)) for step in (-1, 0, 1))
    bend = below - 2 * at + above
    offset = torch.where(bend > 1e-9, 0.5 * (below - above) / bend.clamp(min=1e-9), 0.0).clamp(-0.5, 0.5)
    offset = torch.where((best > 0) & (best < last), offset, 0.0)
    step = inverse_depths[1] - inverse_depths[0]
    return (inverse_depths[0] + step * (best + offset))[:, 0]


def confirmed_depth(sweep: Sweep, found: torch.Tensor, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ask the neighbouring frames: the mean of all that agree, and whether at least half of them do.

    Args:
        found: inverse depth of all frames. [T, H, W]

    Returns:
        Inverse depth [H, W]; bool [H, W].
    """
    height, width = found.shape[1:]
    here = found[frame]
    rays = pixel_rays(sweep.intrinsics, width, height)
    step = sweep.inverse_depths[1] - sweep.inverse_depths[0]
    total, votes = here.clone(), torch.ones_like(here)
    for other in sweep.neighbours[frame]:
        turn, shift = _relative(sweep, frame, int(other))
        turned = (turn @ rays.reshape(3, -1)).reshape(3, height, width)
        place = sweep.intrinsics @ (turned + shift.view(3, 1, 1) * here).reshape(3, -1)
        grid, inside = _grid(place.reshape(3, 1, height, width), width, height)
        there = functional.grid_sample(found[other][None, None], grid, mode="nearest", align_corners=False)[0, 0]
        # The other frame's z of this pixel's point is z * (turned_z + shift_z / z): solve it for this frame's 1 / z.
        seen = turned[2] * there / (1 - shift[2] * there)
        colours = functional.grid_sample(sweep.frames[other][None], grid, padding_mode="border", align_corners=False)
        difference = _averaged((colours[0] - sweep.frames[frame]).abs().mean(dim=0)[None])[0]
        agrees = inside[0] & ((seen - here).abs() < CONFIRMED_STEPS * step) & (difference < CONFIRMED_COLOUR)
        total += torch.where(agrees, seen, 0.0)
        votes += agrees
    return total / votes, votes - 1 >= len(sweep.neighbours[frame]) / 2


def filled_from_others(sweep: Sweep, found: torch.Tensor, confirmed: torch.Tensor, frame: int) -> torch.Tensor:
    """What the confirmed points of other frames say about a frame: the nearest one in each pixel, 0 where none falls.

    Args:
        found, confirmed: of all frames. [T, H, W]

    Returns:
        Inverse depth. [H, W]
    """
    height, width = found.shape[1:]
    rays = pixel_rays(sweep.intrinsics, width, height).reshape(3, -1)
    nearest = torch.zeros(height * width, device=found.device)
    for other in sweep.neighbours[frame]:
        points = confirmed[other].reshape(-1)
        inverse = found[other].reshape(-1)[points]
        turn, shift = _relative(sweep, int(other), frame)
        moved = turn @ rays[:, points] + shift[:, None] * inverse  # this camera's point, times its inverse depth there
        place = sweep.intrinsics @ moved
        ahead = place[2] > 1e-6
        column, row = (torch.floor(place[i] / torch.where(ahead, place[2], 1.0)).long() for i in (0, 1))
        inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        nearest.scatter_reduce_(0, (row * width + column)[inside], (inverse / moved[2])[inside], "amax")
    return nearest.view(height, width)


def pixel_rays(intrinsics: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Points at z = 1 that the pixels' centres see. [3, H, W]"""
    x = (torch.arange(width, device=intrinsics.device) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (torch.arange(height, device=intrinsics.device) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)]
    )


def _averaged(planes: torch.Tensor) -> torch.Tensor:
    """The mean over the window around each pixel. [D, H, W] -> [D, H, W]"""
    return functional.avg_pool2d(planes[:, None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[:, 0]


def _relative(sweep: Sweep, frame: int, other: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The way from one frame's camera to another's: [3, 3], [3]"""
    way = sweep.world_to_camera[other].double() @ torch.linalg.inv(sweep.world_to_camera[frame].double())
    return way[:3, :3].to(sweep.frames.dtype), way[:3, 3].to(sweep.frames.dtype)


def _grid(place: torch.Tensor, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Homogeneous pixels [3, D, H, W] as grid_sample wants them [D, H, W, 2], and whether they lie in the picture."""
    ahead = place[2] > 1e-6
    depth = torch.where(ahead, place[2], 1.0)
    x, y = place[0] / depth, place[1] / depth
    inside = ahead & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    return torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1), inside
