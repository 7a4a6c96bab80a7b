# SPDX-License-Identifier: Apache-2.0
"""A smooth relief without any model, so that the whole workflow can be tried on a machine that has no weights.

It is no depth to judge the method by, and says so. Two guesses are mixed. A clip with shallow focus: what is sharp is
near. Any other clip: lower in the picture is nearer, and what differs in colour from the picture's border stands out.
Both are pooled per colour region and smoothed, because texture copied into a relief tears holes into its mesh. Colours
are clustered once for the clip and the result is smoothed over time, so that the relief stands still.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.depth.clip import DepthClip, SourceOptions
from ex4d.depth.known import number
from ex4d.depth.normalise import relief_depth
from ex4d.document import Json
from ex4d.errors import DepthError
from ex4d.progress import ProgressCallback, track
from ex4d.video import Clip

Plane = NDArray[np.float32]

NEAR, FAR = 2.0, 8.0  # shot units; far/near at most 5, or moves of 20 degrees tear the relief apart
WORK_SIDE = 256  # longer side at which the guesses are made: finer detail would only be smoothed away
CLUSTERS = 6
# Sharpness of a clip's softest strong edges as a share of its sharpest ones: a macro shot has 0.38, wide shots 0.63 to
# 0.73 (even when all of it is a little soft). Below the first number the focus is shallow, above the second it is deep.
SHALLOW_FOCUS, DEEP_FOCUS = 0.45, 0.6
POOL_SHARE = 0.08  # how far a region's sharpness is averaged, as a share of the longer side
DOUBT = 0.1  # strength of edges, as a share of the picture's mean, below which a region counts as out of focus
SMOOTH_SHARE = 0.016  # the last smoothing, likewise
STEADY_FRAMES = 2.0  # Gaussian over time

PREVIEW_OPTIONS = ("near", "far")
"""near=Z, far=Z: the relief's ends; one of them keeps the usual ratio."""

NOTICE = (
    "There is no depth model here: the depth is a preview relief, guessed from focus, colour and height in the "
    "picture. Use it to learn the workflow and to plan moves of up to 20 degrees."
)


@dataclass(frozen=True)
class PreviewDepth:
    """Weight-free relief from focus, colour and height in the picture."""

    near: float = NEAR  # z of the relief's ends, shot units
    far: float = FAR

    name = "preview"
    label = "preview relief: no depth model"
    licence = "Apache-2.0"
    commercial_use = True

    @classmethod
    def made_of(cls, options: SourceOptions) -> "PreviewDepth":
        near, far = number(options.values, "near", None), number(options.values, "far", None)
        near = near if near is not None else NEAR if far is None else far * NEAR / FAR
        far = far if far is not None else near * FAR / NEAR
        if not 0 < near < far:
            raise DepthError(f"The preview relief needs 0 < near < far, got near {near:g} and far {far:g}.")
        return cls(near, far)

    @property
    def cache_key(self) -> dict[str, Json]:
        return {"near": self.near, "far": self.far}

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip:
        """Make the relief of every frame."""
        count, height, width = clip.frames.shape[:3]
        unit = relief(clip.frames, progress)
        depth = np.empty((count, height, width), np.float32)
        for i, plane in enumerate(track(unit, "Shaping the relief", progress)):
            depth[i] = relief_depth(
                cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), self.near, self.far
            )
        return DepthClip(
            depth=depth,
            kind="relative",
            source=self.label,
            licence=self.licence,
            commercial_use=self.commercial_use,
            parameters={"near": self.near, "far": self.far},
            notices=(NOTICE,),
        )


def relief(frames: NDArray[np.uint8], progress: ProgressCallback | None = None) -> Plane:
    """Guess the disparity of a clip at working size.

    Args:
        frames: RGB. [T, H, W, 3]

    Returns:
        0 far .. 1 near, smooth. float32 [T, h, w], the longer side at most `WORK_SIDE`
    """
    small = [_small(frame) for frame in frames]
    colours = _cluster_colours(small)
    height, width = small[0].shape[:2]
    side = max(height, width)
    stands_out = _distance_from_border(small, colours)
    sharpness = np.empty((len(small), height, width), np.float32)
    layout = np.empty_like(sharpness)
    ground = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    for i, picture in enumerate(track(small, "Guessing the relief", progress)):
        members = _memberships(picture, colours, side)
        sharpness[i] = _pooled_sharpness(picture, members, side)
        layout[i] = 0.65 * ground + 0.2 * np.tensordot(stands_out, members, axes=1)
    low, high = np.percentile(sharpness[:: max(1, len(small) // 8)], [5, 95])
    in_focus = np.clip((sharpness - low) / max(high - low, 1e-6), 0, 1)
    shallow = _shallowness(small)
    guess = (shallow * (0.85 * in_focus + 0.15 * ground) + (1 - shallow) * (layout + 0.15 * in_focus)).astype(
        np.float32
    )
    for i in range(len(guess)):
        guess[i] = _blurred(guess[i], max(SMOOTH_SHARE * side, 0.5))
    guess = _steadied(guess)
    low, high = np.percentile(guess, [0.5, 99.5])
    if high - low < 1e-3:  # one flat colour: an inclined plane is the only guess left
        return np.ascontiguousarray(np.broadcast_to(ground, guess.shape))
    return np.asarray(np.clip((guess - low) / (high - low), 0, 1), np.float32)


def _small(frame: NDArray[np.uint8]) -> Plane:
    """CIE Lab of the frame at working size. [h, w, 3]"""
    height, width = frame.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _blurred(plane: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def _feature(lab: Plane) -> Plane:
    """Lab with half the weight on lightness, so that shading does not split a surface. [..., 3]"""
    return np.asarray(lab * np.array([0.5, 1, 1], np.float32), np.float32)


def _cluster_colours(small: list[Plane]) -> Plane:
    """The clip's main colours, the same for all frames so that regions do not flicker. [K, 3]"""
    chosen = small[:: max(1, len(small) // 8)]
    pixels = np.concatenate([_feature(_blurred(p, 2))[::3, ::3].reshape(-1, 3) for p in chosen])
    # Deterministic farthest-point start, then plain Lloyd steps.
    centres = [pixels.mean(axis=0)]
    for _ in range(CLUSTERS - 1):
        distance = np.min([((pixels - c) ** 2).sum(axis=1) for c in centres], axis=0)
        centres.append(pixels[int(distance.argmax())])
    colours = np.array(centres, np.float32)
    for _ in range(10):
        nearest = ((pixels[:, None] - colours) ** 2).sum(axis=2).argmin(axis=1)
        for k in range(CLUSTERS):
            if (nearest == k).any():
                colours[k] = pixels[nearest == k].mean(axis=0)
    return colours


def _memberships(lab: Plane, colours: Plane, side: int) -> Plane:
    """How much each pixel belongs to each colour; soft, summing to 1. [K, h, w]"""
    feature = _feature(_blurred(lab, max(0.006 * side, 0.5)))
    distance = ((feature[None] - colours[:, None, None]) ** 2).sum(axis=3)
    weight = np.exp(-0.5 * (distance - distance.min(axis=0)) / 8.0**2)  # 8: a just clearly different colour in Lab
    return np.asarray(weight / weight.sum(axis=0), np.float32)


def _distance_from_border(small: list[Plane], colours: Plane) -> Plane:
    """How little of each colour lies at the left, right and upper border: subjects rarely do. 0..1 [K]"""
    inside, border = np.zeros(len(colours)), np.zeros(len(colours))
    for lab in small[:: max(1, len(small) // 8)]:
        members = _memberships(lab, colours, max(lab.shape[:2]))
        edge = max(1, lab.shape[0] // 16)
        rim = np.zeros(lab.shape[:2], bool)
        rim[:edge] = rim[:, :edge] = rim[:, -edge:] = True
        inside += members[:, ~rim].sum(axis=1) / max(1, np.count_nonzero(~rim))
        border += members[:, rim].sum(axis=1) / np.count_nonzero(rim)
    return (inside / (inside + border + 1e-6)).astype(np.float32)


def _pooled_sharpness(lab: Plane, members: Plane, side: int) -> Plane:
    """How sharp the edges of each pixel's colour region are around it. [h, w]

    Weighted by the edges' strength; where there are only faint edges, nothing is in focus.
    """
    lost, steep = _sharpness(lab)
    weight = np.minimum(steep, 20.0) ** 2
    reach = max(POOL_SHARE * side, 1.0)
    pooled = np.zeros_like(steep)
    prior = DOUBT * float(weight.mean()) + 1e-6
    for member in members:
        strength = _blurred(weight * member, reach)
        sharp = _blurred(weight * member * lost, reach)
        pooled += member * sharp / (strength + prior)
    return pooled


def _sharpness(lab: Plane) -> tuple[Plane, Plane]:
    """Re-blur measure: an edge that a small blur weakens much was sharp. Returns: 0..1 [h, w]; edge strength [h, w]"""
    steep = _gradient(_blurred(lab[..., 0], 0.7))
    reblurred = _gradient(_blurred(lab[..., 0], 2.0))
    return np.asarray(np.clip((steep - reblurred) / (steep + 1e-3), 0, 1), np.float32), steep


def _shallowness(small: list[Plane]) -> float:
    """How shallow the clip's focus is: 1 when some of its strong edges are much softer than others. 0..1"""
    sharp, strength = [], []
    for lab in small[:: max(1, len(small) // 8)]:
        lost, steep = _sharpness(lab)
        crest = (steep >= cv2.dilate(steep, np.ones((5, 5), np.uint8))) & (steep > np.percentile(steep, 70))
        sharp.append(lost[crest])
        strength.append(steep[crest])
    values, weights = np.concatenate(sharp), np.concatenate(strength)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    if len(order) == 0 or share[-1] <= 0:
        return 0.0
    soft, crisp = (float(values[order][np.searchsorted(share, q * share[-1])]) for q in (0.1, 0.9))
    return float(np.clip((DEEP_FOCUS - soft / max(crisp, 1e-6)) / (DEEP_FOCUS - SHALLOW_FOCUS), 0, 1))


def _gradient(plane: Plane) -> Plane:
    across, down = cv2.Scharr(plane, -1, 1, 0, scale=1 / 16), cv2.Scharr(plane, -1, 0, 1, scale=1 / 16)
    # Not cv2.magnitude: its last bit depends on where in memory the pictures lie, so each run would differ.
    return np.asarray(np.sqrt(across * across + down * down), np.float32)


def _steadied(planes: Plane) -> Plane:
    """Gaussian over time, the ends repeated."""
    reach = math.ceil(3 * STEADY_FRAMES)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / STEADY_FRAMES) ** 2)
    weights /= weights.sum()
    last = len(planes) - 1
    steadied = np.zeros_like(planes)
    for i in range(len(planes)):
        for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
            steadied[i] += np.float32(weight) * planes[min(max(i + offset, 0), last)]
    return steadied
