# SPDX-License-Identifier: Apache-2.0
"""The picture that an artist sees while the model paints."""

import numpy as np

from ex4d.generation.wan.latent_preview import CHANNEL_RGB, OFFSET_RGB, latent_picture, moment


def test_a_latent_frame_becomes_a_small_picture():
    colour = np.array([0.5, -0.25, 0.0], np.float32)  # of -1 to 1
    latents = np.linalg.lstsq(CHANNEL_RGB.T, colour - OFFSET_RGB, rcond=None)[0]
    picture = latent_picture(np.tile(latents[:, None, None], (1, 6, 8)))
    assert picture.shape == (6, 8, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture[0, 0], (colour + 1) * 127.5, atol=1)


def test_wild_latents_stay_a_picture():
    picture = latent_picture(np.random.default_rng(0).normal(0, 100, (16, 4, 4)))
    assert {0, 255} <= set(picture.ravel().tolist())


def test_the_previews_play_the_take_back_and_forth():
    assert [moment(report, 4) for report in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [moment(report, 1) for report in range(3)] == [0, 0, 0]
    assert [moment(report, 2) for report in range(4)] == [0, 1, 0, 1]
