# SPDX-License-Identifier: Apache-2.0
"""The release's arithmetic, written out."""

import pytest
import torch
from diffsynth.pipelines.wan_video import model_fn_wan_video
from tiny_wan import WIDE, tiny_dit, tiny_models, write_ex4d

from ex4d.generation.wan.checkpoint import attach, fuse, read_ex4d
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.reference_forward import ReferenceForward
from ex4d.generation.wan.schedule import sinusoid

SIZE = WIDE
TIMESTEP = torch.tensor([898.8763])  # bfloat16 would make it 900
F, H, W = 2, 6, 4
LATENTS = torch.randn(1, 16, F, H, W, generator=torch.Generator().manual_seed(0))


def random_conditions(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    context = {"positive": normal(1, 512, SIZE.text_dim), "negative": normal(1, 512, SIZE.text_dim)}
    ray = normal(1, SIZE.dim, F, H // 2, W // 2)
    return Conditions(ray, normal(1, 20, F, H, W), normal(1, 257, 1280), context)


@pytest.fixture(scope="module")
def dit():
    return tiny_dit(SIZE)


def ask(dit, conditions, branch="positive"):
    with torch.no_grad():
        return ReferenceForward(dit, conditions)(LATENTS, TIMESTEP, branch)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_in_float32_it_is_diffsynth_s_own_network_with_the_ray_behind_the_patch_embedding(dit):
    conditions = random_conditions()
    hook = dit.patch_embedding.register_forward_hook(lambda module, inputs, output: output + conditions.ray)
    with torch.no_grad():
        expected = model_fn_wan_video(
            dit,
            latents=LATENTS,
            timestep=TIMESTEP,
            context=conditions.context["negative"],
            clip_feature=conditions.clip,
            y=conditions.y,
        )
    hook.remove()
    torch.testing.assert_close(ask(dit, conditions, "negative"), expected, rtol=1e-5, atol=1e-5)


def test_with_bfloat16_weights_it_stays_as_near_as_rounding_allows_and_answers_in_float32(dit):
    exact = ask(dit, random_conditions())
    rounded = ask(tiny_dit(SIZE, torch.bfloat16), random_conditions(torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert distance(rounded, exact) < 0.01  # measured: 0.0039


def test_the_exact_timestep_reaches_the_network_whatever_its_weights(dit):
    told = []
    dit = tiny_dit(SIZE, torch.bfloat16)
    dit.time_projection[0].register_forward_pre_hook(lambda module, inputs: told.append(inputs[0]))
    ask(dit, random_conditions(torch.bfloat16))
    exact = dit.time_embedding.float()(sinusoid(TIMESTEP, SIZE.freq_dim))
    assert told[0].dtype == torch.float32
    torch.testing.assert_close(told[0], exact)
    rounded = dit.time_embedding(sinusoid(TIMESTEP.bfloat16().float(), SIZE.freq_dim))
    assert distance(rounded, exact) > 0.05


def test_a_sinusoid_is_cosines_then_sines_of_the_unrounded_timestep():
    waves = sinusoid(TIMESTEP, 8)[0].double()
    angles = TIMESTEP.double() * torch.tensor([1, 1e-1, 1e-2, 1e-3], dtype=torch.float64)
    torch.testing.assert_close(waves, torch.cat([angles.cos(), angles.sin()]), rtol=0, atol=1e-6)


def test_a_lora_beside_the_linears_and_one_merged_into_them_agree(dit, tmp_path):
    conditions, adapter = random_conditions(), read_ex4d(write_ex4d(tmp_path, tiny_models(SIZE)), SIZE.layers)
    beside, merged = tiny_dit(SIZE), tiny_dit(SIZE)
    attach(beside, [(adapter, 1.0)])
    fuse(merged, [(adapter, 1.0)])
    hot = ask(beside, conditions)
    torch.testing.assert_close(ask(merged, conditions), hot, rtol=1e-4, atol=1e-4)
    assert distance(hot, ask(dit, conditions)) > 0.05
