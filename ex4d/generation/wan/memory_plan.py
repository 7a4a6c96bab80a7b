# SPDX-License-Identifier: Apache-2.0
"""Where Wan2.1's networks live while a take is painted, decided before they are loaded. Needs no torch.

The plan keeps the quality that was asked for: full weights which do not fit are streamed from main memory, they do
not quietly become 8-bit ones. Only the words recommend those.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from ex4d.errors import MachineError

from .machine import GIB, Machine
from .modes import MODES, Mode

BLOCKS = 40  # of Wan2.1-I2V-14B
STREAM_SLOTS = 2  # blocks on the GPU for those that stream: one computes while the next one arrives

# Bytes, from the numbers of parameters.
BLOCK = 299_000_000  # parameters that a block needs in every step
CROSS = 105_000_000  # its linears of the cross-attention's keys: needed once per job
BLOCKS_KEPT = 2  # in an fp8 network: the first and the last block stay in 16 bits, see fp8.py
HOT_LORA = 500_000_000  # reference: beside the weights instead of added to them
REST = 1_000_000_000  # embeddings, time projections (in float32), head
TEXT_ENCODER = 11_400_000_000
ENCODERS = 2_300_000_000  # VAE, image encoder, camera encoder
VAE = 260_000_000
RESERVE = 768 * 2**20  # cuBLAS, cuDNN, and the allocator's gaps
RAM_RESERVE = 2 * GIB

# Bytes that live while each stage computes.
TOKEN = {"fast": 190_000, "reference": 270_000}  # of the network, per token
CONDITION_TOKEN = 32_000  # rays and what is embedded once per job
CONTEXT = 1_100_000_000  # keys and values of both prompts and of the picture, 40 blocks
VAE_PIXEL = 18_000  # of a frame, while the VAE decodes; encoding takes less

# TFLOP/s that one forward reaches. H200: benchmarks/generation_gpu.py; the others from their data sheets.
RATE = {"H200": 610, "H100": 560, "A100": 190, "L40S": 200, "4090": 140, "A6000": 90}
FP8_GAIN = 1.35  # H200: 0.779 s to 0.576 s; reference 1.178 s
REFERENCE_GAIN = 0.66
BUS = 20e9  # bytes/s from pinned main memory, PCIe 4
ENCODING_TFLOP = 650  # encoding and decoding at 49 x 512 x 512, in the network's TFLOP/s: 1.06 s on an H200

Place = Literal["gpu", "visits", "alone", "unused"]


@dataclass(frozen=True)
class Window:
    """What the network paints at once."""

    width: int  # pixels, multiples of 16
    height: int
    frames: int  # 4n + 1

    @property
    def tokens(self) -> int:
        """Patches of 1 x 2 x 2 latents, each of them 4 x 8 x 8 pixels."""
        return ((self.frames - 1) // 4 + 1) * (self.height // 16) * (self.width // 16)

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.width} x {self.height}"


@dataclass(frozen=True)
class MemoryPlan:
    """Where each network lives.

    gpu: stays there between jobs. visits: waits in main memory and is on the GPU for its turn. alone: is there for a
    new prompt, before the other networks are loaded or while they wait in main memory, then released. unused: the
    embeddings of all prompts are known.
    """

    text_encoder: Place
    encoders: Place  # VAE, image encoder, camera encoder
    crosses: Place  # linears of the cross-attention's keys, needed once per job
    resident_blocks: int  # of BLOCKS; the others are streamed from main memory, see streaming.py
    fp8: bool
    peak: int  # bytes of GPU memory, expected
    ram: int  # bytes of main memory, expected
    seconds: float | None  # for one window; None on a GPU whose speed we do not know
    label: str  # "24 GB: 8-bit weights, about 3 min"
    notices: tuple[str, ...] = ()

    @property
    def streams(self) -> bool:
        """Whether some blocks wait in main memory."""
        return self.resident_blocks < BLOCKS


def plan_memory(machine: Machine, window: Window, mode: Mode, prompts_known: bool) -> MemoryPlan:
    """The fastest plan that fits.

    Args:
        machine: what is free.
        window: what the network paints at once.
        mode: the artist's choice; it stays as it is.
        prompts_known: the embeddings of both prompts are on the disk, so that the text encoder is not needed.

    Raises:
        MachineError: nothing fits; says what would.
    """
    plan = _fastest(machine, window, mode, prompts_known)
    if plan is None:
        raise MachineError(_too_little(machine, window, mode, prompts_known))
    notices = _notices(machine, window, mode, prompts_known, plan)
    return replace(plan, label=_label(machine, plan), notices=notices)


def what_would_fit(machine: Machine, window: Window, mode: Mode, prompts_known: bool) -> tuple[str, ...]:
    """The nearest requests that fit, as an artist would say them; the best first. Empty when nothing does."""
    ways: list[str] = []
    lighter = (m for m in _lighter(machine, mode) if _fastest(machine, window, m, prompts_known))
    ways.extend(f"quality '{m.name}'" for m in islice(lighter, 1))
    for smaller in (_fewer_frames(window), _smaller_pictures(window)):
        fitting = next((w for w in smaller if _fastest(machine, w, mode, prompts_known)), None)
        if fitting is not None:
            ways.append(str(fitting))
    return tuple(ways)


def forward_tflop(tokens: int) -> float:
    """Work of one forward. Counted at 13312 tokens: linears and cross attention grow with them, attention squared."""
    share = tokens / 13312
    return 3.3 + 326.7 * share + 145.2 * share**2  # 3.3: keys and values of the prompt


def _fastest(machine: Machine, window: Window, mode: Mode, prompts_known: bool) -> MemoryPlan | None:
    return next(
        (
            p
            for p in _plans(machine, window, mode, prompts_known)
            if p.peak <= machine.free and p.ram <= machine.ram_free
        ),
        None,
    )


def _lighter(machine: Machine, mode: Mode) -> Iterator[Mode]:
    """The modes of nearly the same picture that take less memory, the best first."""
    if mode.precision == "reference":
        yield MODES["lossless"]
    if machine.fp8 and not mode.fp8:
        yield MODES["fp8"]


def _plans(machine: Machine, window: Window, mode: Mode, prompts_known: bool) -> Iterator[MemoryPlan]:
    """Every way to do it, the fastest first."""

    def plan(text_encoder: Place, encoders: Place, crosses: Place, resident: int) -> MemoryPlan:
        return _plan(machine, window, mode, text_encoder, encoders, crosses, resident)

    alone: Place = "unused" if prompts_known else "alone"
    if not prompts_known:
        yield plan("gpu", "gpu", "gpu", BLOCKS)
    yield plan(alone, "gpu", "gpu", BLOCKS)
    yield plan(alone, "visits", "gpu", BLOCKS)
    if mode.precision == "fast":  # reference runs the networks as they are
        yield plan(alone, "visits", "visits", BLOCKS)
        for resident in range(BLOCKS - STREAM_SLOTS - 1, -1, -1):
            yield plan(alone, "visits", "visits", resident)


def _plan(
    machine: Machine,
    window: Window,
    mode: Mode,
    text_encoder: Place,
    encoders: Place,
    crosses: Place,
    resident: int,
) -> MemoryPlan:
    streamed = _bytes(BLOCK, BLOCKS - resident, mode)
    crossing = _bytes(CROSS, BLOCKS, mode)
    staying = REST + _bytes(BLOCK, BLOCKS, mode) - streamed + (crossing if crosses == "gpu" else 0)
    staying += HOT_LORA if mode.precision == "reference" else 0
    staying += (TEXT_ENCODER if text_encoder == "gpu" else 0) + (ENCODERS if encoders == "gpu" else 0)
    staying += STREAM_SLOTS * 2 * BLOCK if streamed else 0
    painting = CONTEXT + window.tokens * (CONDITION_TOKEN + TOKEN[mode.precision])
    decoding = (VAE if encoders == "visits" else 0) + window.width * window.height * VAE_PIXEL
    reading = TEXT_ENCODER if text_encoder == "alone" else 0
    peak = RESERVE + max(staying + max(painting, decoding), reading)
    waiting = streamed + (ENCODERS if encoders == "visits" else 0) + (crossing if crosses == "visits" else 0)
    ram = RAM_RESERVE + max(waiting, reading)
    seconds = _seconds(machine, window, mode, streamed)
    return MemoryPlan(text_encoder, encoders, crosses, resident, mode.fp8, peak, ram, seconds, label="")


def _bytes(parameters: int, blocks: int, mode: Mode) -> int:
    """Of so many blocks, of which those in 16 bits count first."""
    kept = min(BLOCKS_KEPT, blocks) if mode.fp8 else blocks
    return (kept * 2 + blocks - kept) * parameters


def _seconds(machine: Machine, window: Window, mode: Mode, streamed: int) -> float | None:
    rate = next((rate for name, rate in RATE.items() if name in machine.name), None)
    if rate is None:
        return None
    forwards = mode.steps * (1 + (mode.guidance_share if mode.guidance_scale != 1 else 0))
    gain = REFERENCE_GAIN if mode.precision == "reference" else FP8_GAIN if mode.fp8 else 1
    compute = forward_tflop(window.tokens) / (rate * gain)
    encoding = ENCODING_TFLOP / rate * window.tokens / 13312
    return forwards * max(compute, streamed / BUS) + encoding


def _label(machine: Machine, plan: MemoryPlan) -> str:
    weights = "8-bit weights" if plan.fp8 else "full weights"
    streamed = f", {BLOCKS - plan.resident_blocks} of {BLOCKS} blocks in main memory" if plan.streams else ""
    duration = "" if plan.seconds is None else f", about {_duration(plan.seconds)}"
    return f"{round(machine.total / GIB)} GB: {weights}{streamed}{duration}"


def _duration(seconds: float) -> str:
    return f"{max(5 * round(seconds / 5), 5)} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _notices(machine: Machine, window: Window, mode: Mode, prompts_known: bool, plan: MemoryPlan) -> tuple[str, ...]:
    if not plan.streams:
        return ()
    notice = (
        f"The network does not fit into the GPU's memory ({_gb(machine.free)} GB free): "
        f"{BLOCKS - plan.resident_blocks} of its {BLOCKS} blocks stream from main memory."
    )
    for lighter in _lighter(machine, mode):
        whole = _fastest(machine, window, lighter, prompts_known)
        if whole is not None and not whole.streams:
            notice += f" Quality '{lighter.name}' would fit."
    return (notice,)


def _too_little(machine: Machine, window: Window, mode: Mode, prompts_known: bool) -> str:
    smallest = list(_plans(machine, window, mode, prompts_known))
    peak = min(plan.peak for plan in smallest)
    if peak > machine.free:
        text = (
            f"Painting {window} needs at least {_gb(peak)} GB of GPU memory, "
            f"{_gb(machine.free)} of {_gb(machine.total)} GB are free."
        )
        if machine.total - machine.free > GIB and peak <= machine.total:
            text += " Close the programs that hold the rest."
    else:
        ram = min(plan.ram for plan in smallest if plan.peak <= machine.free)
        text = (
            f"Painting {window} keeps the weights that the GPU ({_gb(machine.free)} GB free) cannot hold in main "
            f"memory: that needs at least {_gb(ram)} GB, {_gb(machine.ram_free)} GB are free. Close other programs."
        )
    ways = what_would_fit(machine, window, mode, prompts_known)
    if not ways:
        return f"{text} Nothing smaller fits either: this takes a GPU of 16 GB."
    return f"{text} What would fit: {'; or '.join(ways)}."


def _fewer_frames(window: Window) -> list[Window]:
    return [replace(window, frames=frames) for frames in (65, 49, 33, 25, 17) if frames < window.frames]


def _smaller_pictures(window: Window) -> list[Window]:
    def side(pixels: int, share: float) -> int:
        return max(16 * round(pixels * share / 16), 16)

    return [
        replace(window, width=side(window.width, share), height=side(window.height, share))
        for share in (0.875, 0.75, 0.625, 0.5)
    ]


def _gb(count: int) -> str:
    return f"{count / GIB:.1f}"
