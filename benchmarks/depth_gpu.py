# SPDX-License-Identifier: Apache-2.0
"""DepthCrafter on an NVIDIA GPU with random weights at full size: ours beside the original implementation.

    pip install 'ex4d[depth]' && python benchmarks/depth_gpu.py [--original FOLDER]

FOLDER is a checkout of github.com/Tencent/DepthCrafter (its licence: research only). Both get the same weights, frames
and noise and draw 5 steps in half precision, as the EX-4D release does. The first run of each is not counted; times are
the best of those that follow, peaks what torch allocated, weights included. Ours is also measured with the networks
taking turns on the GPU (memory=low). Accuracy is the distance of each from the original in single precision on a small
clip.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ex4d.depth.depthcrafter_sampler import Parts, SamplerOptions, assembled, draw_disparity
from ex4d.depth.video_operators import group_norm, group_norm_fused

SIZES = ((49, 512, 512), (49, 576, 1024))
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
# Stable Video Diffusion's, as its repository has them.
CLIP_VIT_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}

Draw = Callable[[np.ndarray], np.ndarray]


def networks(unet_class: type = UNetSpatioTemporalConditionModel, dtype: torch.dtype = torch.float16) -> list:
    """UNet, VAE and image encoder with the same random weights every time, on the GPU."""
    torch.manual_seed(0)
    with CUDA:
        made = [
            unet_class(),
            AutoencoderKLTemporalDecoder(**VAE),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP_VIT_H)),
        ]
    return [network.to(CUDA, torch.float16).to(dtype).eval() for network in made]  # rounded alike in both precisions


def ours(low_memory: bool) -> Draw:
    parts: Parts = assembled(*(part.to(CPU if low_memory else CUDA) for part in networks()), SCHEDULER, CUDA)
    return lambda frames: draw_disparity(parts, frames, SamplerOptions())


def original(folder: Path, dtype: torch.dtype = torch.float16) -> Draw:
    sys.path.insert(0, str(folder))
    from depthcrafter.depth_crafter_ppl import DepthCrafterPipeline
    from depthcrafter.unet import DiffusersUNetSpatioTemporalConditionModelDepthCrafter

    unet, vae, encoder = networks(DiffusersUNetSpatioTemporalConditionModelDepthCrafter, dtype)
    pipeline = DepthCrafterPipeline(vae, encoder, unet, EulerDiscreteScheduler(**SCHEDULER), CLIPImageProcessor())
    pipeline.set_progress_bar_config(disable=True)

    def draw(frames: np.ndarray) -> np.ndarray:
        torch.manual_seed(42)
        height, width = frames.shape[1:3]
        drawn = pipeline(
            frames.astype(np.float32) / 255,
            height=height,
            width=width,
            num_inference_steps=5,
            guidance_scale=1.0,
            output_type="np",
        )
        return drawn.frames[0].mean(axis=-1)

    return draw


def frames_of(count: int, height: int, width: int) -> np.ndarray:
    """Soft coloured noise that moves. uint8 [T, H, W, 3]"""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 9), None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([np.roll(soft, 3 * i, axis=1) for i in range(count)])


def measured(draw: Draw, frames: np.ndarray, repeats: int) -> tuple[np.ndarray, float, float, float]:
    """What it draws; seconds of the first and of the best later run; GiB at the peak."""
    times = []
    torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        drawn = draw(frames)
        times.append(time.perf_counter() - start)
    return drawn, times[0], min(times[1:]), torch.cuda.max_memory_allocated() / 2**30


def emptied() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def check_group_norm() -> None:
    """The fused normalisation against torch in double precision, on fresh random input."""
    worst = 0.0
    for shape in ((3, 320, 40, 56), (1, 128, 8, 96, 64), (2, 2560, 9, 16), (1, 64, 3, 5, 1)):
        x = (torch.randn(shape, device=CUDA) * 2 + 8).half().movedim(1, -1).contiguous().movedim(-1, 1)
        norm = torch.nn.GroupNorm(32, shape[1], eps=1e-6, device=CUDA)
        torch.nn.init.normal_(norm.weight)
        added = torch.randn(1, shape[1], device=CUDA).half()
        with torch.no_grad():
            fused = group_norm_fused(x, norm.half(), True, added).double()
            true = group_norm(x.double().cpu(), norm.double().cpu(), True, added.double().cpu())
        worst = max(worst, float((fused.cpu() - true).norm() / true.norm()))
    print(f"group norm + SiLU, fp16: relative error {worst:.1e}")
    assert worst < 2e-3


def stages(draw: Callable, parts: Parts, frames: np.ndarray) -> dict[str, float]:
    """Seconds of each stage of ours."""
    marks: list[tuple[str, float]] = []

    def note(report: object) -> None:
        torch.cuda.synchronize()
        marks.append((report.stage, time.perf_counter()))

    draw(parts, frames, SamplerOptions(), note)
    ends, starts = dict(marks), dict(reversed(marks))
    return {stage: ends[stage] - starts[stage] for stage in starts}


def profile(parts: Parts, frames: np.ndarray) -> str:
    """Where the time goes on the GPU, kernel by kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        draw_disparity(parts, frames, SamplerOptions(steps=1))
    return recorded.key_averages().table(sort_by="self_cuda_time_total", row_limit=28, max_name_column_width=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, help="checkout of the original implementation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="also write where the time goes to this file")
    parser.add_argument("--variants", action="store_true", help="also try torch's attention and convolution choices")
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    check_group_norm()

    rows = []
    for size in SIZES:
        frames = frames_of(*size)
        results = {}
        makers: dict[str, Callable[[], Draw]] = {"ours": lambda: ours(False), "ours, memory=low": lambda: ours(True)}
        if arguments.original:
            makers = {"original": lambda: original(arguments.original)} | makers
        for name, make in makers.items():
            draw = make()
            results[name] = measured(draw, frames, arguments.repeats)
            del draw
            emptied()
            drawn, first, best, peak = results[name]
            apart = np.abs(drawn - results[next(iter(results))][0])
            rows.append(
                f"{size[0]}x{size[1]}x{size[2]}  {name:18s} {best:6.2f} s  first {first:6.2f} s  peak {peak:5.1f} GiB  "
                f"from the first row: mean {apart.mean():.1e}, largest {apart.max():.1e}"
            )
            print(rows[-1], flush=True)

    if arguments.original:
        frames = frames_of(8, 256, 256)
        true = original(arguments.original, torch.float32)(frames)
        emptied()
        for name, draw in (("original", original(arguments.original)), ("ours", ours(False))):
            apart = np.abs(draw(frames) - true)
            print(f"8x256x256 from single precision: {name} mean {apart.mean():.1e}, largest {apart.max():.1e}")
        del draw
        emptied()

    parts = assembled(*networks(), SCHEDULER, CUDA)
    for size in SIZES:
        frames = frames_of(*size)
        draw_disparity(parts, frames, SamplerOptions())
        seconds = stages(draw_disparity, parts, frames)
        print(f"{size}: " + ", ".join(f"{stage} {value:.2f} s" for stage, value in seconds.items()), flush=True)
    if arguments.variants:
        variants(parts, frames)
    if arguments.profile:
        arguments.profile.write_text(profile(parts, frames), encoding="utf-8")


def variants(parts: Parts, frames: np.ndarray) -> None:
    """Other choices that torch offers, one at a time."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def draw(frames: np.ndarray) -> np.ndarray:
        return draw_disparity(parts, frames, SamplerOptions())

    for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION"):
        order = [getattr(SDPBackend, name), SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        with sdpa_kernel(order, set_priority=True):
            _, _, best, peak = measured(draw, frames, 1)
        print(f"{name} first: {best:.2f} s, peak {peak:.1f} GiB", flush=True)
    torch.backends.cudnn.benchmark = True
    _, _, best, peak = measured(draw, frames, 1)
    torch.backends.cudnn.benchmark = False
    print(f"cudnn.benchmark: {best:.2f} s, peak {peak:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
