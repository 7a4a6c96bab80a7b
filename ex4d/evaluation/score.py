# SPDX-License-Identifier: Apache-2.0
"""Pictures against true pictures, over the pixels that count."""

from dataclasses import dataclass

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.errors import ShapeError

FALSE_SHARE = 0.1  # a pixel is false when it is off by more than this share of the range, mean of RGB, or of the depth
# Wang et al. 2004, "Image quality assessment": window, and the constants that steady the quotient.
SSIM_SIGMA_PX, SSIM_WINDOW_PX = 1.5, 11
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Score:
    """One view against the truth, over the pixels that its mask marks as seen."""

    seen: float  # share of the picture
    psnr_db: float  # infinite when nothing differs
    ssim: float
    false_color: float  # share of the seen pixels whose colour is off by more than FALSE_SHARE
    false_depth: float  # share of the seen pixels whose depth is off by more than FALSE_SHARE


def score_view(color: Array, mask: Array, depth: Array, true_color: Array, true_depth: Array) -> Score:
    """Score one rendered view.

    Args:
        color, true_color: RGB. uint8 [h, w, 3]
        mask: True where the view claims to show the truth. bool [h, w]
        depth, true_depth: z-depth. float [h, w]

    Raises:
        ShapeError: the arrays do not fit each other, or nothing is seen.
    """
    shapes = [color.shape, true_color.shape, (*mask.shape, 3), (*depth.shape, 3), (*true_depth.shape, 3)]
    if len(set(shapes)) != 1:
        raise ShapeError(f"A view and its truth must have one size, got {[list(shape[:2]) for shape in shapes]}.")
    if not mask.any():
        raise ShapeError("A score needs at least one seen pixel, the mask has none.")
    error = color[mask].astype(np.float64) - true_color[mask]
    return Score(
        seen=float(mask.mean()),
        psnr_db=masked_psnr_db(color, true_color, mask),
        ssim=masked_ssim(color, true_color, mask),
        false_color=float(np.mean(np.abs(error).mean(axis=1) > FALSE_SHARE * 255)),
        false_depth=float(np.mean(np.abs(depth[mask] / true_depth[mask] - 1) > FALSE_SHARE)),
    )


def masked_psnr_db(picture: Array, truth: Array, mask: Array) -> float:
    """Peak signal to noise where the mask is True, infinite when nothing differs. picture, truth: uint8 [h, w, 3]"""
    error = picture[mask].astype(np.float64) - truth[mask]
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(255**2 / np.mean(error**2)))


def masked_ssim(picture: Array, truth: Array, mask: Array) -> float:
    """Structural similarity where the mask is True; windows count only such pixels.

    Args:
        picture, truth: uint8 [h, w, 3]
        mask: bool [h, w]
    """
    weight = mask.astype(np.float64)[..., None]

    def blurred(values: Array) -> Array:
        window = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
        return cv2.GaussianBlur(values, window, SSIM_SIGMA_PX, borderType=cv2.BORDER_CONSTANT).reshape(values.shape)

    total = np.maximum(blurred(weight), 1e-12)
    x, y = picture * weight, truth * weight
    mean_x, mean_y = blurred(x) / total, blurred(y) / total
    variance_x = np.maximum(blurred(x * x) / total - mean_x**2, 0)
    variance_y = np.maximum(blurred(y * y) / total - mean_y**2, 0)
    covariance = blurred(x * y) / total - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    )
    return float(similarity[mask].mean())


def mean_score(scores: list[Score]) -> Score:
    """The mean of several views, field by field."""
    return Score(*(float(np.mean([getattr(score, name) for score in scores])) for name in Score.__dataclass_fields__))
