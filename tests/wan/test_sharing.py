# SPDX-License-Identifier: Apache-2.0
"""Which GPUs share a take, on machines that are made up."""

import pytest
import torch

from ex4d.generation.wan import sharing
from ex4d.generation.wan.machine import GIB, Machine
from ex4d.generation.wan.memory_plan import Window, plan_memory
from ex4d.generation.wan.modes import MODES

WINDOW = Window(512, 512, 49)
FREE, BUSY = (Machine("NVIDIA H200", 140 * GIB, free * GIB, 200 * GIB) for free in (138, 20))
OTHER = Machine("NVIDIA A100", 80 * GIB, 79 * GIB, 200 * GIB)


@pytest.fixture
def gpus(monkeypatch):
    """Puts GPUs into this machine."""

    def put(*machines: Machine) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(machines))
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
        monkeypatch.setattr(sharing, "read_machine", machines.__getitem__)

    return put


@pytest.mark.parametrize(
    ("machines", "taken"),
    [
        ([FREE], []),
        ([FREE, FREE], [1]),
        ([FREE, BUSY, FREE], [2]),
        ([FREE, OTHER, FREE], [2]),
        ([FREE, FREE, FREE], [1]),  # pairs
        ([FREE] * 4, [1, 2, 3]),
    ],
)
def test_equal_gpus_with_room_are_taken(gpus, machines, taken):
    gpus(*machines)
    plan = plan_memory(FREE, WINDOW, MODES["lossless"], prompts_known=True)
    assert sharing.free_gpus(plan, MODES["lossless"], machines[0]) == [torch.device("cuda", number) for number in taken]


def test_none_are_taken_where_one_computes_alone(gpus, monkeypatch):
    gpus(FREE, FREE)
    lossless, reference = MODES["lossless"], MODES["reference"]
    assert sharing.free_gpus(plan_memory(FREE, WINDOW, reference, prompts_known=True), reference, FREE) == []
    small = Machine("NVIDIA GeForce RTX 4080", 16 * GIB, 15 * GIB, 60 * GIB)
    assert sharing.free_gpus(plan_memory(small, WINDOW, lossless, prompts_known=True), lossless, small) == []
    plan = plan_memory(FREE, WINDOW, lossless, prompts_known=True)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)  # Windows
    assert sharing.free_gpus(plan, lossless, FREE) == []


def test_what_the_connections_take_must_fit_too(gpus):
    plan = plan_memory(FREE, WINDOW, MODES["lossless"], prompts_known=True)
    full = Machine("NVIDIA H200", 140 * GIB, plan.peak + GIB // 2, 200 * GIB)
    gpus(FREE, full)
    assert sharing.free_gpus(plan, MODES["lossless"], FREE) == []
    gpus(full, FREE)
    assert sharing.free_gpus(plan, MODES["lossless"], full) == []


def test_as_many_load_at_once_as_main_memory_has_room_for():
    plan = plan_memory(FREE, WINDOW, MODES["lossless"], prompts_known=True)
    rooms = [Machine("NVIDIA H200", 140 * GIB, 138 * GIB, plan.ram + gib * GIB) for gib in (0, 5, 9, 100)]
    assert [sharing.loading_at_once(machine, plan) for machine in rooms] == [1, 1, 2, 25]
