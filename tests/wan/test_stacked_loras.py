# SPDX-License-Identifier: Apache-2.0
"""LoRAs stacked on EX-4D's: added to the weights by the fast qualities, beside them in the reference, one picture."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from published import publish
from safetensors.torch import save_file
from tiny_wan import Size, moving_plate, random_lora, tiny_dit

from ex4d.errors import InputError
from ex4d.generation.wan.arrival import arrive
from ex4d.generation.wan.files import wan_files
from ex4d.generation.wan.fp8 import RowScaledLinear, quantise
from ex4d.generation.wan.loading import load_models
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.pipeline import WanPipeline
from ex4d.generation.wan.reference_forward import ReferenceForward
from ex4d.generation.wan.settings import PaintSettings

CPU = torch.device("cpu")
SIZE = Size(dim=96, heads=4, ffn_dim=128, layers=4)
FAST = [mode for mode in MODES.values() if mode.precision == "fast"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Wan2.1 and EX-4D as published, an artist's LoRA, and a step-distilled one with all kinds of changes."""
    root = tmp_path_factory.mktemp("published")
    wan, ex4d = publish(root, SIZE)
    dit = tiny_dit(SIZE)
    look = random_lora(dit, rank=8, seed=9)
    save_file(
        {f"diffusion_model.{name}": tensor.contiguous() for name, tensor in look.items()}, root / "look.safetensors"
    )
    generator = torch.Generator().manual_seed(2)
    changes = {"blocks.2.diff_m": torch.randn(1, 6, SIZE.dim, generator=generator) * 0.1}
    for block in range(SIZE.layers):
        for layer in ("self_attn.v", "cross_attn.k_img", "ffn.0"):
            linear = dit.get_submodule(f"blocks.{block}.{layer}")
            changes[f"blocks.{block}.{layer}.diff_b"] = torch.randn(linear.bias.shape, generator=generator) * 0.2
        norm = f"blocks.{block}.self_attn.norm_q.diff"
        changes[norm] = torch.randn(SIZE.dim, generator=generator) * 0.2
    changes["head.head.diff"] = torch.randn(dit.head.head.weight.shape, generator=generator) * 0.03
    save_file(changes, root / "distilled.safetensors")
    return wan_files(wan, ex4d, [(root / "look.safetensors", 0.6), (root / "distilled.safetensors", 1.0)])


def loaded(files, mode):
    return load_models(files, CPU, torch.float32, mode.precision, each_block=partial(arrive, fp8=mode.fp8))


def latents(models, mode, bind=None):
    """The clip that the last of a few steps expects."""
    shown = {}
    settings = PaintSettings(replace(mode, steps=6), 6, 3, "a garden", "a train", 5)
    WanPipeline(models, **({"bind": bind} if bind else {})).paint(
        *moving_plate(), settings, on_preview=shown.__setitem__
    )
    return shown[max(shown)]


def apart(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture(scope="module")
def hot(files):
    return loaded(files, MODES["reference"])


@pytest.mark.parametrize("mode", FAST, ids=lambda mode: mode.name)
def test_every_fast_quality_paints_with_all_of_them_as_the_reference_does(files, hot, mode):
    beside = latents(hot, mode, lambda models, told, _: ReferenceForward(models.dit, told))
    models = loaded(files, mode)
    assert any(isinstance(module, RowScaledLinear) for module in models.dit.modules()) == mode.fp8
    difference = apart(latents(models, mode), beside)
    assert difference < (0.05 if mode.fp8 else 1e-4)
    for left_out in range(len(files.loras)):
        fewer = replace(files, loras=files.loras[:left_out] + files.loras[left_out + 1 :])
        assert apart(latents(loaded(fewer, mode), mode), beside) > 3 * difference, files.loras[left_out]


def test_ex4d_s_own_adapter_is_not_stacked_on_itself(files):
    with pytest.raises(InputError, match=r"'ex4d\.ckpt' is an adapter of EX-4D's kind, which is loaded anyway"):
        loaded(replace(files, loras=((files.adapter, 1.0),)), MODES["lossless"])


def test_what_lies_beside_the_weights_is_never_lost_in_a_fast_quality(hot, files):
    with pytest.raises(InputError, match="Only quality 'reference' computes with a LoRA beside the weights"):
        latents(hot, MODES["lossless"])
    with pytest.raises(InputError, match="precision 'fast'"):
        quantise(loaded(files, MODES["reference"]).dit)
