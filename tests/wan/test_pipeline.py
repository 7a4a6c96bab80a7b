# SPDX-License-Identifier: Apache-2.0
"""The whole painter, with the real classes: from colour and mask to frames.

`golden/release.npz` was made by the EX-4D release itself (b456a41: its generate.py, its pipeline, peft's LoRA, its
memory management, all in float32 on a CPU) from the weights, the LoRA and the plate of tiny_wan.py, with Python's
`random` seeded. There, every array equals ours bit for bit; the tolerances are for other processors.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_wan import SMALL, moving_plate, tiny_models, write_ex4d

from ex4d.errors import Cancelled, InputError
from ex4d.generation.wan import pipeline
from ex4d.generation.wan.checkpoint import attach, fuse, read_ex4d
from ex4d.generation.wan.conditions import Conditions, eroded
from ex4d.generation.wan.denoise import guided
from ex4d.generation.wan.finite import NonFiniteError
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.pipeline import WanPipeline, vae_of, velocity_of
from ex4d.generation.wan.reference_vae import ReferenceVae
from ex4d.generation.wan.settings import PaintSettings

PROMPTS = (
    "4K ultra HD, surround motion, realistic tone",
    "Bright tones, overexposed, static, blurred details, subtitles",
)
REFERENCE = PaintSettings(MODES["reference"], 4, 3, *PROMPTS, None)
LOSSLESS = replace(REFERENCE, mode=MODES["lossless"])


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return read_ex4d(write_ex4d(tmp_path_factory.mktemp("weights"), tiny_models()), SMALL.layers)


@pytest.fixture(scope="module")
def models(adapter):
    """With the LoRA merged, as all modes but the reference have it."""
    models = tiny_models()
    fuse(models.dit, [(adapter, 1.0)])
    return models


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "release.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def painted(adapter):
    """The reference's frames, and what it was told and went through on the way."""
    told: list[Conditions] = []
    latents: list[torch.Tensor] = []

    def bind(models, conditions, mode):
        told.append(conditions)
        return velocity_of(models, conditions, mode)

    def guide(velocity, mode, steps):
        answer = guided(velocity, mode, steps)
        return lambda x, timestep, step: (latents.append(x), answer(x, timestep, step))[1]

    models = tiny_models()
    attach(models.dit, [(adapter, 1.0)])
    frames = WanPipeline(models, bind, guide).paint(*moving_plate(), REFERENCE)
    return frames, told[0], latents


def levels_apart(a, b):
    return int(np.abs(a.astype(int) - b).max())


def test_the_reference_s_frames_are_the_release_s(painted, golden):
    frames, _, latents = painted
    assert levels_apart(frames, golden["frames"]) <= 1
    for ours, released in zip(latents[1:], golden["latents"], strict=False):
        np.testing.assert_allclose(ours.numpy(), released, atol=2e-5)


def test_the_reference_is_told_what_the_release_is_told(painted, golden):
    _, told, _ = painted
    assert np.array_equal(np.packbits(eroded(moving_plate()[1], None, REFERENCE.seed)), golden["mask"])
    np.testing.assert_allclose(told.ray.numpy(), golden["ray"], atol=1e-5)
    np.testing.assert_allclose(told.y.numpy(), golden["y"], atol=1e-5)
    np.testing.assert_allclose(told.clip[:, ::16, ::16].numpy(), golden["clip"], atol=1e-4)
    np.testing.assert_allclose(told.context["positive"][0, : len(golden["context"])], golden["context"], atol=1e-5)


@pytest.mark.parametrize("settings", [REFERENCE, LOSSLESS], ids=["reference", "lossless"])
def test_a_merged_lora_paints_the_same_within_one_level(models, painted, settings):
    assert levels_apart(WanPipeline(models).paint(*moving_plate(), settings), painted[0]) <= 1


@pytest.mark.parametrize("settings", [REFERENCE, LOSSLESS], ids=["reference", "lossless"])
def test_with_bfloat16_weights_the_picture_stays_within_rounding(adapter, painted, settings):
    models = tiny_models(dtype=torch.bfloat16)
    fuse(models.dit, [(adapter, 1.0)])
    frames = WanPipeline(models).paint(*moving_plate(), settings)
    assert np.abs(frames.astype(int) - painted[0]).mean() < 2  # measured: 0.96 and 0.85


def test_a_seed_decides_every_pixel_and_another_seed_changes_them(models):
    paint = WanPipeline(models).paint
    first = paint(*moving_plate(), LOSSLESS)
    assert np.array_equal(paint(*moving_plate(), LOSSLESS), first)
    assert levels_apart(paint(*moving_plate(), replace(LOSSLESS, seed=4)), first) > 10


def test_both_prompts_steps_and_erosion_change_the_picture(models):
    paint = WanPipeline(models).paint
    first = paint(*moving_plate(), LOSSLESS)
    for change in ({"prompt": "a train"}, {"negative_prompt": "a train"}, {"steps": 3}, {"erosion_px": 1}):
        assert levels_apart(paint(*moving_plate(), replace(LOSSLESS, **change)), first) > 0, change


@pytest.mark.parametrize(("quality", "asked"), [("lossless", 24), ("cached", 16), ("draft", 12)])
def test_the_modes_ask_the_network_as_often_as_they_say(models, quality, asked):
    branches = []

    def bind(models, conditions, mode):
        velocity = velocity_of(models, conditions, mode)
        return lambda x, timestep, branch: (branches.append(branch), velocity(x, timestep, branch))[1]

    mode = replace(MODES[quality], fp8=False, cache_threshold=MODES[quality].cache_threshold and 1.0)
    frames = WanPipeline(models, bind).paint(*moving_plate(), replace(LOSSLESS, mode=mode, steps=12))
    assert frames.std() > 10
    assert len(branches) <= asked
    assert branches.count("positive") == 12 or quality == "cached"
    assert ("negative" in branches) == (mode.guidance_scale != 1)


def test_frames_decoded_piece_by_piece_are_those_decoded_at_once(models):
    latents = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = models.vae.decode(latents, "cpu")[0]
    expected = ((whole + 1) * 127.5).clip(0, 255).byte().permute(1, 2, 3, 0).numpy()
    pieces = ReferenceVae(models).decode(latents)
    assert pieces.shape == (9, 32, 32, 3)
    assert levels_apart(pieces, expected) <= 1


def test_previews_come_after_every_step_and_the_last_one_is_the_result(models):
    shown = {}
    frames = WanPipeline(models).paint(*moving_plate(), LOSSLESS, on_preview=shown.__setitem__)
    assert list(shown) == [0, 1, 2, 3]
    assert levels_apart(vae_of(models, LOSSLESS.mode).decode(shown[3]), frames) <= 1


@pytest.mark.parametrize("settings", [REFERENCE, LOSSLESS], ids=["reference", "lossless"])
def test_every_stage_can_be_cancelled_and_leaves_nothing_behind(models, settings):
    stages = []
    WanPipeline(models).paint(*moving_plate(), settings, lambda report: stages.append(report.stage))
    modules = [*models.dit.modules(), *models.vae.modules()]
    for stage in dict.fromkeys(stages):

        def cancel(report, stage=stage):
            if report.stage == stage and report.i == 1:
                raise Cancelled("stop")

        with pytest.raises(Cancelled):
            WanPipeline(models).paint(*moving_plate(), settings, cancel)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
        kept = [*models.vae.model._feat_map, *models.vae.model._enc_feat_map]
        assert not any(isinstance(part, torch.Tensor) for part in kept)
    assert {"Looking at the plate", "Painting", "Developing the frames"} <= set(stages)


@pytest.mark.parametrize("settings", [REFERENCE, LOSSLESS], ids=["reference", "lossless"])
@pytest.mark.parametrize(
    ("network", "weight", "words"),
    [
        ("vae", "model.encoder.conv1.bias", "Looking at the plate broke down"),
        ("image_encoder", "model.visual.patch_embedding.weight", "Looking at the plate broke down"),
        ("dit", "blocks.0.ffn.0.weight", "Painting, step 1 of 4, broke down: .*ex4d models verify"),
        ("vae", "model.decoder.conv1.bias", "Developing the frames broke down: .*ex4d models verify"),
    ],
)
def test_where_the_picture_stops_being_made_of_numbers_is_said(settings, network, weight, words):
    models = tiny_models()
    getattr(models, network).get_parameter(weight).data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=words):
        WanPipeline(models).paint(*moving_plate(), settings)


def test_a_plate_that_erosion_hides_is_refused_before_any_network_runs(models, monkeypatch):
    monkeypatch.setattr(pipeline, "prompt_embeddings", None)
    color, mask = moving_plate()
    mask[:, :, 3:] = False
    with pytest.raises(InputError, match="sees nothing of the plate"):
        WanPipeline(models).paint(color, mask, replace(LOSSLESS, erosion_px=9))
