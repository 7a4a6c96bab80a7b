# SPDX-License-Identifier: Apache-2.0
"""From disparity without scale to z-depth: the rule of the EX-4D release, and a relief between two distances."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ex4d.errors import DepthError

# EX-4D release, recon.py: z = clip(10000 / max(3900 d, 1e-5), 1e-4, 1e4)
REFERENCE_NUMERATOR, REFERENCE_FACTOR = 10000.0, 3900.0
REFERENCE_FLOOR, REFERENCE_NEAR, REFERENCE_FAR = 1e-5, 1e-4, 1e4


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
