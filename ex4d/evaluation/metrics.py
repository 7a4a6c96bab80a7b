# SPDX-License-Identifier: Apache-2.0
"""What is measured: every number of an evaluation, by name, with what it means and which way is better.

A number that exists for each frame of a take stands in `FRAME_METRICS`, one of the whole take in `TAKE_METRICS`.
"""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """One number."""

    label: str
    group: str  # heading under which it is shown
    meaning: str
    better: Better
    unit: str = ""  # written behind it; "%" for shares, which are stored from 0 to 1
    digits: int = 2

    def shown(self, value: float | None) -> str:
        """The number for people; a dash where it could not be measured."""
        if value is None:
            return "-"
        if self.unit == "%":
            return f"{100 * value:.{self.digits}f} %"
        return f"{value:.{self.digits}f}{'' if self.unit in {'', '°'} else ' '}{self.unit}"


CAMERA, PLATE, TIME, TRUTH = "Camera", "What the plate shows", "Over time", "Against the truth"
_PAINTED = "what the engine painted"

FRAME_METRICS: dict[str, Metric] = {
    "angle_deg": Metric("Angle", CAMERA, "between the new and the source camera's line of sight", "neither", "°", 1),
    "rotation_error_deg": Metric(
        "Rotation error", CAMERA, "of the frame, found again on its mesh, to the camera asked for", "lower", "°", 3
    ),
    "translation_error": Metric(
        "Translation error", CAMERA, "likewise, as a share of the median depth that shows", "lower", "%", 3
    ),
    "shift_px": Metric(
        "Shift", CAMERA, "by how far what the plate shows stands elsewhere in the picture, median", "lower", "px"
    ),
    "inliers": Metric("Points found", CAMERA, "matches that agree on that camera", "higher", "", 0),
    "unseen": Metric("Unseen", PLATE, "share of the picture that had to be painted", "lower", "%", 1),
    "parallax_deg": Metric(
        "Parallax", PLATE, "mean of what shows, between old and new line of sight", "neither", "°", 1
    ),
    "kept_psnr_db": Metric("Kept, PSNR", PLATE, "result against mesh where the plate shows", "higher", "dB"),
    "kept_ssim": Metric("Kept, SSIM", PLATE, "result against mesh where the plate shows", "higher", "", 4),
    "flicker": Metric("Flicker", TIME, "levels of 255 that change between frames after following motion", "lower"),
    "flicker_painted": Metric("Flicker, painted", TIME, f"the same over {_PAINTED}", "lower"),
    "psnr_db": Metric("PSNR", TRUTH, "all pixels", "higher", "dB"),
    "ssim": Metric("SSIM", TRUTH, "all pixels", "higher", "", 4),
    "psnr_seen_db": Metric("PSNR, seen", TRUTH, "where the plate shows", "higher", "dB"),
    "ssim_seen": Metric("SSIM, seen", TRUTH, "where the plate shows", "higher", "", 4),
    "psnr_painted_db": Metric("PSNR, painted", TRUTH, _PAINTED, "higher", "dB"),
    "ssim_painted": Metric("SSIM, painted", TRUTH, _PAINTED, "higher", "", 4),
    "lpips": Metric("LPIPS", TRUTH, "learned perceptual distance (AlexNet), all pixels", "lower", "", 4),
    "mask_precision": Metric(
        "Mask precision", TRUTH, "of what is marked seen, what the plate truly saw", "higher", "%"
    ),
    "mask_recall": Metric("Mask recall", TRUTH, "of what the plate truly saw, what is marked seen", "higher", "%"),
    "depth_abs_rel": Metric("Depth error", TRUTH, "AbsRel of the mesh in the new view, seen pixels", "lower", "%"),
    "depth_delta1": Metric("Depth δ1", TRUTH, "share within a factor of 1.25, seen pixels", "higher", "%"),
    "plate_depth_abs_rel": Metric("Plate depth error", TRUTH, "AbsRel of the plate's depth", "lower", "%"),
    "plate_depth_delta1": Metric("Plate depth δ1", TRUTH, "share of the plate within a factor of 1.25", "higher", "%"),
}

TAKE_METRICS: dict[str, Metric] = {
    "localised": Metric("Frames localised", CAMERA, "whose camera could be found again", "higher", "%", 0),
    "flicker_ratio": Metric("Flicker ratio", TIME, "to the truth's or, without it, the plate's own", "lower"),
}

# What the paper reports and one take does not have. docs/evaluation.md says what it needs.
BLANK = {
    "fid": "compares sets of many clips: ex4d evaluate sets",
    "fvd": "compares sets of many clips: ex4d evaluate sets",
    "vbench": "measured by its own program, in an environment of its own",
}
BEST_PSNR_DB = 100.0  # what an infinite one counts as: JSON knows no infinity, and one perfect frame is no perfect mean
# The ranges of the paper's comparison (arXiv 2506.05554), each from the source view on. Degrees.
ANGLE_RANGES = (30, 60, 90)
