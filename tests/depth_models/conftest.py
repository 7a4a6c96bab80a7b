# SPDX-License-Identifier: Apache-2.0
"""Tests of the depth sources that need torch: the extra `depth`. Tiny networks, one thread, no weights, no network."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ex4d.video import Clip


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny networks are slower on several threads, and sums would depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def coloured_frames() -> np.ndarray:
    """Soft coloured noise. uint8 [30, 64, 64, 3]"""
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in noise])


@pytest.fixture(scope="session")
def clip_of():
    """Make a clip of frames."""

    def clip(frames: np.ndarray) -> Clip:
        return Clip(frames, Fraction(24), 0, Path("plate.mp4"), "0" * 64, None, ())

    return clip
