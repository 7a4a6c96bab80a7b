# SPDX-License-Identifier: Apache-2.0
"""The EX-4D release beside this library: the same tiny weights, seed, colour and mask, stage by stage.

    pip install 'ex4d[wan]' && python benchmarks/release_parity.py FOLDER [--device cuda] [--dtype bfloat16] [--wide]

FOLDER is a checkout of github.com/tau-yihouxiang/EX-4D (tested: b456a41). It runs in a process of its own, in which
`diffsynth` is the package that it bundles: its readers of clips, its random erosion with Python's `random` seeded, its
peft LoRA, its memory management, its pipeline. On CUDA it runs as it is, in bfloat16. On a CPU it cannot: there its
assertion that tensors are on a GPU is taken out, `cuda` becomes `cpu` where it is a default, attention keeps float32
for --dtype float32, and for bfloat16 CUDA's rules of autocast are imitated (on both sides).
"""

import argparse
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from contextlib import ContextDecorator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[1]
SEED, VOCABULARY = 3, 64
PROMPTS = ("4K ultra HD, surround motion, realistic tone", "Bright tones, overexposed, static, blurred details")
Arrays = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", type=Path, help="checkout of the EX-4D release")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="CUDA knows bfloat16 only")
    parser.add_argument("--wide", action="store_true", help="heads of 128 channels, as the real network's")
    parser.add_argument("--clip", default="9x64x64", help="frames x height x width")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)  # set in the release's process
    options = parser.parse_args()
    if options.device == "cuda" and options.dtype == "float32":
        parser.error("the release has no float32 on CUDA: add --dtype bfloat16")
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "tests"))
    import torchvision_shim  # noqa: F401

    if options.exchange is not None:
        np.savez(options.exchange / "release.npz", **release_run(options))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.exchange = Path(folder)
        sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "wan")]
        models = export(options)
        command = [sys.executable, __file__, *sys.argv[1:], "--exchange", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TQDM_DISABLE": "1"})
        with np.load(options.exchange / "release.npz", allow_pickle=False) as stored:
            released = dict(stored)
        for quality in ("reference", "lossless"):
            report(quality, our_run(models, quality, options), released)


def report(quality: str, ours: Arrays, released: Arrays) -> None:
    print(f"\n{quality:10} {'largest difference':>20} {'relative L2':>12}")
    for name, theirs in released.items():
        difference = np.abs(ours[name].astype(np.float64) - theirs)
        relative = np.linalg.norm(difference) / np.linalg.norm(theirs.astype(np.float64))
        print(f"{name:10} {difference.max():20.3g} {relative:12.2g}")


# This library


def export(options: argparse.Namespace) -> Any:
    """Make the networks and write for the release's process what it needs of them."""
    import tiny_wan

    size = tiny_wan.WIDE if options.wide else tiny_wan.SMALL
    models = tiny_wan.tiny_models(size, getattr(torch, options.dtype), torch.device(options.device))
    parts = {name: getattr(models, name).state_dict() for name in ("dit", "vae", "image_encoder", "camera_encoder")}
    parts["text_encoder"] = models.load_text_encoder().network.state_dict()
    parts["scale"] = {"mean": models.vae.mean, "std": models.vae.std}
    torch.save(parts, options.exchange / "weights.pt")
    tiny_wan.write_ex4d(options.exchange, models)
    frames, height, width = (int(side) for side in options.clip.split("x"))
    color, mask = tiny_wan.moving_plate(frames, height, width)
    np.savez(options.exchange / "plate.npz", color=color, mask=mask)
    (options.exchange / "size.json").write_text(json.dumps(vars(size)), encoding="utf-8")
    return models


def our_run(models: Any, quality: str, options: argparse.Namespace) -> Arrays:
    import dataclasses

    import tiny_wan

    from ex4d.generation.wan.checkpoint import attach, fuse, read_ex4d
    from ex4d.generation.wan.denoise import guided
    from ex4d.generation.wan.models import WanModels
    from ex4d.generation.wan.modes import MODES
    from ex4d.generation.wan.pipeline import WanPipeline, velocity_of
    from ex4d.generation.wan.settings import PaintSettings

    os.environ["EX4D_CACHE"] = ""
    if imitated(options):
        WanModels.autocast = lambda self: Autocast(dtype=self.dtype)
    size = tiny_wan.WIDE if options.wide else tiny_wan.SMALL
    dit = tiny_wan.tiny_dit(size, models.dtype).to(models.device)
    adapter = read_ex4d(options.exchange / "ex4d.ckpt", size.layers)
    (attach if quality == "reference" else fuse)(dit, [(adapter, 1.0)])
    told, latents = [], []

    def bind(models: Any, conditions: Any, mode: Any) -> Any:
        told.append(conditions)
        return velocity_of(models, conditions, mode)

    def guide(velocity: Any, mode: Any, steps: int) -> Any:
        answer = guided(velocity, mode, steps)
        return lambda x, timestep, step: (latents.append(x), answer(x, timestep, step))[1]

    settings = PaintSettings(MODES[quality], options.steps, SEED, *PROMPTS, erosion_px=None)
    with np.load(options.exchange / "plate.npz", allow_pickle=False) as plate:
        pipeline = WanPipeline(dataclasses.replace(models, dit=dit), bind, guide)
        frames = pipeline.paint(plate["color"], plate["mask"], settings, on_preview=lambda _, x: latents.append(x))
    conditions = told[0]
    shown = {"ray": conditions.ray, "y": conditions.y, "clip": conditions.clip, "latents": latents[-1]}
    return {**{name: tensor.float().cpu().numpy() for name, tensor in shown.items()}, "frames": frames}


# The release


def release_run(options: argparse.Namespace) -> Arrays:
    """What generate.py's main does, with tiny networks in place of those that it would load."""
    generate = release_modules(options)
    import cv2

    pipe = release_pipeline(options)
    adapter = str(options.exchange / "ex4d.ckpt")
    generate.add_lora_to_model(pipe.denoising_model(), pretrained_path=adapter, lora_rank=16, lora_alpha=16.0)
    pipe.load_cam(adapter)
    pipe.enable_vram_management(num_persistent_param_in_dit=None)
    pipe.camera_encoder.to(options.device, getattr(torch, options.dtype)).eval()

    with np.load(options.exchange / "plate.npz", allow_pickle=False) as plate:
        clips = {"color": plate["color"][..., ::-1], "mask": np.repeat(plate["mask"][..., None] * np.uint8(255), 3, -1)}
    cv2.VideoCapture = lambda name: Capture(clips[name])
    frames, height, width = clips["color"].shape[:3]
    random.seed(SEED)
    mask = generate.load_mask_frames("mask", frames, height, width)
    color = generate.load_video_frames("color", frames, height, width)
    video, mask = (color * mask).to(torch.bfloat16) * 2 - 1, mask.to(torch.bfloat16) * 2 - 1
    if options.dtype == "float32":
        video, mask = video.float(), mask.float()
    video, mask = video.to(options.device)[None], mask.to(options.device)[None]

    kept: Arrays = {}
    keep(kept, "ray", pipe, "encode_rays", lambda ray: ray)
    keep(kept, "y", pipe, "encode_images", lambda told: told["y"])
    keep(kept, "clip", pipe, "encode_images", lambda told: told["clip_fea"])
    keep(kept, "latents", pipe.scheduler, "step", lambda latents: latents)
    with torch.no_grad(), torch.amp.autocast(dtype=torch.bfloat16, device_type=options.device):
        pictures = pipe(
            prompt=PROMPTS[0],
            negative_prompt=PROMPTS[1],
            video=video,
            mask=mask,
            num_inference_steps=options.steps,
            seed=SEED,
            tiled=False,
            height=height,
            width=width,
            num_frames=frames,
        )
    return {**kept, "frames": np.stack([np.asarray(picture) for picture in pictures])}


def keep(kept: Arrays, name: str, owner: Any, method: str, pick: Any) -> None:
    """Keep what a method returned last."""
    call = getattr(owner, method)

    def listening(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        kept[name] = pick(result).float().cpu().numpy()
        return result

    setattr(owner, method, listening)


class Capture:
    """An array that cv2 reads as a video."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.index = frames, 0

    def get(self, _: int) -> int:
        return len(self.frames)

    def set(self, _: int, index: float) -> None:
        self.index = int(index)

    def read(self) -> tuple[bool, np.ndarray]:
        return True, self.frames[self.index].copy()

    def release(self) -> None:
        pass


def release_modules(options: argparse.Namespace) -> Any:
    """Import the release's own code, without the other models that its package would import, and let a CPU run it."""
    sys.path.insert(0, str(options.release))
    bundled = options.release / "diffsynth"
    for name in ("", ".models", ".pipelines", ".prompters"):
        package = ModuleType(f"diffsynth{name}")
        package.__path__ = [str(bundled.joinpath(*name.split(".")))]
        sys.modules[package.__name__] = package
    for name in ("diffsynth.models", "diffsynth.models.model_manager"):
        module = sys.modules.setdefault(name, ModuleType(name))
        module.ModelManager = object
    if options.device == "cpu":
        torch.amp.autocast = Autocast if imitated(options) else NoAutocast
    from diffsynth.models import utils, wan_video_dit
    from diffsynth.prompters import wan_prompter

    if options.device == "cpu":
        source = inspect.getsource(wan_video_dit.flash_attention).replace("q.device.type == 'cuda' and ", "")
        source = source.replace("torch.bfloat16", f"torch.{options.dtype}")
        exec(compile(source, wan_video_dit.__file__, "exec"), vars(wan_video_dit))
        wan_prompter.WanPrompter.encode_prompt.__defaults__ = (True, "cpu")
    sys.modules["diffsynth.prompters"].WanPrompter = wan_prompter.WanPrompter
    from diffsynth.pipelines import wan_video

    names = {"ModelManager": object, "WanVideoPipeline": wan_video.WanVideoPipeline, "save_video": None}
    vars(sys.modules["diffsynth"]).update(names, load_state_dict=utils.load_state_dict)
    import generate

    return generate


def release_pipeline(options: argparse.Namespace) -> Any:
    from diffsynth.models.camera import CamVidEncoder
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_image_encoder import VisionTransformer, WanImageEncoder
    from diffsynth.models.wan_video_text_encoder import WanTextEncoder
    from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
    from diffsynth.pipelines.wan_video import WanVideoPipeline
    from torchvision.transforms import Normalize

    size = json.loads((options.exchange / "size.json").read_text(encoding="utf-8"))
    weights = torch.load(options.exchange / "weights.pt", weights_only=True, map_location="cpu")
    dtype = getattr(torch, options.dtype)

    def filled(network: Any, name: str) -> Any:
        network.load_state_dict(weights[name])
        return network.to(options.device, dtype).eval()

    def empty(kind: Any) -> Any:
        network = kind.__new__(kind)
        torch.nn.Module.__init__(network)
        return network

    pipe = WanVideoPipeline(device=options.device, torch_dtype=dtype)
    dit = WanModel(
        model_type="i2v",
        in_dim=36,
        dim=size["dim"],
        ffn_dim=size["ffn_dim"],
        freq_dim=size["freq_dim"],
        text_dim=size["text_dim"],
        out_dim=16,
        num_heads=size["heads"],
        num_layers=size["layers"],
        cross_attn_norm=True,
    )
    pipe.dit = filled(dit, "dit")
    vae = empty(WanVideoVAE)
    vae.mean, vae.std, vae.upsampling_factor = weights["scale"]["mean"], weights["scale"]["std"], 8
    vae.scale, vae.model = [vae.mean, 1.0 / vae.std], VideoVAE_(dim=4, z_dim=16)
    pipe.vae = filled(vae, "vae")
    image_encoder = empty(WanImageEncoder)
    image_encoder.model = torch.nn.Module()
    image_encoder.model.image_size = 224
    image_encoder.model.visual = VisionTransformer(
        image_size=224,
        patch_size=14,
        dim=1280,
        mlp_ratio=0.1,
        out_dim=16,
        num_heads=16,
        num_layers=2,
        activation="gelu",
    )
    statistics = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    image_encoder.transforms = SimpleNamespace(transforms=[Normalize(**statistics)])
    pipe.image_encoder = filled(image_encoder, "image_encoder")
    words = {"dim": size["text_dim"], "dim_attn": 16, "dim_ffn": 32, "num_heads": 2, "num_layers": 1, "num_buckets": 8}
    pipe.text_encoder = filled(WanTextEncoder(vocab=VOCABULARY, **words), "text_encoder")
    pipe.prompter.fetch_models(pipe.text_encoder)
    pipe.prompter.tokenizer = tokenize
    pipe.camera_encoder = CamVidEncoder(16, 32, size["dim"]).to(options.device, dtype)
    return pipe


def tokenize(text: str, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """As tests/wan/tiny_wan.py does."""
    words = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in text.split()]
    ids, mask = torch.zeros(1, 512, dtype=torch.long), torch.zeros(1, 512, dtype=torch.long)
    ids[0, : len(words) + 1] = torch.tensor([*words, 1])
    mask[0, : len(words) + 1] = 1
    return ids, mask


# CUDA's autocast on a CPU


def imitated(options: argparse.Namespace) -> bool:
    return options.device == "cpu" and options.dtype == "bfloat16"


T = torch.Tensor
LOW = {
    functional.linear, torch.conv2d, torch.conv3d, torch.matmul, T.matmul, T.__matmul__, torch.bmm, T.bmm, torch.mm,
    T.mm, torch.einsum, functional.scaled_dot_product_attention, torch.addmm, torch.baddbmm,
}  # fmt: skip
HIGH = {
    functional.layer_norm, functional.softmax, torch.softmax, T.softmax, torch.pow, T.pow, T.__pow__, T.__rpow__,
    torch.rsqrt, T.rsqrt, torch.norm, T.norm, torch.exp, T.exp, torch.log, T.log, torch.sum, T.sum, torch.reciprocal,
    T.reciprocal, T.__rtruediv__,
}  # fmt: skip


class Rules(TorchFunctionMode):
    """Casts the arguments of functions as CUDA's autocast does, to the dtype of the innermost block."""

    blocks: list[torch.dtype | None] = []  # noqa: RUF012 - as torch's, the state belongs to the process

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, low = kwargs or {}, self.blocks[-1]
        if low is None:
            return function(*args, **kwargs)
        if function is functional.normalize:  # written in Python: its inner norm would not be seen
            x, dim = args[0], kwargs.get("dim", 1)
            return x / x.float().norm(2.0, dim, keepdim=True).clamp_min(1e-12).expand_as(x)
        permutes = function is torch.einsum and len(args) == 2 and "," not in args[0]
        dtype = low if function in LOW and not permutes else torch.float32 if function in HIGH else None
        if dtype is not None:
            args = tuple(_cast(value, dtype) for value in args)
            kwargs = {name: _cast(value, dtype) for name, value in kwargs.items()}
        return function(*args, **kwargs)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.bfloat16):
        return value.to(dtype)
    return type(value)(_cast(part, dtype) for part in value) if isinstance(value, tuple | list) else value


class Autocast(ContextDecorator):
    """In place of torch.amp.autocast."""

    def __init__(self, device_type: str = "cuda", dtype: torch.dtype | None = None, enabled: bool = True) -> None:
        self.dtype = dtype if enabled else None

    def __enter__(self) -> None:
        Rules.blocks.append(self.dtype)
        self.rules = Rules() if len(Rules.blocks) == 1 else None
        if self.rules is not None:
            self.rules.__enter__()

    def __exit__(self, *error: Any) -> None:
        Rules.blocks.pop()
        if self.rules is not None:
            self.rules.__exit__(*error)


class NoAutocast(Autocast):
    """float32 stays float32."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        pass


if __name__ == "__main__":
    main()
