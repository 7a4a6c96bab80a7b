# SPDX-License-Identifier: Apache-2.0
"""Wan2.1 with EX-4D on one GPU with random weights at full size: every quality, beside the release's own code.

    pip install 'ex4d[wan]' && python benchmarks/generation_gpu.py [--release FOLDER] [--write FILE.json]

FOLDER is a checkout of github.com/tau-yihouxiang/EX-4D. All get the same weights, plate, mask, prompt embeddings and
noise. Timed is one job from conditioning in memory to frames in memory, warm: a job of two steps goes before. "from
reference" is the distance of the frames and of the clean latents that each step expects. With random weights it tells
of arithmetic, not of pictures; how many forwards a cache of steps saves depends on the weights.

The release runs in a process of its own, for it brings its own diffsynth.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_dit import random_dit
from random_generation import (
    LORA_RANK,
    PROMPTS,
    TINY,
    Size,
    image_encoder,
    on_device,
    plate,
    weights,
    words,
)

from ex4d.generation.wan.modes import MODES, Mode


class Words(torch.nn.Module):
    """In place of UMT5."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        known = words(PROMPTS[int(ids[0, 0])], self.size)
        return torch.nn.functional.pad(known, (0, 0, 0, 512 - len(known)))[None]


def tokenizer(prompt: str, **_: object) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(1, 512, dtype=torch.long)
    mask[:, : len(prompt.split())] = 1
    return torch.full((1, 512), PROMPTS.index(prompt)), mask


def networks(size: Size) -> Any:
    """Everything resident, EX-4D's LoRA neither fused nor attached."""
    from diffsynth.models.wan_video_image_encoder import WanImageEncoder
    from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE

    from ex4d.generation.wan.camera_encoder import camera_encoder
    from ex4d.generation.wan.models import TextEncoder, WanModels

    vae = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(vae)
    vae.model = on_device(lambda: VideoVAE_(dim=size.vae_dim, z_dim=16), size, "vae")
    vae.mean, vae.std = torch.zeros(16), torch.ones(16)
    vae.scale, vae.upsampling_factor, vae.z_dim = [vae.mean, 1 / vae.std], 8, 16
    camera = on_device(lambda: camera_encoder(size.camera_dim, size.dim), size, "camera")
    return WanModels(
        dit=random_dit(size),
        vae=vae,
        image_encoder=image_encoder(WanImageEncoder, size),
        camera_encoder=camera,
        load_text_encoder=lambda: TextEncoder(Words(size), tokenizer),
        text_encoder_id=f"random {size.text_dim}",
        device=size.device,
        dtype=size.dtype,
    )


def adapter(dit: torch.nn.Module) -> Any:
    """EX-4D's LoRA: rank 16 on all linears of the blocks but those that see the picture."""
    from ex4d.generation.wan.checkpoint import EX4D_TARGETS, Adapter, LowRank

    layers = {}
    for name in (f"blocks.{i}.{target}" for i in range(len(dit.blocks)) for target in EX4D_TARGETS):
        weight = dit.get_submodule(name).weight
        down = weights(f"dit.{name}.lora_A.default.weight", weight.new_empty(LORA_RANK, weight.shape[1]))
        up = weights(f"dit.{name}.lora_B.default.weight", weight.new_empty(weight.shape[0], LORA_RANK))
        layers[name] = LowRank(down, up)
    return Adapter("random", layers)


def fuse_attached(dit: torch.nn.Module, stack: Any) -> None:
    """Plain linears again, with the LoRA added to their weights."""
    from ex4d.generation.wan.checkpoint import LinearWithLoRA, fuse

    for parent in list(dit.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LinearWithLoRA):
                linear = torch.nn.Linear(child.in_features, child.out_features, device="meta")
                linear.weight, linear.bias = child.weight, child.bias
                setattr(parent, name, linear)
    fuse(dit, stack)


@dataclass
class Job:
    """One job's measurements."""

    name: str
    total_s: float = 0.0
    peak_gib: float = 0.0
    forwards: int = 0
    forward_s: float = 0.0  # median
    encode_s: float = 0.0
    decode_s: float = 0.0
    steps: list[int] = field(default_factory=list)  # that asked the network
    frames_db: float | None = None  # from reference
    latents_db: list[float] = field(default_factory=list)
    frames: Any = None
    latents: list[torch.Tensor] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("frames", "latents")}


class Timed:
    """A `Velocity` that knows how long each of its forwards takes on the device."""

    def __init__(self, velocity: Any, device: torch.device) -> None:
        self.velocity, self.device = velocity, device
        self.marks: list[tuple[Any, Any]] = []
        self.timesteps: list[float] = []

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor, branch: Any) -> torch.Tensor:
        start = self._mark()
        answer = self.velocity(latents, timestep, branch)
        self.marks.append((start, self._mark()))
        self.timesteps.append(float(timestep))
        return answer

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> list[float]:
        if self.device.type != "cuda":
            return [end - start for start, end in self.marks]
        torch.cuda.synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in self.marks]


def painted(models: Any, mode: Any, steps: int, size: Size) -> Job:
    from ex4d.generation.wan.pipeline import WanPipeline, velocity_of
    from ex4d.generation.wan.schedule import flow_schedule
    from ex4d.generation.wan.settings import PaintSettings

    color, mask = plate(size)
    job, timed, marks = Job(mode.name), [], [("", time.perf_counter())]

    def bind(*arguments: Any) -> Timed:
        timed.append(Timed(velocity_of(*arguments), size.device))
        return timed[0]

    pipeline = WanPipeline(models, bind=bind)
    settings = PaintSettings(mode, steps, 0, *PROMPTS, 0)
    if size.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    job.frames = pipeline.paint(
        color,
        mask,
        settings,
        progress=lambda report: marks.append((report.stage, time.perf_counter())),
        on_preview=lambda step, clean: job.latents.append(clean.clone()),
    )
    job.total_s = time.perf_counter() - start
    if size.device.type == "cuda":
        job.peak_gib = torch.cuda.max_memory_allocated() / 2**30
    seconds = timed[0].seconds()
    job.forwards, job.forward_s = len(seconds), statistics.median(seconds)
    job.encode_s = max(at for stage, at in marks if stage == "Looking at the plate") - start
    job.decode_s = start + job.total_s - max(at for stage, at in marks if stage == "Painting")
    known = [float(t) for t in flow_schedule(steps).timesteps]
    job.steps = sorted({known.index(t) for t in timed[0].timesteps})
    return job


def decibels(ours: np.ndarray | torch.Tensor, true: np.ndarray | torch.Tensor, peak: float) -> float:
    """Peak signal to noise ratio."""
    apart = torch.as_tensor(ours).double() - torch.as_tensor(true).double()
    return float(10 * torch.log10(peak**2 / apart.square().mean().clamp_min(1e-20)))


def compared(job: Job, reference: Job) -> Job:
    job.frames_db = decibels(job.frames, reference.frames, 255)
    if len(job.latents) == len(reference.latents):
        pairs = zip(job.latents, reference.latents, strict=True)
        job.latents_db = [decibels(ours, true, float(true.abs().max())) for ours, true in pairs]
    return job


def every_mode(size: Size, modes: list[Mode], release_frames: np.ndarray | None) -> list[Job]:
    from ex4d.generation.wan.checkpoint import attach
    from ex4d.generation.wan.fp8 import is_quantised, quantise

    models = networks(size)
    stack = [(adapter(models.dit), 1.0)]
    attach(models.dit, stack)
    jobs: list[Job] = []
    fused = False
    for mode in modes:
        if mode.precision == "fast" and not fused:
            fuse_attached(models.dit, stack)
            fused = True
        if mode.fp8 and not is_quantised(models.dit):
            quantise(models.dit)
        emptied(size)
        painted(models, mode, 2, size)
        job = painted(models, mode, mode.steps, size)
        jobs.append(compared(job, jobs[0]) if jobs else job)
        show(line(job))
        if mode.name == "reference" and release_frames is not None:
            show(f"from the release's frames: {decibels(job.frames, release_frames, 255):.1f} dB, "
                 f"{(job.frames != release_frames).mean():.2%} of bytes differ")  # fmt: skip
    return jobs


def emptied(size: Size) -> None:
    gc.collect()
    if size.device.type == "cuda":
        torch.cuda.empty_cache()


def show(text: str) -> None:
    print(text, flush=True)


def line(job: Job) -> str:
    frames = f"{job.frames_db:.1f} dB" if job.frames_db is not None else "-"
    db = job.latents_db
    latents = f"{db[0]:.1f} / {min(db):.1f} / {db[-1]:.1f} dB" if db else "-"
    return (
        f"| {job.name} | {job.total_s:.1f} s | {job.forwards} | {job.forward_s:.3f} s | "
        f"{job.encode_s:.2f} + {job.decode_s:.2f} s | {job.peak_gib:.1f} GiB | {frames} | {latents} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", type=Path, help="checkout of the EX-4D release")
    parser.add_argument("--modes", nargs="+", default=["reference", "lossless", "fp8", "cached", "draft"])
    parser.add_argument("--steps", type=int, help="at most so many steps")
    parser.add_argument("--cache-threshold", type=float, help="of the cached quality; 1e9 skips all that may be")
    parser.add_argument("--write", type=Path, help="all figures as JSON")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU: tries the script itself")
    arguments = parser.parse_args()
    size = TINY if arguments.tiny else Size()
    machine = "CPU" if arguments.tiny else torch.cuda.get_device_name()
    show(f"{machine}, torch {torch.__version__}, {size.frames}x{size.height}x{size.width}")
    modes = [MODES[name] for name in arguments.modes]
    if arguments.steps is not None:
        modes = [replace(mode, steps=min(arguments.steps, mode.steps)) for mode in modes]
    if arguments.cache_threshold is not None:
        modes = [
            replace(mode, cache_threshold=arguments.cache_threshold) if mode.cache_threshold else mode for mode in modes
        ]
    show(
        "| quality | total | forwards | one forward | encode + decode | peak | frames | latents: first / worst / last |"
    )
    show("|---|---|---|---|---|---|---|---|")
    frames = None
    if arguments.release:
        with tempfile.TemporaryDirectory() as folder:
            to = Path(folder) / "frames.npy"
            script = Path(__file__).with_name("wan_release.py")
            command = [sys.executable, str(script), str(arguments.release), str(to), "--steps", str(modes[0].steps)]
            subprocess.run([*command, *(["--tiny"] if arguments.tiny else [])], check=True)
            frames = np.load(to)
    jobs = every_mode(size, modes, frames)
    for job in jobs:
        show(f"{job.name}: asked in steps {job.steps}; latents " + " ".join(f"{db:.1f}" for db in job.latents_db))
    if arguments.write:
        told = {"machine": machine, "torch": torch.__version__, "jobs": [job.told() for job in jobs]}
        arguments.write.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
