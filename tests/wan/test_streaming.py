# SPDX-License-Identifier: Apache-2.0
"""Blocks that come from main memory: the same numbers, few of them at once, nothing kept."""

import copy
import gc

import pytest
import torch
from test_fast_forward import LATENTS, TIMESTEP, conditions_of, tiny_dit

from ex4d.generation.wan import streaming
from ex4d.generation.wan.arrival import arrive
from ex4d.generation.wan.block import block_weights
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.fp8 import quantise
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.streaming import StreamedBlocks, _tensors

DEVICES = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
LAYERS = 7


def network(mode: str, dtype: torch.dtype = torch.float32):
    dit = tiny_dit(2, 12, layers=LAYERS).to(dtype)
    if MODES[mode].fp8:
        quantise(dit)
    return dit


def places(blocks: StreamedBlocks) -> set[int]:
    return {memory.data_ptr() for memory in blocks._ring._places}


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(("mode", "dtype"), [("lossless", torch.float32), ("lossless", torch.bfloat16), ("fp8", None)])
@pytest.mark.parametrize(("resident", "slots"), [(0, 1), (0, 2), (3, 2), (5, 2), (6, 2), (7, 2), (2, 4)])
def test_streamed_blocks_give_the_same_numbers_as_resident_ones(device, mode, dtype, resident, slots):
    if mode == "fp8" and device.type == "cuda":
        pytest.skip("8-bit products want channels in multiples of 16")
    dit = network(mode, dtype or torch.bfloat16)
    conditions = conditions_of(dit)
    latents, timestep = LATENTS.to(device), TIMESTEP.to(device)
    own = FastForward(copy.deepcopy(dit).to(device), conditions, MODES[mode], backend="math")
    stream = StreamedBlocks(dit, device, resident, crosses_stay=resident > 3, slots=slots)
    streamed = FastForward(dit, conditions, MODES[mode], blocks=stream, backend="math")
    for branch in ("positive", "negative", "positive"):  # the ring goes on from one forward to the next
        assert torch.equal(streamed(latents, timestep, branch), own(latents, timestep, branch))


def test_at_most_so_many_blocks_are_on_the_device():
    dit = network("lossless")
    stream = StreamedBlocks(dit, torch.device("cpu"), resident=2, slots=2)
    assert len(stream.streamed) == LAYERS - 2
    waiting = [{w.data_ptr() for w in _tensors(block_weights(dit.blocks[i]))} for i in stream.streamed]
    for index, block in enumerate(stream):
        held = places(stream)
        assert len(held) == 2  # all memory that the streaming blocks ever have
        assert (block.modulation.data_ptr() in held) == (index in stream.streamed)
    assert [{w.data_ptr() for w in _tensors(block_weights(dit.blocks[i]))} for i in stream.streamed] == waiting


def test_blocks_that_stay_lie_evenly_among_those_that_stream():
    stream = StreamedBlocks(tiny_dit(2, 12, layers=12), torch.device("cpu"), resident=8)
    assert stream.streamed == (1, 4, 7, 10)


def test_a_forward_that_was_broken_off_leaves_nothing_behind():
    dit = network("lossless")
    conditions = conditions_of(dit)
    true = FastForward(copy.deepcopy(dit), conditions, MODES["lossless"])(LATENTS, TIMESTEP, "positive")
    stream = StreamedBlocks(dit, torch.device("cpu"), resident=0)
    forward = FastForward(dit, conditions, MODES["lossless"], blocks=stream)
    for index, _ in enumerate(stream):
        if index == 3:
            break  # as an exception in the middle of a forward
    assert torch.equal(forward(LATENTS, TIMESTEP, "positive"), true)
    stream.release()
    assert not places(stream)
    assert torch.equal(forward(LATENTS, TIMESTEP, "positive"), true)


def test_a_parked_network_comes_back():
    dit = network("lossless")
    conditions = conditions_of(dit)
    stream = StreamedBlocks(dit, torch.device("cpu"), resident=4, crosses_stay=False)
    forward = FastForward(dit, conditions, MODES["lossless"], blocks=stream)
    before = forward(LATENTS, TIMESTEP, "positive")
    stream.park()
    assert not places(stream)
    stream.resume()
    assert torch.equal(forward(LATENTS, TIMESTEP, "positive"), before)


def test_the_network_keeps_its_weights_after_the_stream_is_closed():
    dit = network("fp8", torch.bfloat16)
    before = {name: value.clone() for name, value in dit.state_dict().items()}
    stream = StreamedBlocks(dit, torch.device("cpu"), resident=3)
    list(stream)
    stream.close()
    for name, value in dit.state_dict().items():
        assert torch.equal(value.view(torch.uint8), before[name].view(torch.uint8)), name


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize(("resident", "crosses_stay"), [(0, False), (3, True), (3, False), (LAYERS, False), (99, True)])
def test_while_a_network_is_loaded_what_will_wait_is_moved_and_nothing_else(monkeypatch, fp8, resident, crosses_stay):
    dit, whole = network("lossless", torch.bfloat16), network("fp8" if fp8 else "lossless", torch.bfloat16)
    moved = []
    monkeypatch.setattr(streaming, "_move", lambda weights, device: moved.extend(weights))
    for number in range(LAYERS):
        arrive(dit, number, fp8=fp8, resident=resident, crosses_stay=crosses_stay)
    early = [id(weight) for weight in moved]
    stream = StreamedBlocks(dit, torch.device("cpu"), resident, crosses_stay=crosses_stay)
    waiting = [id(weight) for parcel in stream._parcels for weight in _tensors(parcel.weights)]
    assert sorted(early) == sorted(waiting)
    assert {name: value.dtype for name, value in dit.state_dict().items()} == {
        name: value.dtype for name, value in whole.state_dict().items()
    }


@pytest.mark.parametrize("mode", ["lossless", "fp8"])
def test_nothing_else_holds_the_memory_of_the_weights(mode):
    """A view holds what it is a view of, even when its data lies elsewhere by now."""
    dit = network(mode, torch.bfloat16)
    assert all(weight._base is None for block in dit.blocks for weight in _tensors(block_weights(block)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["lossless", "fp8"])
def test_only_the_places_take_device_memory(mode):
    cuda = torch.device("cuda")
    gc.collect()
    empty = torch.cuda.memory_allocated()
    dit = tiny_dit(2, 120, layers=12).to(cuda)
    if mode == "fp8":
        quantise(dit)
    whole = torch.cuda.memory_allocated() - empty
    stream = StreamedBlocks(dit, cuda, resident=0, crosses_stay=False)
    before = torch.cuda.memory_allocated()
    assert before - empty < whole / 2
    largest = max(parcel.memory.nbytes for parcel in stream._ring.parcels)
    taken = [torch.cuda.memory_allocated() - before for _ in stream]
    assert max(taken) <= 2 * largest + 1024
    stream.release()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_blocks_that_stay_are_never_in_main_memory(monkeypatch):
    cuda = torch.device("cuda")
    dit = tiny_dit(2, 120, layers=12).to(cuda)
    for number in range(12):
        arrive(dit, number, resident=8, crosses_stay=False)
    places = [
        {weight.device.type for weight in _tensors(streaming._core(block_weights(block)))} for block in dit.blocks
    ]
    assert [place == {"cpu"} for place in places] == [number in (1, 4, 7, 10) for number in range(12)]
    on_device = torch.cuda.memory_allocated()
    stream = StreamedBlocks(dit, cuda, resident=8, crosses_stay=False)
    list(stream)
    stream.close()
    assert torch.cuda.memory_allocated() == on_device
    assert {weight.device.type for weight in dit.blocks[0].parameters()} == {"cpu", "cuda"}
