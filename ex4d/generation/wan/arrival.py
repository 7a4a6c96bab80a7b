# SPDX-License-Identifier: Apache-2.0
"""What happens to each block of the DiT as soon as its weights are on the GPU."""

import torch
from torch import nn

from ex4d.generation.wan.fp8 import quantise_block


class Arrival:
    """Brings it to 8 bits and sends it on to where it waits: an `EachBlock` of loading.py."""

    def __init__(self, fp8: bool, home: torch.device | None) -> None:
        self._fp8, self._home = fp8, home
        self._last: nn.Module | None = None

    def __call__(self, number: int, block: nn.Module) -> None:
        # One block late, for the last one keeps its 16 bits, as the first one does.
        if self._fp8 and self._last is not None:
            quantise_block(self._last)
            self._send(self._last)
        self._last = block if number > 0 else None
        if self._last is None or not self._fp8:
            self._send(block)

    def _send(self, block: nn.Module) -> None:
        if self._home is not None:
            block.to(self._home)
