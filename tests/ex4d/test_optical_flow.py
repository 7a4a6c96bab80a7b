# SPDX-License-Identifier: Apache-2.0
"""Where the pixels of one picture lie in another."""

import cv2
import numpy as np
import pytest

from ex4d.optical_flow import dense_flow


def textured(height, width, shift=0):
    noise = np.random.default_rng(0).uniform(0, 255, (height, width + 40)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2)[:, 20 - shift : 20 - shift + width].clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("finest_scale", [1, 2])
def test_a_shift_is_found(finest_scale):
    flow = dense_flow(textured(96, 128), textured(96, 128, shift=2), finest_scale)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), (2, 0), atol=0.35)


@pytest.mark.parametrize("size", [(1, 1), (12, 40), (8, 64), (31, 200), (200, 31), (20, 2000)])
@pytest.mark.parametrize("finest_scale", [1, 2])
def test_small_and_narrow_pictures_are_searched_too(size, finest_scale):
    flow = dense_flow(textured(*size), textured(*size, shift=1), finest_scale)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()
