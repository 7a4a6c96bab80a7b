# SPDX-License-Identifier: Apache-2.0
"""A short process that foretells a take: reads the question from its standard input, writes the answer.

The front's own process stays small and quick to answer: it imports nothing of what painting needs.
"""

import json
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import psutil

from ex4d.errors import Ex4dError
from ex4d.expected import DESKTOP, DoneTake, Expected, Pictures, expected
from ex4d.generation.options import GenerateOptions
from ex4d.generation.wan.machine import Machine, container_room

from .devices import Gpu, ask_driver, find_gpus

FP8_CAPABILITY = 8.9  # Ada and newer multiply 8-bit floats
OPTIONS = ("engine", "seed", "quality", "steps", "prompt", "negative_prompt", "erosion_px", "loras")


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """What a take will need here.

    Args:
        question: `params` of the take; `makes`: width, height, count; `done`: past takes as [params, makes, seconds];
            `elsewhere`: whether other machines do the jobs.
    """
    elsewhere = question["elsewhere"]
    gpus = [] if elsewhere else find_gpus()
    # Each worker has a GPU of its own: a take needs one that is large enough.
    gpu = max(gpus, key=lambda gpu: gpu.memory_total_mb, default=None)
    done = [past for past in map(_done, question["done"]) if past is not None]
    try:
        options = _options(question["params"])
        found = expected(options, Pictures(**question["makes"]), done, _machine(gpu) if gpu else None, elsewhere)
    except Ex4dError as error:
        found = Expected(str(question["params"].get("engine", "auto")), refusal=str(error))
    described = {} if gpu is None else _described(gpu)
    return {**asdict(found), **described}


def _options(params: dict[str, Any]) -> GenerateOptions:
    known = {name: params[name] for name in OPTIONS if params.get(name) is not None}
    if "loras" in known:
        known["loras"] = tuple(known["loras"])
    return GenerateOptions(**known)


def _done(past: list[Any]) -> DoneTake | None:
    params, makes, seconds = past
    try:
        return DoneTake(_options(params), Pictures(**makes), seconds)
    except (Ex4dError, TypeError):  # of another version
        return None


def _described(gpu: Gpu) -> dict[str, Any]:
    return {
        "gpu": gpu.name,
        "gpu_bytes": gpu.memory_total_mb * 2**20,
        "gpu_used_bytes": gpu.memory_used_mb * 2**20,
    }


def _machine(gpu: Gpu) -> Machine:
    """The GPU as it is when nothing else uses it: what our own workers hold now can go, what others hold may."""
    total = gpu.memory_total_mb * 2**20
    ram = min(int(psutil.virtual_memory().available), container_room())
    machine = Machine(gpu.name, total, max(0, total - DESKTOP), ram)
    capability = _compute_capability(gpu)
    return machine if capability is None else replace(machine, fp8=capability >= FP8_CAPABILITY)


def _compute_capability(gpu: Gpu) -> float | None:
    for line in ask_driver("gpu=uuid,compute_cap"):
        uuid, _, capability = line.partition(", ")
        if uuid == gpu.uuid:
            with suppress(ValueError):  # older drivers do not say
                return float(capability)
    return None


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
