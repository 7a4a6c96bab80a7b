# SPDX-License-Identifier: Apache-2.0
"""What the network is told about the plate."""

import random
from dataclasses import replace

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


@pytest.fixture(scope="module")
def models():
    return tiny_models()


@pytest.fixture(scope="module")
def context():
    return {"positive": torch.zeros(1, 512, SMALL.text_dim), "negative": torch.ones(1, 512, SMALL.text_dim)}


@pytest.fixture
def encoded_clips(models, monkeypatch):
    """What the VAE was given, in order."""
    clips, encode = [], models.vae.single_encode
    monkeypatch.setattr(models.vae, "single_encode", lambda clip, device: (clips.append(clip), encode(clip, device))[1])
    return clips


def test_the_vae_meets_masked_colour_the_mask_as_minus_three_and_one_and_the_first_frame_before_grey(
    models, context, encoded_clips
):
    color, mask = moving_plate()
    conditions_of(models, color, mask, context, together=False)
    video, twice_scaled, still = encoded_clips
    assert (video.permute(0, 2, 3, 4, 1)[0][torch.from_numpy(~mask)] == -1).all()
    assert set(twice_scaled.unique().tolist()) == {-3.0, 1.0}
    assert torch.equal(twice_scaled[0, 1] == 1, torch.from_numpy(mask))
    assert (still[:, :, 1:] == 0).all()
    assert (still[:, :, 0] - video[:, :, 0]).abs().max() <= 2 / 255


def test_y_says_that_only_the_first_latent_frame_is_known(models, context):
    y = conditions_of(models, *moving_plate(9), context, together=False).y
    assert y.shape == (1, 20, 3, 4, 4)
    assert (y[:, :4, 0] == 1).all()
    assert (y[:, :4, 1:] == 0).all()


def test_one_batch_of_clips_gives_what_one_after_the_other_gives(models, context):
    one, three = (conditions_of(models, *moving_plate(), context, together=together) for together in (True, False))
    torch.testing.assert_close(one.ray, three.ray)
    torch.testing.assert_close(one.y, three.y)
    assert torch.equal(one.clip, three.clip)


def test_holes_do_not_leak_their_colour(models, context):
    color, mask = moving_plate()
    before = conditions_of(models, color, mask, context, together=True)
    after = conditions_of(models, np.where(mask[..., None], color, 255 - color), mask, context, together=True)
    assert torch.equal(before.ray, after.ray)
    assert torch.equal(before.y, after.y)


def test_a_first_frame_loses_at_most_one_grey_level_on_its_way():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    frame = first_frame(masked_video(levels, torch.ones(1, 16, 16, dtype=torch.bool)))
    lost = levels[0, :, :, 0].int() - ((frame[0] + 1) * 127.5).round().int()
    assert set(lost.unique().tolist()) == {0, 1}
    assert (lost == 1).float().mean().item() == pytest.approx(0.246, abs=0.001)  # as measured on the release


def test_a_cancelled_look_leaves_the_vae_empty(models, context):
    def cancel(report):
        if report.i == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        conditions_of(models, *moving_plate(), context, together=False, progress=cancel)
    assert not any(isinstance(kept, torch.Tensor) for kept in models.vae.model._enc_feat_map)


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


def test_networks_that_lie_elsewhere_come_to_compute_and_go_back(models, context):
    moved = replace(models, vae=models.vae, device=torch.device("cpu"))
    homes = [weight.data_ptr() for weight in models.vae.parameters()]
    conditions_of(moved, *moving_plate(), context, together=True)
    assert [weight.data_ptr() for weight in models.vae.parameters()] == homes
