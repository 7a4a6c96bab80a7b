# SPDX-License-Identifier: Apache-2.0
"""What a take will need, before anything is loaded or even rendered. Imports no torch.

Time comes from takes that were done, scaled by how much there is to do; without any, only what our benchmarks measured
on an H200 is told, as that. Memory comes from the plan that painting itself follows.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ex4d.errors import MachineError
from ex4d.generation.options import GenerateOptions, lora
from ex4d.generation.wan.availability import need_installed
from ex4d.generation.wan.framing import framing, release_framing
from ex4d.generation.wan.machine import GIB, Machine
from ex4d.generation.wan.memory_plan import MemoryPlan, Window, plan_memory
from ex4d.generation.wan.modes import MODES, Mode
from ex4d.generation.wan.windows import spans

LATEST = 5  # done takes whose median is the estimate
DESKTOP = round(0.7 * GIB)  # of a GPU's memory, that CUDA and a desktop keep: docs/benchmarks.md
BENCHMARKED = Machine("NVIDIA H200", total=140 * GIB, free=139 * GIB, ram_free=2**63)  # docs/benchmarks.md


@dataclass(frozen=True)
class Pictures:
    """What a take makes."""

    width: int
    height: int
    count: int


@dataclass(frozen=True)
class DoneTake:
    """A take that this machine has done."""

    options: GenerateOptions
    makes: Pictures
    seconds: float


@dataclass(frozen=True)
class Expected:
    """What a take will need, as far as it is known."""

    engine: str
    seconds: float | None = None  # as long as such takes took here
    measured: int = 0  # on how many of them
    reference_s: float | None = None  # as long as it takes on the machine of our benchmarks
    reference: str = ""
    windows: int = 1
    peak_bytes: int | None = None  # of GPU memory; None: no GPU is needed, or it is not known
    ram_bytes: int | None = None
    notices: tuple[str, ...] = ()
    refusal: str = ""  # why it cannot be painted here


def expected(
    options: GenerateOptions,
    makes: Pictures,
    done: Sequence[DoneTake],
    machine: Machine | None,
    elsewhere: bool = False,
) -> Expected:
    """Foretell a take.

    Args:
        options: what the artist chose.
        makes: its pictures.
        done: takes that were done here, newest first.
        machine: with the GPU that would paint it; None where there is none.
        elsewhere: other machines would paint it, of which nothing is known.
    """
    engine = options.engine if elsewhere else _engine(options, machine)
    alike = [take for take in done if _painted_alike(take.options, options)][:LATEST]
    scaled = [take.seconds * _work(engine, options, makes) / _work(engine, options, take.makes) for take in alike]
    found = Expected(engine, statistics.median(scaled) if scaled else None, len(scaled))
    if engine != "wan":
        return found
    mode, window, windows = _asked(options, makes)
    benchmark = plan_memory(BENCHMARKED, window, mode, prompts_known=True).seconds
    found = replace(
        found,
        windows=windows,
        reference_s=None if benchmark is None else benchmark * windows,
        reference=BENCHMARKED.name,
    )
    if elsewhere:
        return found
    try:
        need_installed(MODES[options.quality], [lora(text) for text in options.loras])
        plan = _plan(machine, window, mode, options)
    except MachineError as error:
        return replace(found, refusal=str(error))
    return replace(found, peak_bytes=plan.peak, ram_bytes=plan.ram, notices=plan.notices)


def _engine(options: GenerateOptions, machine: Machine | None) -> str:
    """As `ex4d.generation.engine` chooses it, without asking torch."""
    if options.engine != "auto":
        return options.engine
    try:
        need_installed(MODES["lossless"])
    except MachineError:
        return "preview"
    return "preview" if machine is None else "wan"


def _plan(machine: Machine | None, window: Window, mode: Mode, options: GenerateOptions) -> MemoryPlan:
    if machine is None:
        raise MachineError("Painting with Wan2.1 needs an NVIDIA GPU, and this server's machine has none.")
    # The release's prompts are read once and kept; an artist's own may be new.
    prompts_known = options.prompt is None and options.negative_prompt is None
    return plan_memory(machine, window, mode, prompts_known)


def _asked(options: GenerateOptions, makes: Pictures) -> tuple[Mode, Window, int]:
    """The mode with the steps that were asked for, what it paints at once, and how often."""
    mode = MODES[options.quality]
    mode = replace(mode, steps=options.steps or mode.steps)
    fitted = release_framing if mode.precision == "reference" else framing
    parts = spans(makes.count)
    return mode, Window(*fitted(makes.width, makes.height).working, frames=parts[0].count), len(parts)


def _painted_alike(done: GenerateOptions, asked: GenerateOptions) -> bool:
    """Whether the time that one took tells about the other."""
    if asked.engine == "preview":
        return done.engine == "preview"
    return all(getattr(done, name) == getattr(asked, name) for name in ("engine", "quality", "steps", "loras"))


def _work(engine: str, options: GenerateOptions, makes: Pictures) -> float:
    """How much there is to do, in a unit of its own for each engine."""
    if engine == "wan":
        mode, window, windows = _asked(options, makes)
        seconds = plan_memory(BENCHMARKED, window, mode, prompts_known=True).seconds
        return windows * (1.0 if seconds is None else seconds)
    return float(makes.width * makes.height * makes.count)
