# SPDX-License-Identifier: Apache-2.0
"""Attention with a backend that somebody chose, instead of the one that happens to be importable."""

import importlib.util
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ex4d.errors import MachineError

Backend = Literal["cudnn", "flash3", "flash", "math"]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # q, k, v [1, tokens, heads, head_dim]

_TORCH = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "math": SDPBackend.MATH,
}


def best_backend(device: torch.device) -> Backend:
    """The fastest backend that comes with torch: cuDNN from Hopper on (1.9x flash there), flash on older GPUs."""
    if device.type != "cuda":
        return "math"
    return "cudnn" if torch.cuda.get_device_capability(device) >= (9, 0) else "flash"


def attention(backend: Backend) -> Attention:
    """Softmax attention without a mask.

    Args:
        backend: cudnn and flash need CUDA and 16 bit; flash3 also the package flash_attn_interface; math runs anywhere,
            with memory in proportion to the square of the tokens.

    Returns:
        A function of q [1, n, heads, head_dim] and k, v [1, m, heads, head_dim]; it gives [1, n, heads, head_dim].

    Raises:
        MachineError: flash3 was asked for and its package is missing.
    """
    if backend == "flash3":
        return _flash3()
    kernel = _TORCH[backend]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(kernel):
            out = torch.nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            )
        return out.transpose(1, 2)

    return attend


def _flash3() -> Attention:
    if importlib.util.find_spec("flash_attn_interface") is None:
        raise MachineError(
            "Attention 'flash3' needs the package flash_attn_interface (FlashAttention 3), which is not installed. "
            "Install it or choose 'cudnn'."
        )
    from flash_attn_interface import flash_attn_func  # type: ignore[import-not-found, unused-ignore]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = flash_attn_func(q, k, v)
        return out[0] if isinstance(out, tuple) else out

    return attend
