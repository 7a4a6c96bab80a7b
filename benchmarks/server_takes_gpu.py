# SPDX-License-Identifier: Apache-2.0
"""How long an artist waits for takes with Wan2.1 + EX-4D: through the server, from weights on the disk to result.mp4.

    pip install 'ex4d[wan,gpu]' && python benchmarks/server_takes_gpu.py --models EMPTY_FOLDER [--free-gib 23]

Random weights at full size are written there first, as they are published: 46 GB, the DiT in 16 bits (on the hub 32).
The server has a worker for each GPU and lends the others' to the take. Each quality is painted twice: the first take
loads its networks, the second finds them loaded. `--free-gib` takes the rest of the GPU's memory: a smaller card.
"""

import argparse
import json
import math
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import XLMRobertaCLIP
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_
from random_generation import DIT, LORA_RANK, Size, dit_shape, plate, weights
from safetensors.torch import save_file
from server_bench import BenchServer, machine
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ex4d.camera import CameraPath, pinhole_intrinsics, write_camera_path
from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.generation.wan.checkpoint import EX4D_TARGETS
from ex4d.models import MODELS
from ex4d.models.registry import CLIP, EX4D_ADAPTER, T5, TOKENIZER, VAE, WAN_SHARDS
from ex4d.video import write_video
from shared_protocol.client import Client
from shared_protocol.messages import JobEvent, Pictures

SIZE = Size()
ENDS = ("done", "failed", "cancelled")


def publish(root: Path) -> None:
    """Write Wan2.1 and EX-4D with the names that they have on the hub, unless they are there."""
    wan, ex4d = root / MODELS["wan"].repository, root / MODELS["ex4d"].repository
    if (ex4d / EX4D_ADAPTER).exists():
        return
    (wan / TOKENIZER).mkdir(parents=True)
    ex4d.mkdir(parents=True)
    with torch.device("meta"):
        dit = WanModel(has_image_input=True, **dit_shape(SIZE), **DIT)
        networks = {T5: WanTextEncoder(), VAE: VideoVAE_(), CLIP: XLMRobertaCLIP()}
        camera = camera_encoder()
    names = sorted(dit.state_dict())
    shards = {shard: names[number :: len(WAN_SHARDS)] for number, shard in enumerate(WAN_SHARDS)}

    def filled(prefix: str, shapes: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        def fill(name: str) -> torch.Tensor:
            return weights(f"{prefix}.{name}", torch.empty(shapes[name].shape, device=SIZE.device)).to(dtype).cpu()

        return {name: fill(name) for name in shapes}

    def write(file: str) -> None:
        if file in shards:
            part = {name: dit.state_dict()[name] for name in shards[file]}
            save_file(filled("dit", part, torch.bfloat16), wan / file)
        else:
            kept = {name: like for name, like in networks[file].state_dict().items() if "textual" not in name}
            torch.save(filled(file, kept, torch.float32 if file == VAE else torch.bfloat16), wan / file)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [*shards, *networks]))
    index = {name: shard for shard, part in shards.items() for name in part}
    (wan / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (wan / "config.json").write_text(json.dumps({"num_heads": SIZE.heads, "eps": DIT["eps"]}))
    publish_tokenizer(wan / TOKENIZER)
    adapter = {}
    for layer in (f"blocks.{block}.{target}" for block in range(SIZE.layers) for target in EX4D_TARGETS):
        out_width, in_width = dit.get_submodule(layer).weight.shape
        adapter[f"{layer}.lora_A.default.weight"] = torch.empty(LORA_RANK, in_width, device="meta")
        adapter[f"{layer}.lora_B.default.weight"] = torch.empty(out_width, LORA_RANK, device="meta")
    torch.save(filled("ex4d", adapter | camera.state_dict(), torch.float32), ex4d / EX4D_ADAPTER)


def publish_tokenizer(folder: Path) -> None:
    """One that knows no words."""
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "spiece.model").write_bytes(b"not read")


def footage(folder: Path) -> tuple[Path, Path]:
    """A plate, and a camera that moves aside."""
    color, _ = plate(Size(device=torch.device("cpu")))
    write_video(folder / "plate.mp4", color, Fraction(24), "h264")
    poses = np.tile(np.eye(4), (SIZE.frames, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.3, SIZE.frames)
    lens = np.tile(pinhole_intrinsics(SIZE.width, SIZE.width, SIZE.height), (SIZE.frames, 1, 1))
    cameras = CameraPath(poses, lens, SIZE.width, SIZE.height, np.arange(SIZE.frames, dtype=float))
    write_camera_path(folder / "camera.npz", cameras)
    return folder / "plate.mp4", folder / "camera.npz"


def do(client: Client, kind: str, params: dict[str, Any], inputs: dict[str, Any]) -> tuple[JobEvent, dict[str, float]]:
    """Run a job; returns its end, and when each stage began."""
    began, stages = time.monotonic(), {}
    job_id = uuid.uuid4().hex
    client.submit(job_id, kind, params, inputs, makes=Pictures(SIZE.width, SIZE.height, SIZE.frames))
    client.subscribe(job_id)
    while True:
        for message in client.poll(0.1):
            if isinstance(message, JobEvent) and message.name in ENDS:
                return message, stages | {"the end": time.monotonic() - began}
            if not isinstance(message, JobEvent):
                stages.setdefault(message.stage, time.monotonic() - began)


@contextmanager
def most_memory(server: psutil.Process) -> Iterator[Callable[[], float]]:
    """The most main memory that one of a server's processes had for itself, mapped files not counted. GiB"""
    most, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            for process in server.children(recursive=True):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    most[0] = max(most[0], int(status.split("RssAnon:")[1].split()[0]) / 2**20)
                except (OSError, IndexError):  # it has ended
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield lambda: most[0]
    stop.set()
    thread.join()


def measure(client: Client, server: psutil.Process, qualities: list[str], folder: Path) -> None:
    """Reconstruct a shot and paint it, twice with each quality."""
    clip, camera = footage(folder)
    shot, _ = do(client, "reconstruct", {"depth": "preview"}, {"plate": (client.upload(clip), clip.name)})
    made = {output.role: (output.artifact, output.role) for output in shot.outputs}
    inputs = {name: made[name] for name in ("shot.json", "plate.mkv", "depth.npz")}
    inputs["camera.npz"] = (client.upload(camera), camera.name)
    for seed, quality in enumerate(quality for quality in qualities for _ in range(2)):
        params = {"name": f"t{seed}", "engine": "wan", "quality": quality, "seed": seed}
        with most_memory(server) as most:
            end, stages = do(client, "take", params, inputs)
            memory = f"{most():.1f} GiB of main memory at most"
        assert end.name == "done", end
        [record] = [output for output in end.outputs if output.role == "take.json"]
        client.download(record.artifact, folder / "take.json")
        settings = json.loads((folder / "take.json").read_text())["settings"]
        print(f"{quality}: {stages['the end']:.1f} s on {settings['gpus']} GPUs, {memory}; {settings['memory']}")
        print("  ", ", ".join(f"{stage} {at_s:.1f}" for stage, at_s in stages.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--qualities", nargs="+", default=["lossless", "fp8"])
    parser.add_argument("--free-gib", type=float, default=math.inf)
    arguments = parser.parse_args()
    publish(arguments.models)
    print(f"{machine()}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}", flush=True)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    held = torch.empty(int(free - min(free, arguments.free_gib * 2**30)), dtype=torch.uint8, device="cuda")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"EX4D_HOME": folder, "EX4D_MODELS": str(arguments.models), "EX4D_CACHE": f"{folder}/cache"}
        server = BenchServer(Path(folder) / "home", "--job-runner", "ex4d.jobs:run_job")
        server.start()
        assert server.process is not None
        try:
            with server.client() as client:
                measure(client, psutil.Process(server.process.pid), arguments.qualities, Path(folder))
        finally:
            server.stop()
    del held


if __name__ == "__main__":
    main()
