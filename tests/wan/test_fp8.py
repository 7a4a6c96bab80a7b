# SPDX-License-Identifier: Apache-2.0
"""Linears with 8-bit rows."""

from types import SimpleNamespace

import pytest
import torch
from tiny_wan import Size, tiny_dit

from ex4d.errors import MachineError
from ex4d.generation.wan import fp8
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.fp8 import RowScaledLinear, linear_of, prepared, project, quantise, quantised
from ex4d.generation.wan.modes import MODES


def conditions_for(dim: int, text_dim: int) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(1)
    shapes = {"ray": (1, dim, 2, 3, 2), "y": (1, 20, 2, 6, 4), "clip": (1, 257, 1280), "words": (1, 512, text_dim)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return SimpleNamespace(context={"positive": made.pop("words")}, **made)


def relative(ours: torch.Tensor, true: torch.Tensor) -> float:
    return float((ours - true).norm() / true.norm())


@pytest.mark.parametrize("std", [0.02, 0.01, 0.005])
def test_a_layers_error_does_not_depend_on_how_small_its_weights_are(std):
    """4 bits of mantissa and implied leading one, in weights and inputs: 2.6 % each way together 3.7 %."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 192).requires_grad_(False)
    torch.nn.init.normal_(layer.weight, std=std)
    torch.nn.init.zeros_(layer.bias)
    x = torch.randn(1, 64, 256) * torch.logspace(-3, 3, 64)[None, :, None]
    rows = linear_of(RowScaledLinear(layer))
    ours = project(prepared(x, rows), rows)
    assert 0.02 < relative(ours, layer(x)) < 0.045
    assert relative(RowScaledLinear(layer)(x), layer(x)) < 0.03  # the weights alone


def test_each_row_uses_the_whole_range_and_zeros_stay_zeros():
    x = torch.tensor([[[1e-4, -2e-4], [3e3, 0.0], [0.0, 0.0]]])
    rows = quantised(x)
    assert rows.values.float().abs().amax(-1).tolist() == [[448.0, 448.0, 0.0]]
    torch.testing.assert_close(rows.values.float() * rows.scale, x, rtol=0.07, atol=0)


def test_the_first_and_the_last_block_and_all_outside_the_blocks_stay():
    dit = tiny_dit(Size(layers=4), torch.bfloat16)
    linears = sum(type(module) is torch.nn.Linear for module in dit.blocks[0].modules())
    outside = sum(type(module) is torch.nn.Linear for module in dit.modules()) - 4 * linears
    quantise(dit)
    quantise(dit)
    kinds = [{type(module) for module in block.modules()} & {torch.nn.Linear, RowScaledLinear} for block in dit.blocks]
    assert kinds == [{torch.nn.Linear}, {RowScaledLinear}, {RowScaledLinear}, {torch.nn.Linear}]
    assert sum(type(module) is torch.nn.Linear for module in dit.modules()) == outside + 2 * linears
    assert dit.blocks[1].self_attn.q.weight.dtype == torch.float8_e4m3fn


def test_the_network_in_8_bits_answers_nearly_the_same():
    size = Size(dim=96, heads=4, ffn_dim=128, layers=4)
    dit, conditions = tiny_dit(size), conditions_for(96, size.text_dim)
    latents = torch.randn(1, 16, 2, 6, 4, generator=torch.Generator().manual_seed(2))
    full = FastForward(dit, conditions, MODES["lossless"])(latents, torch.tensor([800.0]), "positive")
    with pytest.raises(ValueError, match=r"call fp8\.quantise first"):
        FastForward(dit, conditions, MODES["fp8"])
    quantise(dit)
    eight = FastForward(dit, conditions, MODES["fp8"])(latents, torch.tensor([800.0]), "positive")
    assert 1e-4 < relative(eight, full) < 0.1
    with pytest.raises(ValueError, match="load them again"):
        FastForward(dit, conditions, MODES["lossless"])


def test_a_gpu_that_cannot_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA RTX A6000")
    with pytest.raises(MachineError, match=r"A6000 has 8\.6.*'lossless'"):
        fp8.require_fp8(torch.device("cuda"))
    fp8.require_fp8(torch.device("cpu"))
