# SPDX-License-Identifier: Apache-2.0
"""What the network is told about the plate."""

import random

import numpy as np
import pytest
import torch
from tiny_wan import SMALL, moving_plate, tiny_models

from ex4d.errors import Cancelled, InputError, ShapeError
from ex4d.generation.wan.conditions import (
    check_pictures,
    check_seen,
    conditions_of,
    eroded,
    first_frame,
    masked_video,
)
from ex4d.generation.wan.fast_vae import FastVae
from ex4d.generation.wan.models import computing
from ex4d.generation.wan.reference_vae import ReferenceVae


@pytest.fixture(scope="module")
def models():
    return tiny_models()


@pytest.fixture(scope="module")
def context():
    return {"positive": torch.zeros(1, 512, SMALL.text_dim), "negative": torch.ones(1, 512, SMALL.text_dim)}


@pytest.fixture
def vae(models):
    return ReferenceVae(models)


class Listening:
    """A VAE that keeps what it was given."""

    def __init__(self, vae):
        self.vae = vae

    def encode(self, clips):
        self.clips = clips
        return self.vae.encode(clips)


def test_the_vae_meets_masked_colour_the_mask_as_minus_three_and_one_and_the_first_frame_before_grey(
    models, context, vae
):
    color, mask = moving_plate()
    listening = Listening(vae)
    conditions_of(models, color, mask, context, listening)
    video, twice_scaled, still = listening.clips
    assert (video.permute(1, 2, 3, 0)[torch.from_numpy(~mask)] == -1).all()
    assert set(twice_scaled.unique().tolist()) == {-3.0, 1.0}
    assert torch.equal(twice_scaled[1] == 1, torch.from_numpy(mask))
    assert (still[:, 1:] == 0).all()
    assert (still[:, 0] - video[:, 0]).abs().max() <= 2 / 255


def test_y_says_that_only_the_first_latent_frame_is_known(models, context, vae):
    y = conditions_of(models, *moving_plate(9), context, vae).y
    assert y.shape == (1, 20, 3, 4, 4)
    assert (y[:, :4, 0] == 1).all()
    assert (y[:, :4, 1:] == 0).all()


def test_the_fast_vae_says_what_the_release_s_says(models, context, vae):
    fast, reference = (conditions_of(models, *moving_plate(9), context, way) for way in (FastVae(models.vae), vae))
    torch.testing.assert_close(fast.ray, reference.ray, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fast.y, reference.y, rtol=1e-4, atol=1e-4)
    assert torch.equal(fast.clip, reference.clip)


def test_holes_do_not_leak_their_colour(models, context, vae):
    color, mask = moving_plate()
    before = conditions_of(models, color, mask, context, vae)
    after = conditions_of(models, np.where(mask[..., None], color, 255 - color), mask, context, vae)
    assert torch.equal(before.ray, after.ray)
    assert torch.equal(before.y, after.y)


def test_a_first_frame_loses_at_most_one_grey_level_on_its_way():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    frame = first_frame(masked_video(levels, torch.ones(1, 16, 16, dtype=torch.bool)))
    lost = levels[0, :, :, 0].int() - ((frame[0] + 1) * 127.5).round().int()
    assert set(lost.unique().tolist()) == {0, 1}
    assert (lost == 1).float().mean().item() == pytest.approx(0.246, abs=0.001)  # as measured on the release


def test_erosion_takes_half_a_block_from_holes_and_nothing_from_the_picture_s_edge():
    mask = np.ones((2, 16, 16), bool)
    mask[1, :, 10:] = False
    shrunk = eroded(mask, 5)
    assert shrunk[0].all()
    assert shrunk[1, :, :8].all()
    assert not shrunk[1, :, 8:].any()
    assert np.array_equal(eroded(mask, 0), mask)


def test_the_release_s_erosion_draws_one_side_per_frame_from_python_s_generator():
    mask = np.ones((9, 16, 32), bool)
    mask[:, :, 16:] = False
    draw = random.Random(5)
    sides = [draw.randint(2, 8) for _ in mask]
    assert (16 - eroded(mask, None, 5)[:, 0].sum(axis=1)).tolist() == [(side - 1) // 2 for side in sides]
    assert not np.array_equal(eroded(mask, None, 5), eroded(mask, None, 6))


@pytest.mark.parametrize(
    ("shape", "what"),
    [((6, 32, 32, 3), "4 n \\+ 1 frames"), ((85, 16, 16, 3), "at most 81"), ((5, 40, 32, 3), "multiples of 16")],
)
def test_clips_that_the_networks_cannot_take_are_refused(shape, what):
    with pytest.raises(ShapeError, match=what):
        check_pictures(np.zeros(shape, np.uint8), np.ones(shape[:3], bool))


def test_a_mask_must_be_boolean_and_fit_the_colour():
    color, mask = moving_plate()
    with pytest.raises(ShapeError, match=r"mask must be bool \[5, 32, 32\].*uint8"):
        check_pictures(color, mask.astype(np.uint8))
    with pytest.raises(ShapeError, match=r"got bool \[4, 32, 32\]"):
        check_pictures(color, mask[:4])
    with pytest.raises(ShapeError, match=r"color must be uint8.*float64"):
        check_pictures(color / 255, mask)


def test_a_camera_that_sees_nothing_is_an_error_that_says_what_to_do():
    _, mask = moving_plate()
    with pytest.raises(InputError, match=r"any of its 5 frames.*Move the camera"):
        check_seen(np.zeros_like(mask))
    mask[0] = False
    with pytest.raises(InputError, match=r"first frame.*Move the camera"):
        check_seen(mask)


def test_weights_that_came_to_compute_go_back_whatever_happens():
    network = torch.nn.Linear(3, 2)
    home = network.weight.data_ptr()

    def stopped_in_the_middle():
        with computing(network, torch.device("cpu")):
            assert network.weight.data_ptr() == home  # they were there: nothing was copied
            network.weight.data = torch.zeros(2, 3)  # as if they had come from elsewhere
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        stopped_in_the_middle()
    assert network.weight.data_ptr() == home
