# SPDX-License-Identifier: Apache-2.0
"""Score both conventions on the sample: true depth in, the second camera's true pictures as judge.

    .venv/bin/python benchmarks/sample_score.py [--blur SIGMA_PX] [--pictures FOLDER] [--json]

Every figure is the mean of the eight views after the first, over the pixels that the view marks as seen; the last two
rows take those that both conventions mark, for a mask that leaves out every edge is spared the hard ones. `kept` is the
share of what the plate saw that the view marks as seen, `kept far` the same beyond 22.9 eye heights, where the release
cuts flat ground by its 2.5 degree test.
`--blur` filters the depth as a depth model would, in disparity.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import CONVENTIONS, Array
from ex4d.conditioning import Conditioning
from ex4d.evaluation.novel_view import TrueViews, plate_saw, read_true_views, render_true_views, score_true_views
from ex4d.evaluation.score import FALSE_SHARE, mean_score

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample"
CUT_EYE_HEIGHTS = 22.9  # 1 / tan(2.5 degrees)
RED, BLUE = (255, 0, 0), (60, 90, 255)


def blurred(depth: Array, sigma_px: float) -> Array:
    """Soft silhouettes. depth: [N, H, W]"""
    return np.stack([(1 / cv2.GaussianBlur(1 / plane, (0, 0), sigma_px)).astype(np.float32) for plane in depth])


def measure(views: TrueViews, drawn: Conditioning, saw: Array, far: Array) -> dict[str, float]:
    """The figures of one convention."""
    figures = dataclasses.asdict(mean_score(score_true_views(views, drawn)))
    return figures | {"kept": float(drawn.mask[saw].mean()), "kept_far": float(drawn.mask[saw & far].mean())}


def comparison(views: TrueViews, drawn: Conditioning, n: int) -> Array:
    """What is seen, the truth, and where they differ: red for colour, blue for depth. uint8 [h, 3 w, 3]"""
    error = np.abs(drawn.color[n].astype(float) - views.color[n]).mean(axis=-1)
    marked = drawn.color[n] // 2
    marked[drawn.mask[n] & (error > FALSE_SHARE * 255)] = RED
    marked[drawn.mask[n] & (np.abs(drawn.depth[n] / views.color_depth[n] - 1) > FALSE_SHARE)] = BLUE
    return np.concatenate([drawn.color[n], views.color[n], marked], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blur", type=float, default=0.0, metavar="SIGMA_PX", help="soften the depth's silhouettes")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="leave a comparison of each view there")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    views = read_true_views(SAMPLE)
    saw = plate_saw(views)
    eye_height = json.loads((SAMPLE / "camera.json").read_text(encoding="utf-8"))["eye_height_m"]
    far = views.color_depth > CUT_EYE_HEIGHTS * eye_height
    depth = blurred(views.depth, options.blur) if options.blur else views.depth
    drawings = {name: render_true_views(views, name, depth) for name in CONVENTIONS}
    common = np.logical_and.reduce([drawn.mask for drawn in drawings.values()])
    table = {name: measure(views, drawn, saw, far) for name, drawn in drawings.items()}
    for convention, drawn in drawings.items():
        table[f"{convention}, both see"] = measure(views, dataclasses.replace(drawn, mask=common), saw, far)
        for n in range(len(views.frame)) if options.pictures else ():
            options.pictures.mkdir(parents=True, exist_ok=True)
            file = options.pictures / f"{convention}_{views.frame[n]:04d}.png"
            cv2.imwrite(str(file), comparison(views, drawn, n)[..., ::-1])
    if options.json:
        print(json.dumps(table, indent=2))
        return
    print("| convention | seen | kept | kept far | PSNR | SSIM | false colour | false depth |")
    print("|---|---|---|---|---|---|---|---|")
    for convention, row in table.items():
        shares = " | ".join(f"{row[name]:.1%}" for name in ("seen", "kept", "kept_far"))
        false = " | ".join(f"{row[name]:.2%}" for name in ("false_color", "false_depth"))
        print(f"| {convention} | {shares} | {row['psnr_db']:.2f} dB | {row['ssim']:.4f} | {false} |")


if __name__ == "__main__":
    main()
