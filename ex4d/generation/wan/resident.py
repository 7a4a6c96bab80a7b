# SPDX-License-Identifier: Apache-2.0
"""The networks that this process holds between takes: loading takes minutes, painting may take seconds.

There is one set at a time. It stays until a take needs other weights or another plan, until somebody needs the GPU's
memory, or until something goes wrong that may have left it half done.
"""

import contextlib
import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch

from ex4d.document import Json
from ex4d.errors import Ex4dError, MachineError
from ex4d.generation.options import GenerateOptions, lora
from ex4d.generation.wan.attention import best_backend
from ex4d.generation.wan.engine import Expect, Loaded
from ex4d.generation.wan.files import WanFiles, described, find_wan_files, text_encoder_id
from ex4d.generation.wan.machine import GIB, Machine, read_machine
from ex4d.generation.wan.memory_plan import (
    RAM_RESERVE,
    MemoryPlan,
    Window,
    plan_memory,
    what_would_fit,
)
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.networks import Networks, free_memory, read_prompts
from ex4d.generation.wan.out_of_memory import in_main_memory, let_go, ran_out
from ex4d.generation.wan.prompts import are_known
from ex4d.generation.wan.settings import PaintSettings
from ex4d.generation.wan.sharing import free_gpus, loading_at_once
from ex4d.generation.wan.time_left import LOADING
from ex4d.progress import Progress, ProgressCallback

GPU = torch.device("cuda", 0)

FindOthers = Callable[[MemoryPlan, Mode, Machine], list[torch.device]]


@dataclass(frozen=True)
class _Key:
    """What networks are loaded for: takes that agree in it share them."""

    files: WanFiles
    precision: str
    fp8: bool
    encoders: str
    crosses: str
    resident_blocks: int
    devices: tuple[torch.device, ...]


@dataclass
class _Held:
    key: _Key
    networks: Networks
    plan: MemoryPlan


_LOCK = threading.RLock()
_held: _Held | None = None


@contextlib.contextmanager
def lent_painter(
    settings: PaintSettings,
    window: Window,
    options: GenerateOptions,
    progress: ProgressCallback | None = None,
    expect: Expect = lambda window_s: None,
    device: torch.device = GPU,
    dtype: torch.dtype = torch.bfloat16,
    read: Callable[[], Machine] = read_machine,
    find_others: FindOthers = free_gpus,
) -> Iterator[Loaded]:
    """Lend a painter for a take; see `engine.Load`.

    Args:
        settings, window, options: of the take.
        progress: told while networks are loaded; it may cancel.
        expect: told what the plan says about a window.
        device, dtype: where and in what to compute.
        read: tells what memory is free.
        find_others: see `free_gpus`; tells which devices compute together with this one.

    Raises:
        MachineError: weights are missing, the take does not fit into memory, or it ran out; says what would fit.
    """
    mode = settings.mode
    files = find_wan_files(mode, [lora(text) for text in options.loras])
    with _LOCK:
        prompts = settings.asked_prompts
        known = are_known(text_encoder_id(files), dtype, prompts)
        now = read()
        machine = _as_if_empty(now)
        plan = plan_memory(machine, window, mode, known)
        if plan.text_encoder == "alone" and _on_gpu() + RAM_RESERVE > now.ram_free:
            release()  # main memory has no room for them to wait in
        try:
            devices = _devices(plan, mode, machine, device, find_others)
            expect(None if plan.seconds is None else plan.seconds / len(devices))
            at_once, held = loading_at_once(machine, plan), _held
            networks = _networks(files, mode, plan, prompts, devices, dtype, progress, at_once)
            notices = (*plan.notices, *networks.notices)
            if _held is not held:
                notices += _in_turn(len(devices) - 1, at_once, machine)
            show = None if networks.previews is None else networks.previews.picture
            yield Loaded(networks.pipeline, notices, _described(files, mode, machine, plan, devices), show)
            networks.rest()
            free_memory()
        except Ex4dError as error:  # cancelled, or refused: networks that were loaded are as they were
            if _held is not None:
                _held.networks.rest()
            let_go(error)
            raise
        except BaseException as error:
            release()
            if not ran_out(error):
                raise
            let_go(error)
            raise MachineError(_out_of_memory(in_main_memory(error), machine, window, mode, known)) from error


def release() -> None:
    """Free the networks."""
    global _held
    with _LOCK:
        held, _held = _held, None
        if held is not None:
            held.networks.close()
            del held
            free_memory()


def make_room(needed: int) -> None:
    """Free the networks when less than that is free beside them. needed: bytes"""
    with _LOCK:
        if _held is not None and torch.cuda.is_available() and read_machine().free < needed:
            release()


def _networks(
    files: WanFiles,
    mode: Mode,
    plan: MemoryPlan,
    prompts: tuple[str, ...],
    devices: tuple[torch.device, ...],
    dtype: torch.dtype,
    progress: ProgressCallback | None,
    at_once: int,
) -> Networks:
    """The ones that are held, when they are the right ones; else others in their place."""
    global _held
    key = _Key(files, mode.precision, mode.fp8, plan.encoders, plan.crosses, plan.resident_blocks, devices)
    if _held is not None and (_held.key != key or not _held.networks.whole):
        release()
    if plan.text_encoder == "alone":
        with contextlib.nullcontext() if _held is None else _held.networks.set_aside():
            read_prompts(files, prompts, devices[0], dtype, progress)
    if _held is None:
        if progress is not None:
            progress(Progress(LOADING, 0, 0))
        networks = Networks(files, mode, plan, devices[0], dtype, progress, devices[1:], at_once)
        _held = _Held(key, networks, plan)
    _held.plan = plan
    _held.networks.keep_text_encoder = plan.text_encoder == "gpu"
    _held.networks.rest()
    return _held.networks


def _as_if_empty(machine: Machine) -> Machine:
    """What would be free without the networks that are held: they can go."""
    if _held is None:
        return machine
    free, ram_free = machine.free + _on_gpu(), machine.ram_free + _held.plan.ram
    return replace(machine, free=min(free, machine.total), ram_free=ram_free)


def _on_gpu() -> int:
    """Bytes that this process holds there."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0


def _out_of_memory(main: bool, machine: Machine, window: Window, mode: Mode, known: bool) -> str:
    what = "This machine ran out of main memory" if main else "The GPU ran out of memory"
    text = f"{what} while painting {window}. Close other programs that use it, then try again."
    ways = what_would_fit(machine, window, mode, known)
    return f"{text} What takes less: {'; or '.join(ways)}." if ways else text


def _in_turn(others: int, at_once: int, machine: Machine) -> tuple[str, ...]:
    """What is to be said of how the other GPUs loaded their weights."""
    if others <= at_once:
        return ()
    how = "one after the other" if at_once == 1 else f"{at_once} at a time"
    return (f"The other GPUs loaded their weights {how}: {machine.ram_free / GIB:.0f} GB of main memory were free.",)


def _devices(
    plan: MemoryPlan, mode: Mode, machine: Machine, device: torch.device, find: FindOthers
) -> tuple[torch.device, ...]:
    """Where the take is computed; where the last one was, if that fits: what those networks hold is not free now."""
    if _held is not None and len(_held.key.devices) > 1 and mode.precision == "fast" and not plan.streams:
        return _held.key.devices
    return (device, *find(plan, mode, machine))


def _described(
    files: WanFiles, mode: Mode, machine: Machine, plan: MemoryPlan, devices: tuple[torch.device, ...]
) -> dict[str, Json]:
    """What take.json keeps of the machine and the weights."""
    packages: dict[str, Json] = {name: version(name) for name in ("torch", "diffsynth")}
    return {
        "weights": described(files),
        "gpu": machine.name,
        "gpus": len(devices),
        "memory": plan.label,
        "attention": "torch" if mode.precision == "reference" else best_backend(devices[0]),
        "versions": {**packages, "python": platform.python_version()},
    }
