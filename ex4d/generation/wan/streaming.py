# SPDX-License-Identifier: Apache-2.0
"""Runs a network whose blocks do not fit into the GPU's memory: they arrive from main memory while others compute.

`StreamedBlocks` is a `BlockSource` of `fast_forward.FastForward`:

    blocks = StreamedBlocks(dit, device, resident=plan.resident_blocks, crosses_stay=plan.crosses == "gpu")
    velocity = FastForward(dit, conditions, mode, blocks=blocks)
    ...
    blocks.release()  # between jobs and after a failed one: the places of the blocks that stream

Some blocks stay on the device, spread evenly among those that stream, so that each transfer can hide behind the
computing of several blocks; the ring goes on from the last block to the first of the next forward. The linears of the
cross-attention's keys, a quarter of all weights, are needed once per job and may stay in main memory altogether.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ex4d.generation.wan.block import BlockWeights, Cross, block_weights
from ex4d.generation.wan.memory_plan import STREAM_SLOTS

_ALIGNMENT = 256  # bytes; what the allocator gives, and more than compiled kernels assume of their inputs
_CPU = torch.device("cpu")


class StreamedBlocks:
    """Weights of all blocks, in order, as often as asked; only some of them on the device at any time.

    The network's own tensors become views into main memory, or are moved to the device when they stay there.
    """

    def __init__(
        self, dit: Any, device: torch.device, resident: int, *, crosses_stay: bool = True, slots: int = STREAM_SLOTS
    ) -> None:
        """Move the blocks to where they wait, and all else of the network to the device.

        Args:
            dit: diffsynth's WanModel, LoRAs fused, in 8 bits or not; anywhere.
            device: where it computes. On a CPU the copies are made in turn.
            resident: how many blocks stay there.
            crosses_stay: whether the linears of the cross-attention's keys do.
            slots: how many of the other blocks are there at once: one computes while the next ones arrive.
        """
        self._device = device
        self._blocks = [block_weights(block) for block in dit.blocks]
        self.streamed = streaming_blocks(len(self._blocks), resident)
        parcels = [_Parcel(_core(self._blocks[index]), device) for index in self.streamed]
        self._ring = _Ring(device, parcels, slots)
        crosses = [] if crosses_stay else [_Parcel(block.cross, device) for block in self._blocks]
        self._parcels = [*parcels, *crosses]
        waiting = {id(weight) for parcel in self._parcels for weight in _tensors(parcel.weights)}
        self._staying = [weight for weight in [*dit.parameters(), *dit.buffers()] if id(weight) not in waiting]
        self.resume()

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[BlockWeights]:
        """Each block in turn, on the device until the next one is asked for; all but its `cross`."""
        self._ring.start()
        turns = {index: turn for turn, index in enumerate(self.streamed)}
        for index, block in enumerate(self._blocks):
            turn = turns.get(index)
            core = _rebuilt(_core(block), _data(block)) if turn is None else self._ring.arrive(turn)
            yield BlockWeights._make((*core, block.cross))
            if turn is not None:
                self._ring.leave(turn)
        self._ring.finish()

    def crosses(self) -> Iterator[Cross]:
        """Each block's linears of the cross-attention's keys, on the device until the next one is asked for."""
        for block in self._blocks:
            yield _rebuilt(block.cross, (weight.to(self._device, non_blocking=True) for weight in _data(block.cross)))

    def release(self) -> None:
        """Give back the device memory of the blocks that stream; the next forward takes it again."""
        self._ring.release()

    def park(self) -> None:
        """Move the whole network to main memory, until `resume`."""
        self.release()
        _move(self._staying, _CPU)

    def resume(self) -> None:
        """Move to the device what stays there."""
        _move(self._staying, self._device)

    def close(self) -> None:
        """Give back the places on the device, and let main memory be moved again. Weights stay where they wait."""
        self.release()
        for parcel in self._parcels:
            parcel.unpin()


def streaming_blocks(count: int, resident: int) -> tuple[int, ...]:
    """Which of so many blocks stream when some stay on the device: those that stay lie evenly among them."""
    streamed = max(count - resident, 0)
    return tuple(int((k + 0.5) * count / streamed) for k in range(streamed))


def move_to_wait(block: Any, *, streams: bool, crosses_stay: bool) -> None:
    """Move to main memory what `StreamedBlocks` will have wait there, while a network is loaded block by block.

    Args:
        block: diffsynth's DiTBlock.
        streams: whether it is one of `streaming_blocks`.
        crosses_stay: see `StreamedBlocks`.
    """
    weights = block_weights(block)
    waiting = (*(_core(weights) if streams else ()), *(() if crosses_stay else weights.cross))
    _move(list(_tensors(waiting)), _CPU)


class _Parcel:
    """Weights side by side in one piece of pinned main memory, so that they travel in one copy."""

    def __init__(self, weights: Any, device: torch.device) -> None:
        self.weights = weights
        self._offsets = []
        size = 0
        for weight in _tensors(weights):
            self._offsets.append(size)
            size += -(-weight.nbytes // _ALIGNMENT) * _ALIGNMENT
        self.memory = torch.empty(size, dtype=torch.uint8)
        pinned = device.type == "cuda" and _pin(self.memory)
        self.unpin = weakref.finalize(self, _unpin if pinned else _nothing, self.memory)
        self.unpin.atexit = False
        for weight, view in zip(_tensors(weights), self._views(self.memory), strict=True):
            view.copy_(weight.data)
            weight.data = view

    def lying_in(self, memory: Tensor) -> Any:
        """The weights in a piece of memory into which the parcel was copied."""
        return _rebuilt(self.weights, self._views(memory))

    def _views(self, memory: Tensor) -> Iterator[Tensor]:
        for offset, weight in zip(self._offsets, _tensors(self.weights), strict=True):
            yield memory[offset : offset + weight.nbytes].view(weight.dtype).view(weight.shape)


class _Ring:
    """A few places on the device, through which the parcels go round, each one's turn after the other."""

    def __init__(self, device: torch.device, parcels: list[_Parcel], slots: int) -> None:
        self.parcels = parcels
        self._device = device
        self._slots = min(slots, len(parcels))
        self._places: list[Tensor] = []
        self._lent: dict[tuple[int, int], Any] = {}  # (place, turn) -> the weights there
        self._arrived: dict[int, tuple[int, Any]] = {}  # turn -> its place, and the event of its arrival
        self._working = False
        self._copies: Any = torch.cuda.Stream(device) if device.type == "cuda" and parcels else None

    def start(self) -> None:
        """Let the first parcels travel, unless they have since the last forward."""
        if self._working:
            self.release()  # the last forward was broken off
        self._working = True
        if not self._places and self.parcels:
            largest = max(parcel.memory.nbytes for parcel in self.parcels)
            for place in range(self._slots):
                self._places.append(torch.empty(largest, dtype=torch.uint8, device=self._device))
                self._send(place, place)

    def arrive(self, turn: int) -> Any:
        """The weights of this turn, once they are there."""
        place, event = self._arrived[turn]
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)
        if (place, turn) not in self._lent:
            self._lent[place, turn] = self.parcels[turn].lying_in(self._places[place])
        return self._lent[place, turn]

    def leave(self, turn: int) -> None:
        """The weights of this turn were used: their place is for the next parcel that has none."""
        place, _ = self._arrived.pop(turn)
        self._send((turn + self._slots) % len(self.parcels), place)

    def finish(self) -> None:
        """A forward is complete."""
        self._working = False

    def release(self) -> None:
        """Give the device memory back."""
        if self._copies is not None:
            self._copies.synchronize()
            torch.cuda.current_stream(self._device).synchronize()
        self._arrived.clear()
        self._lent.clear()
        self._places.clear()
        self._working = False

    def _send(self, turn: int, place: int) -> None:
        memory, target = self.parcels[turn].memory, self._places[place]
        if self._copies is None:
            target[: memory.nbytes].copy_(memory)
            self._arrived[turn] = place, None
            return
        self._copies.wait_stream(torch.cuda.current_stream(self._device))  # until the block before has computed there
        with torch.cuda.stream(self._copies):
            target[: memory.nbytes].copy_(memory, non_blocking=True)
            self._arrived[turn] = place, self._copies.record_event()


def _core(block: BlockWeights) -> tuple[Any, ...]:
    """What a block needs in every step."""
    return block[: BlockWeights._fields.index("cross")]


def _tensors(weights: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples."""
    if isinstance(weights, Tensor):
        yield weights
    elif isinstance(weights, tuple):
        for part in weights:
            yield from _tensors(part)


def _data(weights: Any) -> Iterator[Tensor]:
    """The tensors as plain ones: compiled code tells parameters from them, and would be compiled twice."""
    return (weight.detach() for weight in _tensors(weights))


def _rebuilt(weights: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nested tuples with other tensors."""
    if isinstance(weights, Tensor):
        return next(tensors)
    if not isinstance(weights, tuple):
        return weights
    parts = [_rebuilt(part, tensors) for part in weights]
    return type(weights)(*parts) if hasattr(weights, "_fields") else tuple(parts)


def _move(weights: list[Tensor], device: torch.device) -> None:
    for weight in weights:
        weight.data = weight.data.to(device)


def _pin(memory: Tensor) -> bool:
    """Lock memory in place so that it can travel while the GPU computes; False where the system refuses.

    Unlike torch's pinned allocations, which round up to a power of two, this takes no more than there is.
    """
    return int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0


def _unpin(memory: Tensor) -> None:
    torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())


def _nothing(memory: Tensor) -> None:
    """It was never pinned."""
