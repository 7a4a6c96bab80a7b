# SPDX-License-Identifier: Apache-2.0
"""The fast forward against diffsynth's own."""

import copy
from types import SimpleNamespace

import pytest
import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.pipelines.wan_video import model_fn_wan_video

from ex4d.generation.wan.attention import attention, best_backend
from ex4d.generation.wan.fast_forward import FastForward, OneProcess, ResidentBlocks
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.rope import rope_table, rotated

CPU = torch.device("cpu")


def tiny_dit(heads: int, head_dim: int, layers: int = 2) -> WanModel:
    torch.manual_seed(0)
    dit = WanModel(
        dim=heads * head_dim,
        in_dim=36,
        ffn_dim=48,
        out_dim=16,
        text_dim=8,
        freq_dim=16,
        eps=1e-6,
        patch_size=(1, 2, 2),
        num_heads=heads,
        num_layers=layers,
        has_image_input=True,
    )
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3)
    return dit.eval().requires_grad_(False)


def conditions_of(dit: WanModel, frames: int = 2, height: int = 6, width: int = 4) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return SimpleNamespace(
        ray=normal(1, dit.dim, frames, height // 2, width // 2),
        y=normal(1, 20, frames, height, width),
        clip=normal(1, 257, 1280),
        context={"positive": normal(1, 512, 8), "negative": normal(1, 512, 8)},
    )


def diffsynth_forward(dit, conditions, latents, timestep, branch):
    hook = dit.patch_embedding.register_forward_hook(lambda module, inputs, output: output + conditions.ray)
    try:
        return model_fn_wan_video(
            dit,
            latents=latents,
            timestep=timestep,
            context=conditions.context[branch],
            clip_feature=conditions.clip,
            y=conditions.y,
        )
    finally:
        hook.remove()


LATENTS = torch.randn((1, 16, 2, 6, 4), generator=torch.Generator().manual_seed(2))
TIMESTEP = torch.tensor([982.9059])


@pytest.mark.parametrize(("heads", "head_dim"), [(2, 12), (1, 128)])
@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_in_single_precision_it_is_diffsynths_forward(heads, head_dim, branch):
    dit = tiny_dit(heads, head_dim)
    conditions = conditions_of(dit)
    ours = FastForward(dit, conditions, MODES["lossless"])(LATENTS, TIMESTEP, branch)
    theirs = diffsynth_forward(dit, conditions, LATENTS, TIMESTEP, branch)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert theirs.std() > 0.1  # the comparison is about something


def test_the_ray_and_the_prompt_matter():
    dit = tiny_dit(2, 12)
    conditions = conditions_of(dit)
    forward = FastForward(dit, conditions, MODES["lossless"])
    first = forward(LATENTS, TIMESTEP, "positive")
    assert not torch.allclose(first, forward(LATENTS, TIMESTEP, "negative"), atol=1e-4)
    conditions.ray = -conditions.ray
    assert not torch.allclose(
        first, FastForward(dit, conditions, MODES["lossless"])(LATENTS, TIMESTEP, "positive"), atol=1e-3
    )


def test_the_timestep_stays_exact_with_bf16_weights():
    """982.9059 in bf16 is 984, which is another step's time."""
    exact = tiny_dit(2, 12).to(torch.bfloat16)
    conditions = conditions_of(exact)
    coarse = FastForward(exact, conditions, MODES["lossless"])
    fine = FastForward(copy.deepcopy(exact).float(), conditions, MODES["lossless"])
    ours = coarse(LATENTS, TIMESTEP, "positive")
    true = fine(LATENTS, TIMESTEP, "positive")
    rounded = fine(LATENTS, TIMESTEP.bfloat16().float(), "positive")
    assert ours.dtype == torch.float32
    assert (ours - true).norm() < 0.3 * (rounded - true).norm()


def test_blocks_may_come_from_elsewhere():
    dit = tiny_dit(2, 12)
    conditions = conditions_of(dit)
    asked = []

    class Lent(ResidentBlocks):
        def __iter__(self):
            for index in range(len(self)):
                asked.append(index)
                yield self[index]

    forward = FastForward(dit, conditions, MODES["lossless"], blocks=Lent(dit))
    ours = forward(LATENTS, TIMESTEP, "positive")
    assert asked == [0, 1]  # only the conditions' keys are needed to bind
    torch.testing.assert_close(ours, FastForward(dit, conditions, MODES["lossless"])(LATENTS, TIMESTEP, "positive"))


def test_self_attention_and_tokens_may_be_shared():
    """A sharding that reverses the tokens and turns them back changes nothing: all else is per token."""
    dit = tiny_dit(2, 12)
    conditions = conditions_of(dit)

    class Reversed(OneProcess):
        def share(self, tokens):
            return tokens.flip(1)

        whole = share

    ours = FastForward(dit, conditions, MODES["lossless"], sharding=Reversed())(LATENTS, TIMESTEP, "positive")
    plain = FastForward(dit, conditions, MODES["lossless"])(LATENTS, TIMESTEP, "positive")
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_rotations_are_the_networks_own():
    dit = tiny_dit(2, 128)
    cosine, sine = rope_table(dit.freqs, (2, 3, 2), CPU)
    x = torch.randn(1, 12, 2, 128)
    true = torch.view_as_real(
        torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) * torch.complex(cosine.double(), sine.double())
    ).flatten(-2)
    torch.testing.assert_close(rotated(x, cosine, sine), true.float(), atol=1e-6, rtol=1e-6)


def test_attention_is_softmax_attention():
    q, k, v = torch.randn(3, 1, 7, 2, 12).unbind(0)
    weights = torch.softmax(torch.einsum("bnhd,bmhd->bhnm", q, k) / 12**0.5, dim=-1)
    torch.testing.assert_close(attention(best_backend(CPU))(q, k, v), torch.einsum("bhnm,bmhd->bnhd", weights, v))
