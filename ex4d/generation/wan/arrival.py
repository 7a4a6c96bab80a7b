# SPDX-License-Identifier: Apache-2.0
"""What happens to each block of the DiT as soon as its weights are on the GPU."""

from typing import Any

from ex4d.generation.wan.fp8 import quantise_block
from ex4d.generation.wan.memory_plan import BLOCKS
from ex4d.generation.wan.streaming import move_to_wait, streaming_blocks


def arrive(dit: Any, number: int, *, fp8: bool = False, resident: int = BLOCKS, crosses_stay: bool = True) -> None:
    """Bring a block to 8 bits, and to main memory what will wait there: an `EachBlock` of loading.py.

    Args:
        dit: diffsynth's WanModel.
        number: of the block.
        fp8: whether it computes in 8 bits; the first and the last block keep 16, see fp8.py.
        resident: how many blocks stay on the GPU.
        crosses_stay: whether the linears of the cross-attention's keys do.
    """
    block, count = dit.blocks[number], len(dit.blocks)
    if fp8 and 0 < number < count - 1:
        quantise_block(block)
    streams = number in streaming_blocks(count, resident)
    if streams or not crosses_stay:
        move_to_wait(block, streams=streams, crosses_stay=crosses_stay)
