# SPDX-License-Identifier: Apache-2.0
"""Classical inpainting of a clip: colours flow into the holes from the farther side, steadily over time.

Push-pull on an image pyramid: known colours are averaged down until every hole is covered, then coarse colours fill
what finer levels do not know. A hole opens where something near hid something far, so far colours count more. The
coarse levels are averaged over neighbouring frames too: the fill neither flickers nor crawls.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.progress import ProgressCallback, track

Array32 = NDArray[np.float32]

NEAR_WEIGHT = 0.003  # of colours on the nearer side of a hole
EDGE_WEIGHT = 0.05  # of the pixels beside a hole: silhouettes mix the colours of both sides
NOWHERE = 1e9  # beyond every inverse depth
SATURATION = 4  # a level counts as known once about 1/4 of its footprint is
ROW_LEVELS = 2  # how many halvings of the width come before the first of the height
STEADY_LEVEL = 2  # coarser levels than 1/4 size are averaged over time
STEADY_FRAMES = 3.0  # Gaussian over time


def inpaint(
    color: NDArray[np.uint8],
    known: NDArray[np.bool_],
    depth: Array32,
    background: tuple[float, float, float],
    progress: ProgressCallback | None = None,
) -> NDArray[np.uint8]:
    """Fill the unknown pixels of a clip.

    Args:
        color: RGB; only known pixels are read. [N, h, w, 3]
        known: which pixels have a colour. [N, h, w]
        depth: of the known pixels, shot units. [N, h, w]
        background: RGB where no frame knows anything.
        progress: told after each frame.

    Returns:
        RGB; known pixels as they came. uint8 [N, h, w, 3]
    """
    count = len(color)
    coarse: list[Array32] = []
    for n in track(range(count), "Spreading colours", progress):
        coarse.append(_pyramid(_premultiplied(color[n], known[n], depth[n]), STEADY_LEVEL)[-1])
    steady = _steadied(coarse)
    filled = color.copy()
    for n in track(range(count), "Filling holes", progress):
        if known[n].all():
            continue
        fine = _pyramid(_premultiplied(color[n], known[n], depth[n]), STEADY_LEVEL)[:-1]
        rest = _pyramid(steady[n], 32)
        painted = _pushed([*fine, *rest], background)
        filled[n][~known[n]] = np.clip(np.rint(painted[~known[n]]), 0, 255).astype(np.uint8)
    return filled


def far_side_depth(known: NDArray[np.bool_], depth: Array32) -> Array32:
    """How far away the background behind each hole probably is.

    Args:
        known: which pixels have a depth. [h, w]
        depth: of those pixels, shot units. [h, w]

    Returns:
        The depth where known; elsewhere what the farther side of the hole suggests. Shot units. [h, w]
    """
    weight = _far_weight(known, depth)
    inverse = np.where(known, 1 / np.maximum(depth, 1e-6), 0).astype(np.float32)
    levels = _pyramid(np.dstack([inverse * weight] * 3 + [weight]), 32)
    farthest = float(inverse[known].min()) if known.any() else 1.0
    spread = _pushed(levels, (farthest,) * 3)[..., 0]
    return np.where(known, depth, 1 / np.maximum(spread, 1e-9)).astype(np.float32)


def _far_weight(known: NDArray[np.bool_], depth: Array32) -> Array32:
    """Weight of each known pixel: 1 on the farther of the depths around it, little on the nearer and beside holes.

    "Around" reaches five times across the widest hole. The two sides are told apart in inverse depth, half way between
    the nearest and the farthest, so that a distant sky does not outweigh the wall beside the hole. [h, w]
    """
    if not known.any():
        return np.zeros(known.shape, np.float32)
    half_width = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3).max()
    reach = int(np.clip(10 * half_width, 10, max(known.shape) / 2))
    inverse = np.where(known, 1 / np.maximum(depth, 1e-6), 0).astype(np.float32)
    nearest = _highest_around(inverse, reach)
    farthest = -_highest_around(np.where(known, -inverse, -NOWHERE).astype(np.float32), reach)
    contrast = np.maximum(nearest - farthest, 1e-9)
    nearness = np.clip(((inverse - farthest) / contrast - 0.3) / 0.4, 0, 1)
    # Depths within 10 % are one surface, beyond 30 % surely two.
    two_sides = np.clip((contrast / np.maximum(nearest, 1e-9) - 0.1) / 0.2, 0, 1)
    weight = np.where(known, 1 - (1 - NEAR_WEIGHT) * two_sides * nearness, 0)
    inner = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(bool)
    return np.where(inner, weight, EDGE_WEIGHT * weight).astype(np.float32)


def _highest_around(plane: Array32, reach: int) -> Array32:
    """The highest value within `reach` pixels, in steps of an eighth of it. [h, w]"""
    step = max(1, reach // 8)
    height, width = (-(-side // step) for side in plane.shape)
    padded = np.full((height * step, width * step), -NOWHERE, np.float32)
    padded[: plane.shape[0], : plane.shape[1]] = plane
    blocks = padded.reshape(height, step, width, step).max(axis=(1, 3))
    window = np.ones((2 * (reach // step) + 1,) * 2, np.uint8)
    highest = np.repeat(np.repeat(cv2.dilate(blocks, window), step, axis=0), step, axis=1)
    return np.asarray(highest[: plane.shape[0], : plane.shape[1]], np.float32)


def _premultiplied(color: NDArray[np.uint8], known: NDArray[np.bool_], depth: Array32) -> Array32:
    """Colour times weight, and the weight. [h, w, 4]"""
    weight = _far_weight(known, depth)
    return np.dstack([color * weight[..., None], weight]).astype(np.float32)


def _pyramid(base: Array32, steps: int) -> list[Array32]:
    """The base and up to `steps` halvings of it; ends at one pixel.

    The first halvings are of the width alone: sky goes on as sky and ground as ground along their rows.
    """
    levels = [base]
    while len(levels) <= steps and max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        rows_too = max(base.shape[1] // width, 1) >= 2**ROW_LEVELS or width == 1
        size = (-(-width // 2), -(-height // 2) if rows_too else height)
        smooth = cv2.GaussianBlur(levels[-1], (5, 5 if rows_too else 1), 1.0)
        levels.append(np.asarray(cv2.resize(smooth, size, interpolation=cv2.INTER_AREA), np.float32))
    return levels


def _pushed(levels: list[Array32], background: tuple[float, float, float]) -> Array32:
    """From the coarsest level to the finest, fill what a level does not know from the coarser one. [h, w, 3]"""
    colour: Array32 = np.full((*levels[-1].shape[:2], 3), background, np.float32)
    for level in reversed(levels):
        height, width = level.shape[:2]
        if colour.shape[:2] != (height, width):
            colour = np.asarray(cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        weight = level[..., 3:]
        trust = 1 - np.maximum(1 - weight, 0) ** SATURATION
        mixed = trust * (level[..., :3] / np.maximum(weight, 1e-12)) + (1 - trust) * colour
        colour = np.asarray(mixed, np.float32)
    return colour


def _steadied(planes: list[Array32]) -> list[Array32]:
    """Gaussian over time; frames beyond the ends are left out."""
    reach = math.ceil(2 * STEADY_FRAMES)
    steady = []
    for n in range(len(planes)):
        near = range(max(0, n - reach), min(len(planes), n + reach + 1))
        weights = [math.exp(-0.5 * ((m - n) / STEADY_FRAMES) ** 2) for m in near]
        mixed = np.zeros_like(planes[n])
        for m, weight in zip(near, weights, strict=True):
            mixed += np.float32(weight / sum(weights)) * planes[m]
        steady.append(mixed)
    return steady
