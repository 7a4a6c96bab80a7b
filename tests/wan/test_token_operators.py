# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the blocks and of the autoencoder against torch's operators, on a GPU."""

import pytest
import torch
from tiny_wan import tiny_vae

from ex4d.generation.wan import fast_vae, token_operators
from ex4d.generation.wan.fast_vae import FastVae
from ex4d.generation.wan.fp8 import Rows, RowScaledLinear, linear_of
from ex4d.generation.wan.rope import rope_table

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
CUDA = torch.device("cuda")
DIM, HEAD_DIM = 5120, 128


def both(monkeypatch, module, compute):
    """By the kernels and by torch's operators."""
    fused = compute()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_fused", lambda x: False)
        return fused, compute()


def plain(prepared):
    return prepared.values.float() * prepared.scale if isinstance(prepared, Rows) else prepared.float()


def assert_near(fused, twin, tolerance):
    fused, twin = plain(fused), plain(twin)
    assert float((fused - twin).norm() / twin.norm()) < tolerance


@pytest.mark.parametrize("eight_bits", [False, True])
def test_token_kernels_equal_their_twins(monkeypatch, eight_bits):
    torch.manual_seed(0)
    x = torch.randn(1, 77, DIM, device=CUDA) * 3 + 5
    branch = torch.randn(1, 77, DIM, device=CUDA).bfloat16()
    scale, shift, gate = torch.randn(3, DIM, device=CUDA)
    layer = torch.nn.Linear(DIM, 32, device=CUDA).bfloat16().requires_grad_(False)
    linear = linear_of(RowScaledLinear(layer) if eight_bits else layer)
    tolerance = 2e-2 if eight_bits else 1e-3  # numbers between two of e4m3 may fall to either side
    for added in ((None, None), (branch, None), (branch, gate)):
        (x1, out1), (x2, out2) = both(
            monkeypatch,
            token_operators,
            lambda added=added: token_operators.added_norm(x.clone(), *added, scale, shift, linear),
        )
        assert_near(x1, x2, 1e-6)
        assert_near(out1, out2, tolerance)
    assert_near(*both(monkeypatch, token_operators, lambda: token_operators.gelu(branch, linear)), tolerance)
    heads = branch.unflatten(-1, (-1, HEAD_DIM))
    for other in (heads, None):
        pair = both(monkeypatch, token_operators, lambda other=other: token_operators.total(heads, other, linear))
        assert_near(*pair, tolerance)


def test_rotated_norms_equal_their_twins(monkeypatch):
    x, weight = torch.randn(1, 24, DIM, device=CUDA).bfloat16(), torch.randn(DIM, device=CUDA).bfloat16()
    frequencies = tuple(
        torch.polar(torch.ones(8, pairs), torch.rand(8, pairs) * 6).to(torch.complex128) for pairs in (22, 21, 21)
    )
    for table in ((), rope_table(frequencies, (2, 3, 4), CUDA)):
        pair = both(
            monkeypatch,
            token_operators,
            lambda table=table: token_operators.normed_heads(x.clone(), weight, HEAD_DIM, *table),
        )
        assert_near(*pair, 1e-3)


def test_frame_kernels_equal_their_twins(monkeypatch):
    vae = FastVae(tiny_vae().to(CUDA))
    clip = torch.rand(1, 3, 9, 32, 16, device=CUDA) * 2 - 1
    fused, twin = both(monkeypatch, fast_vae, lambda: vae.encode(clip))
    assert_near(fused, twin, 1e-3)
    fused, twin = both(monkeypatch, fast_vae, lambda: torch.from_numpy(vae.decode(fused)))
    assert (fused.int() - twin.int()).abs().max() <= 1
