# SPDX-License-Identifier: Apache-2.0
"""How near depth sources and the ways to scale them come to known depth.

    python benchmarks/depth_scores.py [--clip FILE --truth FILE.npz] [--source NAME ...]

Without a clip it scores the sample plate, whose depth is known exactly in every frame. A truth file holds inverse_depth
[H, W] or [T, H, W] of the clip's first frames, and optionally `measured`, the pixels that count. Sources are compared
after the best scale and offset of 1/z, as is usual for models without scale; the ways to scale are compared without.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from ex4d.depth import SourceOptions, depth_source
from ex4d.depth.clip import DisparityClip
from ex4d.depth.file_formats import read_depth_file
from ex4d.depth.normalise import CARD, Known, fit_clip, fitted_depth, reference_depth, unit_disparity
from ex4d.video import Clip, read_video

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample"


def scores(inverse: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> str:
    """AbsRel, share within a factor of 1.25, and rank correlation of 1/z, as a table's cells."""
    true = truth[counts].astype(np.float64)
    farthest = np.percentile(true, 1) / CARD  # where the product puts the sky
    found = np.maximum(inverse[counts].astype(np.float64), farthest)
    ratio = true / found  # of the depths
    within = np.maximum(ratio, 1 / ratio) < 1.25
    order = "-" if np.ptp(found) == 0 else f"{np.corrcoef(ranks(found), ranks(true))[0, 1]:.2f}"
    return f"{np.abs(ratio - 1).mean():.3f} | {within.mean():.2f} | {order}"


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def aligned(inverse: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The best scale and offset for all frames together, least squares in 1/z."""
    x, y = inverse[counts].astype(np.float64), truth[counts].astype(np.float64)
    scale, offset = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, y.mean())
    return scale * inverse + offset


def baselines(frames: np.ndarray) -> dict[str, np.ndarray]:
    """What costs nothing: one depth, lower is nearer, brighter is nearer."""
    height = np.broadcast_to(np.linspace(0, 1, frames.shape[1])[:, None], frames.shape[:3])
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]) / 255
    return {"one depth": np.zeros(frames.shape[:3]), "height in the picture": height, "luminance": grey}


def scalings(truth: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """1/z by each way to scale a perfect disparity whose scale and offset are lost."""
    lost = (37 * truth - 4).astype(np.float32)
    near, far = (1 / np.percentile(truth[counts], percent) for percent in (99.5, 1))
    random = np.random.default_rng(0)
    places = np.argwhere(counts)[random.integers(0, counts.sum(), 20)]
    z = 1 / truth[tuple(places.T)] * random.normal(1, 0.02, 20)
    points = np.column_stack([places[:, 0], places[:, 2] + 0.5, places[:, 1] + 0.5, z])
    wrong = points.copy()
    wrong[::3, 3] *= random.uniform(0.2, 4, len(wrong[::3]))
    subject = points[[np.argmin(points[:, 3])]]
    ways = {
        "20 tracked points, 2 % noise": Known(points=points),
        "the same, a third of them wrong": Known(points=wrong),
        "near and far": Known(near=near, far=far),
        "the subject's distance and far": Known(far=far, points=subject),
        "the subject's distance": Known(points=subject),
    }
    made = {name: 1 / fitted_depth(lost, fit_clip(lost, known, None, counts)) for name, known in ways.items()}
    released = reference_depth(unit_disparity(lost))
    at = points[:, [0, 2, 1]].astype(int)
    unit = np.median(z / released[tuple(at.T)])  # its shape in the plate's own unit
    return {**made, "the release's rule, best unit": 1 / (released * unit)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=SAMPLE / "plate.mp4")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--source", action="append", default=[], help="a depth source (default preview)")
    options = parser.parse_args()

    clip: Clip = read_video(options.clip)
    if options.truth is None:
        stored = read_depth_file(SAMPLE / "depth.mkv", "inverse", 0, len(clip.frames))
        truth, counts = stored.values, np.ones(stored.values.shape, bool)
    else:
        with np.load(options.truth, allow_pickle=False) as arrays:
            truth = np.atleast_3d(arrays["inverse_depth"].T).T
            counts = np.atleast_3d(arrays["measured"].T).T if "measured" in arrays else np.ones(truth.shape, bool)
    print(f"{options.clip.name}: {len(clip.frames)} frames, depth known in {len(truth)}\n")
    print("| source | AbsRel | within 1.25 | rank correlation | ms per frame |\n|---|---|---|---|---|")
    for name, guess in baselines(clip.frames[: len(truth)]).items():
        print(f"| {name} | {scores(aligned(guess, truth, counts), truth, counts)} | |")
    for name in options.source or ["preview"]:
        start = time.perf_counter()
        found = depth_source(name, SourceOptions()).estimate(clip)
        spent_ms = (time.perf_counter() - start) / len(clip.frames) * 1000
        inverse = (found.disparity if isinstance(found, DisparityClip) else 1 / found.depth)[: len(truth)]
        print(f"| {name} | {scores(aligned(inverse, truth, counts), truth, counts)} | {spent_ms:.0f} |")
    print("\n| scale from | AbsRel | within 1.25 | rank correlation |\n|---|---|---|---|")
    for name, inverse in scalings(truth, counts).items():
        print(f"| {name} | {scores(inverse, truth, counts)} |")


if __name__ == "__main__":
    main()
