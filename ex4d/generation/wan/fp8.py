# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose weights are 8-bit floats with one scale per row, and whose inputs are quantised as they come.

`quantise` replaces the linears of a WanModel's blocks, after LoRAs were fused into them. The first and the last block
stay as they are: the first sees the image condition and the ray before anything has mixed them, the last writes what
the head reads, and the two cost little time. The embeddings, the head and the time network stay too: they are small and
every token depends on them.
"""

from typing import NamedTuple, TypeAlias

import torch

from ex4d.errors import InputError, MachineError

E4M3_LARGEST = 448.0  # the largest number of torch.float8_e4m3fn
SMALLEST_SCALE = 1e-12  # of a row of zeros
FP8_CAPABILITY = (8, 9)  # Ada


class Linear(NamedTuple):
    """A linear layer as plain tensors, 16-bit or 8-bit."""

    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor  # [out]
    scale: torch.Tensor | None = None  # by which each row of an 8-bit weight is multiplied. fp32 [out, 1]


class Rows(NamedTuple):
    """Tokens in 8 bits."""

    values: torch.Tensor  # e4m3 [1, tokens, channels]
    scale: torch.Tensor  # fp32 [1, tokens, 1]


Prepared: TypeAlias = torch.Tensor | Rows  # what a linear takes: see `prepared`


class RowScaledLinear(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """`torch.nn.Linear` with an 8-bit weight. Called as a module it computes with the weight it stands for."""

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        rows = quantised(linear.weight.detach())  # no views of them: those would keep them where they are
        self.register_buffer("weight", rows.values)
        self.register_buffer("scale", rows.scale)
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, (self.weight.float() * self.scale).to(x.dtype), self.bias.to(x.dtype))


def require_fp8(device: torch.device) -> None:
    """
    Raises:
        MachineError: the GPU cannot multiply 8-bit floats.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        major, minor = torch.cuda.get_device_capability(device)
        raise MachineError(
            f"The 8-bit quality modes need a GPU of compute capability 8.9 or newer (Ada, Hopper, Blackwell); "
            f"{torch.cuda.get_device_name(device)} has {major}.{minor}. Choose the quality 'lossless'."
        )


def quantise(dit: torch.nn.Module) -> None:
    """Replace the linears of all blocks but the first and the last by `RowScaledLinear`, in place and one at a time.

    Done already, nothing happens. The way back is to load the weights again.

    Args:
        dit: a WanModel with its LoRAs fused.

    Raises:
        MachineError: the GPU that holds it cannot multiply 8-bit floats.
    """
    require_fp8(next(dit.parameters()).device)
    for block in list(dit.blocks)[1:-1]:  # type: ignore[arg-type, unused-ignore]
        quantise_block(block)


def quantise_block(block: torch.nn.Module) -> None:
    """Replace the linears of one block: for weights that arrive block by block. Which ones stay, `quantise` says.

    Raises:
        InputError: a LoRA lies beside one of them.
    """
    for parent in list(block.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, RowScaledLinear(_plain(child)))


def is_quantised(dit: torch.nn.Module) -> bool:
    return any(isinstance(module, RowScaledLinear) for module in dit.modules())


def linear_of(module: torch.nn.Module) -> Linear:
    """The tensors of a `torch.nn.Linear` or `RowScaledLinear`, not copied.

    Raises:
        InputError: a LoRA lies beside them, which they would not tell of.
    """
    if isinstance(module, RowScaledLinear):
        return Linear(module.weight, module.bias, module.scale)
    plain = _plain(module)
    return Linear(plain.weight, plain.bias)


def _plain(module: torch.nn.Module) -> torch.nn.Linear:
    """A linear that computes with its weight and its bias and nothing else."""
    if type(module) is not torch.nn.Linear:
        raise InputError(
            f"Only quality 'reference' computes with a LoRA beside the weights ({type(module).__name__}). Load the "
            "weights with precision 'fast', which adds the LoRA to them."
        )
    return module


def quantised(x: torch.Tensor) -> Rows:
    """Scale each row so that its largest number becomes the largest of e4m3, and round.

    Args:
        x: any floating dtype [..., rows, channels].
    """
    x = x.float()
    scale = (x.abs().amax(dim=-1, keepdim=True) / E4M3_LARGEST).clamp_min(SMALLEST_SCALE)
    return Rows((x / scale).clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn), scale)


def prepared(x: torch.Tensor, linear: Linear) -> Prepared:
    """What `linear` takes: x in its dtype, or in 8 bits. Linears that share an input share this.

    Args:
        x: [1, tokens, in].
    """
    return x.to(linear.weight.dtype) if linear.scale is None else quantised(x)


def project(x: Prepared, linear: Linear) -> torch.Tensor:
    """x times the weight, plus the bias.

    Args:
        x: of `prepared`.

    Returns:
        In the bias's dtype. [1, tokens, out]
    """
    if linear.scale is None or not isinstance(x, Rows):
        assert isinstance(x, torch.Tensor)
        return torch.nn.functional.linear(x, linear.weight, linear.bias)
    if x.values.device.type != "cuda":
        weight = linear.weight.float() * linear.scale
        product = torch.nn.functional.linear(x.values.float() * x.scale, weight, linear.bias.float())
        return product.to(linear.bias.dtype)
    product = torch._scaled_mm(
        x.values[0],
        linear.weight.t(),
        scale_a=x.scale[0],
        scale_b=linear.scale.t(),
        bias=linear.bias,
        out_dtype=linear.bias.dtype,
        use_fast_accum=True,
    )
    return product[None]
