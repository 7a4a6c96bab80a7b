# SPDX-License-Identifier: Apache-2.0
"""The EX-4D release's own pipeline with random weights, for generation_gpu.py.

In a process of its own, for the release brings its own diffsynth. Its text encoder stands aside, as ours does there.
"""

import argparse
import importlib
import itertools
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_generation import (
    DIT,
    LORA_RANK,
    PROMPTS,
    TINY,
    Size,
    dit_shape,
    filled,
    image_encoder,
    on_device,
    plate,
    weights,
    words,
)


def release(folder: Path, size: Size, steps: int, to: Path) -> None:
    """One warm job of the release's pipeline, its own memory management included; a job of two steps goes before."""
    pipeline_module = release_modules(folder)
    dit_module = sys.modules["diffsynth.models.wan_video_dit"]
    from diffsynth.models.camera import CamVidEncoder
    from diffsynth.models.wan_video_image_encoder import WanImageEncoder
    from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
    from peft import LoraConfig, inject_adapter_in_model

    pipe = pipeline_module.WanVideoPipeline(device=size.device.type, torch_dtype=size.dtype)
    pipe.dit = on_device(
        lambda: dit_module.WanModel("i2v", cross_attn_norm=True, **dit_shape(size), **DIT), size, "dit"
    )
    third = 2 * (size.dim // size.heads // 6)
    rates = (size.dim // size.heads - 2 * third, third, third)
    pipe.dit.freqs = torch.cat([dit_module.rope_params(1024, rate) for rate in rates], dim=1)
    pipe.vae = WanVideoVAE.__new__(WanVideoVAE)
    torch.nn.Module.__init__(pipe.vae)
    pipe.vae.model = on_device(lambda: VideoVAE_(dim=size.vae_dim, z_dim=16), size, "vae")
    pipe.vae.mean, pipe.vae.std = torch.zeros(16), torch.ones(16)
    pipe.vae.scale, pipe.vae.upsampling_factor = [pipe.vae.mean, 1 / pipe.vae.std], 8
    pipe.image_encoder = image_encoder(WanImageEncoder, size)
    pipe.text_encoder = torch.nn.Linear(1, 1, dtype=size.dtype)
    pipe.encode_prompt = lambda prompt, positive: {"context": [words(prompt, size)]}
    camera = CamVidEncoder(16, size.camera_dim, size.dim).to(size.device, size.dtype)
    pipe.camera_encoder = filled(camera, "camera")
    # As generate.py does.
    config = LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    inject_adapter_in_model(config, pipe.dit)
    for name, parameter in pipe.dit.named_parameters():
        if "lora_" in name:
            parameter.data = weights(f"dit.{name}", parameter.data.to(size.dtype)).float()
    pipe.enable_vram_management(num_persistent_param_in_dit=None)

    color, mask = (torch.from_numpy(array) for array in plate(size))
    mask = mask.float().expand(3, -1, -1, -1)
    video = (color.permute(3, 0, 1, 2).float() / 255.0 * mask).to(torch.bfloat16) * 2 - 1
    mask = mask.to(torch.bfloat16) * 2 - 1
    half = size.dtype == torch.bfloat16

    def painted(steps: int) -> tuple[list[Any], float, float]:
        """Frames, seconds and the median seconds of one step."""
        times: list[float] = []

        def marked(timesteps: Any) -> Any:
            for timestep in timesteps:
                if size.device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter())
                yield timestep

        start = time.perf_counter()
        with torch.no_grad(), torch.amp.autocast(size.device.type, torch.bfloat16, enabled=half):
            frames = pipe(
                prompt=PROMPTS[0],
                negative_prompt=PROMPTS[1],
                video=video.to(size.device, size.dtype)[None],
                mask=mask.to(size.device, size.dtype)[None],
                num_inference_steps=steps,
                seed=0,
                tiled=False,
                height=size.height,
                width=size.width,
                num_frames=size.frames,
                progress_bar_cmd=marked,
            )
        return frames, time.perf_counter() - start, statistics.median(b - a for a, b in itertools.pairwise(times))

    painted(2)
    frames, total, step = painted(steps)
    peak = torch.cuda.max_memory_allocated() / 2**30 if size.device.type == "cuda" else 0.0
    np.save(to, np.stack([np.asarray(frame) for frame in frames]))
    print(f"| the release's code, no text encoder | {total:.1f} s | {2 * steps} | {step / 2:.3f} s | "
          f"{total - steps * step:.1f} s | {peak:.1f} GiB | | |", flush=True)  # fmt: skip


def release_modules(folder: Path) -> Any:
    """The release's Wan pipeline without the other pipelines that its packages import, which need older libraries."""

    def package(name: str, **attributes: object) -> None:
        module = types.ModuleType(name)
        module.__path__ = [str(folder / name.replace(".", "/"))]
        vars(module).update(attributes)
        sys.modules[name] = module

    package("diffsynth")
    package("diffsynth.models", ModelManager=None)
    package("diffsynth.pipelines")
    package("diffsynth.prompters", WanPrompter=lambda tokenizer_path: None)
    package("diffsynth.schedulers")
    return importlib.import_module("diffsynth.pipelines.wan_video")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="checkout of the release")
    parser.add_argument("frames", type=Path, help="where its frames go, .npy")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    release(arguments.folder, TINY if arguments.tiny else Size(), arguments.steps, arguments.frames)
