# SPDX-License-Identifier: Apache-2.0
"""From disparity without scale to z-depth: two numbers for the whole clip, from what is known about its distances.

`fitted`, the default, looks for a and b in 1/z = a d + b. Known points decide both; else the artist's near and far do;
else a usual room is assumed. `reference` is the rule of the EX-4D release, which stretches the extremes of the clip to
2.56 .. 10000: one hand before the lens moves everything else away.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ex4d.errors import DepthError

Normalisation = Literal["fitted", "reference"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)

# EX-4D release, recon.py: z = clip(10000 / max(3900 d, 1e-5), 1e-4, 1e4)
REFERENCE_NUMERATOR, REFERENCE_FACTOR = 10000.0, 3900.0
REFERENCE_FLOOR, REFERENCE_NEAR, REFERENCE_FAR = 1e-5, 1e-4, 1e4

FAR_PERCENT, NEAR_PERCENT = 1.0, 99.5  # of a frame's disparity: single wild pixels are no near and no far
ASSUMED_NEAR, ASSUMED_RATIO = 2.0, 10.0  # shot units and far/near of a plate about which nothing is known
CARD = 4.0  # the sky, and what lies beyond everything known, stands at this many times the far distance
SAMPLE_STEP = 4  # pixels between samples for percentiles: sixteen times fewer numbers, the same percentiles
FIT_ROUNDS = 30  # of reweighting; it settles in about ten
OUTLIER = 4.0  # deviations of the typical residual beyond which a known point counts nothing (Tukey's biweight, 4.685)


@dataclass(frozen=True, eq=False)
class Known:
    """What is known about the distances in a plate."""

    near: float | None = None  # z of what is nearest for most of the clip, shot units
    far: float | None = None  # z of what is farthest, the sky aside
    # Tracked points, measured distances, samples of a metric depth: frame, x and y in pixels, z. [P, 4]
    points: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))

    def __post_init__(self) -> None:
        for name, value in (("near", self.near), ("far", self.far)):
            if value is not None and not 0 < value < np.inf:
                raise DepthError(f"{name} must be a distance above zero, got {value:g}.")
        if self.near is not None and self.far is not None and not self.near < self.far:
            raise DepthError(f"near must be smaller than far, got near {self.near:g} and far {self.far:g}.")
        if self.points.ndim != 2 or self.points.shape[1] != 4:
            raise DepthError(f"Known points must be [P, 4]: frame, x, y, z. Got {list(self.points.shape)}.")
        bad = np.flatnonzero(~(np.isfinite(self.points).all(axis=1) & (self.points[:, 3] > 0)))
        if bad.size:
            raise DepthError(
                f"Known point {bad[0]} must have a finite place and a distance above zero, got "
                f"{self.points[bad[0]].tolist()}."
            )

    def __bool__(self) -> bool:
        return self.near is not None or self.far is not None or len(self.points) > 0


@dataclass(frozen=True)
class Fit:
    """1/z = scale * disparity + offset, for the whole clip."""

    scale: float
    offset: float
    card: float  # z of the sky; nothing lies farther
    how: str  # for the artist: what decided it
    assumed: bool  # whether something about the scale was a guess


def fit_clip(
    disparity: NDArray[np.float32],
    known: Known,
    sky: NDArray[np.bool_] | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Fit:
    """Find the scale and the offset of a clip's disparity.

    Args:
        disparity: larger is nearer, any range. [T, H, W]
        known: about the distances in it.
        sky, valid: pixels that count for neither near nor far, or alone do. [T, H, W]

    Raises:
        DepthError: the clip is flat, or what is known contradicts itself; the message says how.
    """
    low, high = usual_range(disparity, sky, valid)
    at, inverse = _samples(disparity, known.points)
    spread = float(np.ptp(at)) if len(at) else 0.0
    if spread > 0.02 * (high - low) and len(at) >= 2:
        (scale, offset), how, assumed = robust_line(at, inverse), f"{len(at)} known distances", ""
    elif len(at):
        scale, offset, how, assumed = _through_one_point(
            float(np.median(at)), float(np.median(inverse)), low, high, known
        )
    else:
        near, far, how, assumed = _ends(known)
        scale = (1 / near - 1 / far) / (high - low)
        offset = 1 / far - scale * low
    if not scale > 0:
        raise DepthError(
            "The known distances say that larger disparity is farther. Check them, or invert the depth file "
            "(--depth-option invert=yes)."
        )
    farthest = scale * low + offset
    if known.far is not None:
        farthest = 1 / known.far
    elif farthest <= 0:  # the line says that the farthest things lie beyond infinity: as far as the farthest known one
        farthest = float(inverse.min()) if len(inverse) else (scale * high + offset) / ASSUMED_RATIO
    return Fit(scale, offset, CARD / farthest, f"{how}; {assumed}" if assumed else how, bool(assumed))


def fitted_depth(disparity: NDArray[np.float32], fit: Fit, sky: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Bring disparity to z-depth with a fit. Nothing lies beyond the card; the sky lies on it.

    Returns:
        z-depth, shot units. float32 [T, H, W]
    """
    inverse = np.float32(fit.scale) * disparity + np.float32(fit.offset)
    depth = 1 / np.maximum(inverse, np.float32(1 / fit.card))
    if sky is not None:
        depth[sky] = fit.card
    return np.asarray(depth, np.float32)


def usual_range(
    disparity: NDArray[np.float32], sky: NDArray[np.bool_] | None = None, valid: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """The disparity of far and near things in a usual frame.

    Percentiles of each frame, and of those the median over the clip: what enters near the lens for less than half of
    the clip changes nothing.

    Raises:
        DepthError: no near and far.
    """
    ends = []
    thin = np.s_[::SAMPLE_STEP, ::SAMPLE_STEP] if min(disparity.shape[1:]) >= 16 * SAMPLE_STEP else np.s_[:, :]
    for t in range(len(disparity)):
        counts = np.ones(disparity.shape[1:], np.bool_) if valid is None else valid[t]
        if sky is not None:
            counts = counts & ~sky[t]
        values = disparity[t][thin][counts[thin]]
        if values.size:
            ends.append(np.percentile(values, [FAR_PERCENT, NEAR_PERCENT]))
    low, high = np.median(ends, axis=0) if ends else (0.0, 0.0)
    if not high > low:
        raise DepthError(f"The disparity is {low:g} everywhere: a flat clip has no near and far. Use another source.")
    return float(low), float(high)


def robust_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The line y = scale x + offset through most of the points; up to nearly half of them may be wrong.

    Starts at the median of the slopes between pairs of points, then least squares with Tukey's weights.

    Args:
        x, y: [P], P >= 2, x not all the same.
    """
    pairs = np.random.default_rng(0).integers(0, len(x), (2, 2000)) if len(x) > 60 else np.triu_indices(len(x), 1)
    first, second = pairs
    run = x[second] - x[first]
    steep = np.abs(run) > 0.05 * np.ptp(x)
    scale = float(np.median((y[second] - y[first])[steep] / run[steep]))
    offset = float(np.median(y - scale * x))
    for _ in range(FIT_ROUNDS):
        error = np.abs(y - scale * x - offset)
        typical = 1.4826 * float(np.median(error)) + 1e-9 * float(np.abs(y).max())  # 1.4826: deviation of a normal
        weight = np.clip(1 - (error / (OUTLIER * typical)) ** 2, 0, None) ** 2
        mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
        spread = float(np.sum(weight * (x - mean_x) ** 2))
        if spread <= 0:
            break
        scale = float(np.sum(weight * (x - mean_x) * (y - mean_y)) / spread)
        offset = float(mean_y - scale * mean_x)
    return scale, offset


def points_of_depth(depth: NDArray[np.float32], frames: list[int], step: int = 16) -> NDArray[np.float64]:
    """Samples of a metric depth, to fit a clip's disparity to: a metric model needs to run on a few frames only.

    Args:
        depth: z-depth of those frames, shot units. [K, H, W]
        frames: which frames of the clip they are.
        step: pixels between samples.

    Returns:
        frame, x, y, z. [P, 4]
    """
    rows, columns = np.mgrid[step // 2 : depth.shape[1] : step, step // 2 : depth.shape[2] : step]
    places = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    samples = [
        np.column_stack([np.full(len(places), frame), places, plane[rows, columns].ravel()])
        for frame, plane in zip(frames, depth, strict=True)
    ]
    return np.concatenate(samples).astype(np.float64)


def _samples(
    disparity: NDArray[np.float32], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The disparity at each known point, and its known 1/z. [P], [P]"""
    count, height, width = disparity.shape
    frame, column, row = np.floor(points[:, :3]).astype(int).T
    outside = (frame < 0) | (frame >= count) | (column < 0) | (column >= width) | (row < 0) | (row >= height)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise DepthError(
            f"Known point {first} lies outside of the clip: frame {frame[first]}, x {column[first]}, y {row[first]}; "
            f"the clip has {count} frames of {width} x {height}."
        )
    return disparity[frame, row, column].astype(np.float64), 1 / points[:, 3]


def _through_one_point(
    at: float, inverse: float, low: float, high: float, known: Known
) -> tuple[float, float, str, str]:
    """Scale and offset from one measured distance and one more thing: far, near, or a usual ratio.

    Returns:
        scale, offset, what decided them, what was assumed ("" for nothing)
    """
    how, assumed = "one known distance", ""
    if known.far is not None and at - low > 0.05 * (high - low):
        scale, how = (inverse - 1 / known.far) / (at - low), f"{how} and the given far"
    elif known.near is not None and high - at > 0.05 * (high - low):
        scale, how = (1 / known.near - inverse) / (high - at), f"{how} and the given near"
    else:  # 1/z from 1 to ASSUMED_RATIO in some unit, and the point gives the unit
        share = 1 + (at - low) / (high - low) * (ASSUMED_RATIO - 1)
        scale = inverse / max(share, 0.1) * (ASSUMED_RATIO - 1) / (high - low)
        assumed = f"far is assumed to be {ASSUMED_RATIO:g} times as far as near"
    return scale, inverse - scale * at, how, assumed


def _ends(known: Known) -> tuple[float, float, str, str]:
    """Near, far, what decided them, what was assumed ("" for nothing)."""
    ratio = f"far is assumed to be {ASSUMED_RATIO:g} times as far as near"
    if known.near is not None and known.far is not None:
        return known.near, known.far, "the given near and far", ""
    if known.near is not None:
        return known.near, known.near * ASSUMED_RATIO, "the given near", ratio
    if known.far is not None:
        return known.far / ASSUMED_RATIO, known.far, "the given far", f"near is assumed at {1 / ASSUMED_RATIO:g} of it"
    far = ASSUMED_NEAR * ASSUMED_RATIO
    return ASSUMED_NEAR, far, "nothing", f"near {ASSUMED_NEAR:g} and far {far:g} units are assumed"


def unit_disparity(disparity: NDArray[Any]) -> NDArray[np.float32]:
    """Stretch the disparity of a whole clip to 0..1, 1 the nearest.

    Args:
        disparity: larger is nearer, any scale and offset. [T, H, W]

    Raises:
        DepthError: every pixel has the same value, so there is no near and far.
    """
    low, high = float(disparity.min()), float(disparity.max())
    if not high > low:
        raise DepthError(
            f"The disparity is {low:g} everywhere: a flat clip has no near and far. Use another depth source."
        )
    return ((disparity.astype(np.float32) - np.float32(low)) / np.float32(high - low)).astype(np.float32)


def reference_depth(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn 0..1 disparity into z-depth exactly as the EX-4D release does: 2.564 near to 10000 far.

    Args:
        unit: from `unit_disparity`. [T, H, W]

    Returns:
        z-depth in the release's own units. float32 [T, H, W]
    """
    z = REFERENCE_NUMERATOR / np.maximum(np.float32(REFERENCE_FACTOR) * unit, np.float32(REFERENCE_FLOOR))
    return np.asarray(np.clip(z, REFERENCE_NEAR, REFERENCE_FAR), np.float32)


def relief_depth(unit: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """Turn 0..1 disparity into z-depth between two distances: 1/z is linear in the disparity.

    Args:
        unit: from `unit_disparity`. [T, H, W]
        near: z of disparity 1, shot units.
        far: z of disparity 0, shot units.

    Returns:
        z-depth, shot units. float32 [T, H, W]

    Raises:
        DepthError: not 0 < near < far.
    """
    if not 0 < near < far < np.inf:
        raise DepthError(f"A relief needs 0 < near < far, got near {near:g} and far {far:g}.")
    return (1 / (unit * np.float32(1 / near - 1 / far) + np.float32(1 / far))).astype(np.float32)
