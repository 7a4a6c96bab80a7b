# SPDX-License-Identifier: Apache-2.0
"""Which plan a GPU gets, and what the artist reads about it."""

import re
from dataclasses import replace

import pytest

from ex4d.errors import MachineError
from ex4d.generation.wan.machine import GIB, Machine, container_room
from ex4d.generation.wan.memory_plan import BLOCKS, Window, plan_memory
from ex4d.generation.wan.modes import MODES

WINDOW = Window(512, 512, 49)


def machine(total_gb: float, name: str = "NVIDIA GeForce RTX 4090", ram_gb: float = 60) -> Machine:
    """A card of that size on which a desktop takes a little."""
    return Machine(name, int(total_gb * GIB), int((total_gb - 0.7) * GIB), int(ram_gb * GIB))


def test_80_gb_hold_everything():
    plan = plan_memory(machine(80, "NVIDIA H100 80GB HBM3"), WINDOW, MODES["lossless"], prompts_known=False)
    assert (plan.text_encoder, plan.encoders, plan.crosses, plan.resident_blocks) == ("gpu", "gpu", "gpu", BLOCKS)
    assert not plan.notices


def test_48_gb_hold_full_weights_without_the_text_encoder():
    known = plan_memory(machine(48, "NVIDIA L40S"), WINDOW, MODES["lossless"], prompts_known=True)
    assert (known.text_encoder, known.resident_blocks, known.fp8) == ("unused", BLOCKS, False)
    new = plan_memory(machine(48, "NVIDIA L40S"), WINDOW, MODES["lossless"], prompts_known=False)
    assert (new.text_encoder, new.resident_blocks) == ("alone", BLOCKS)


def test_24_gb_hold_8_bit_weights():
    plan = plan_memory(machine(24), WINDOW, MODES["fp8"], prompts_known=True)
    assert plan.fp8
    assert plan.resident_blocks == BLOCKS
    assert plan.label == "24 GB: 8-bit weights, about 2 min"


def test_24_gb_stream_full_weights_when_the_artist_wants_those():
    plan = plan_memory(machine(24), WINDOW, MODES["lossless"], prompts_known=True)
    assert not plan.fp8
    assert 0 < plan.resident_blocks < BLOCKS
    streamed = BLOCKS - plan.resident_blocks
    assert plan.label == f"24 GB: full weights, {streamed} of 40 blocks in main memory, about 3 min"
    assert plan.notices[0].endswith("Quality 'fp8' would fit.")


@pytest.mark.parametrize("mode", ["lossless", "fp8", "cached", "draft"])
@pytest.mark.parametrize("window", [WINDOW, Window(832, 480, 81)])
def test_16_gb_stream(mode, window):
    plan = plan_memory(machine(16, "NVIDIA GeForce RTX 4080"), window, MODES[mode], prompts_known=False)
    assert plan.streams
    assert plan.peak <= 15.3 * GIB
    assert plan.seconds is None  # a GPU whose speed we do not know is not guessed about
    assert "min" not in plan.label


@pytest.mark.parametrize("total", [12, 16, 20, 24, 32, 40, 48, 80, 141])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_planned_fits_or_is_refused(total, mode):
    card = machine(total)
    try:
        plan = plan_memory(card, WINDOW, MODES[mode], prompts_known=False)
    except MachineError as error:
        assert "GB" in str(error)  # noqa: PT017
    else:
        assert plan.peak <= card.free
        assert plan.ram <= card.ram_free
        assert plan.fp8 == MODES[mode].fp8


def test_more_memory_never_makes_it_slower():
    known = [plan_memory(machine(total), WINDOW, MODES["lossless"], True).seconds for total in (16, 20, 24, 32, 48, 80)]
    assert known == sorted(known, reverse=True)


def test_too_small_a_gpu_is_told_what_would_fit():
    large = Window(1280, 720, 81)
    with pytest.raises(MachineError, match=r"Painting 81 frames of 1280 x 720 needs at least \d+\.\d GB") as refused:
        plan_memory(machine(16), large, MODES["lossless"], prompts_known=True)
    proposed = re.findall(r"(\d+) frames of (\d+) x (\d+)", str(refused.value).partition("What would fit: ")[2])
    assert proposed
    for frames, width, height in proposed:
        smaller = Window(int(width), int(height), int(frames))
        plan_memory(machine(16), smaller, MODES["lossless"], prompts_known=True)


def test_memory_that_others_hold_is_named():
    busy = replace(machine(24), free=6 * GIB)
    with pytest.raises(MachineError, match=r"6\.0 of 24\.0 GB are free. Close the programs that hold the rest"):
        plan_memory(busy, WINDOW, MODES["fp8"], prompts_known=True)


def test_too_little_main_memory_is_told_apart():
    with pytest.raises(MachineError, match=r"main memory: that needs at least \d+\.\d GB, 8.0 GB are free"):
        plan_memory(machine(16, ram_gb=8), WINDOW, MODES["lossless"], prompts_known=True)


def test_8_bits_are_not_proposed_where_the_gpu_cannot_multiply_them():
    ampere = replace(machine(24, "NVIDIA GeForce RTX 3090"), fp8=False)
    assert "fp8" not in plan_memory(ampere, WINDOW, MODES["lossless"], prompts_known=True).notices[0]
    with pytest.raises(MachineError, match="What would fit: quality 'lossless'"):
        plan_memory(ampere, WINDOW, MODES["reference"], prompts_known=True)


def test_a_tiny_gpu_is_told_which_one_it_takes():
    with pytest.raises(MachineError, match="this takes a GPU of 16 GB"):
        plan_memory(machine(3), WINDOW, MODES["fp8"], prompts_known=True)


def test_a_containers_limit_counts_and_what_files_take_of_it_does_not(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 400\nfile_mapped 50\n")
    assert container_room(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert container_room(tmp_path) > 2**60
    assert container_room(tmp_path / "none") > 2**60
