# SPDX-License-Identifier: Apache-2.0
"""`ex4d train run`: from a configuration and the published weights to checkpoints of an adapter."""

import contextlib
import gc
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    Accelerator,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)

from ex4d.errors import InputError, MachineError
from ex4d.generation.wan.files import WanFiles, text_encoder_id, wan_files
from ex4d.generation.wan.loading import (
    load_camera_encoder,
    load_dit,
    load_image_encoder,
    load_text_encoder,
    load_vae,
)
from ex4d.generation.wan.models import WanModels
from ex4d.models import MODELS, find_weights
from ex4d.models.registry import EX4D_ADAPTER
from ex4d.progress import ProgressCallback
from ex4d.training.adapter import count, fill, fresh_camera_encoder, named, read_start, tensors_of, with_fresh_lora
from ex4d.training.config import TrainConfig
from ex4d.training.dataset import Dataset
from ex4d.training.journal import Journal, need_tensorboard
from ex4d.training.latents import LatentCache, encode_missing, encoders_id
from ex4d.training.lock import only_writer
from ex4d.training.loop import Trainer
from ex4d.training.network import TrainedNetwork
from ex4d.training.painting import Painter
from ex4d.training.selection import select

CPU = torch.device("cpu")
WAIT = timedelta(hours=2)  # for other processes: some have longer clips to encode than others


@dataclass(frozen=True)
class Trained:
    """What a run did."""

    checkpoint: Path  # its last one
    resumed_from: Path | None
    learning: int  # numbers in the adapter
    frozen: int  # numbers in the rest of the network
    clips: int  # learned from
    held_out: int
    main: bool  # whether this process speaks for all


def train(config: TrainConfig, progress: ProgressCallback | None = None) -> Trained:
    """Tune the adapter.

    Args:
        config: see there.
        progress: told about clips that are encoded, blocks that are loaded and steps; it may cancel.

    Raises:
        InputError: the configuration does not fit the dataset or an earlier run in the same folder.
        MachineError: a GPU, a package or weights are missing.
        Cancelled: the user stopped it; it goes on from there.
        NonFiniteError: the loss is no number any more.
    """
    accelerator = accelerator_for(config)
    with only_writer(config.out) if accelerator.is_main_process else contextlib.nullcontext():
        return _trained(config, accelerator, progress)


def _trained(config: TrainConfig, accelerator: Accelerator, progress: ProgressCallback | None) -> Trained:
    dataset = Dataset(config.dataset)
    records = dataset.index.records
    chosen = select(records, config.held_out_videos, config.batch_size, config.compiled)
    if config.tensorboard:
        need_tensorboard()
    files = _files(config)
    main = accelerator.is_main_process
    shown = progress if main else None
    encoders = _encoders(config, files, accelerator.device)
    seen_by = encoders_id(files, encoders.dtype)
    cache = LatentCache(config.cache or config.dataset / "latents", seen_by, config.erosion)
    every = [*chosen.learned, *chosen.held_out]
    encode_missing(cache, dataset, every[accelerator.process_index :: accelerator.num_processes], encoders, shown)
    painter = None
    if config.clip_every:
        painter = Painter(encoders, dataset[(chosen.held_out or chosen.learned)[0]], config)
        painter.prepare()
    del encoders
    gc.collect()
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    accelerator.wait_for_everyone()

    network = _network(config, files, accelerator.device, shown)
    learning = count(named(network).values())
    frozen = count(network.parameters()) - learning
    trainer = Trainer(
        config,
        accelerator,
        network,
        lambda numbers: cache.lesson([records[number] for number in numbers]),
        chosen,
    )
    resumed = trainer.resume()
    with Journal(config.out, main, config.tensorboard) as journal:
        clips = len(chosen.learned)
        journal.event("started", step=trainer.step, learning=learning, clips=clips, settings=config.settings())
        trainer.run(journal, shown, painter)
    accelerator.end_training()
    last = config.out / f"step-{trainer.step:08d}"
    return Trained(last, resumed, learning, frozen, clips, len(chosen.held_out), main)


def _dtype(config: TrainConfig) -> torch.dtype:
    """Of the frozen weights."""
    return torch.float32 if config.cpu else torch.bfloat16


def _files(config: TrainConfig) -> WanFiles:
    if config.start in ("release", "fresh"):
        # A fresh start reads no adapter.
        start = find_weights(MODELS["ex4d"]) / EX4D_ADAPTER if config.start == "release" else Path(EX4D_ADAPTER)
    else:
        start = Path(config.start)
    return wan_files(find_weights(MODELS["wan"]), start)


def accelerator_for(config: TrainConfig) -> Accelerator:
    """Alone, or one of the processes that `accelerate launch` started."""
    if not (config.cpu or torch.cuda.is_available()):
        raise MachineError("Training needs an NVIDIA GPU that torch can use; there is none. `ex4d doctor` says more.")
    sharding = None
    if config.sharding == "full":
        sharding = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=True,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["TrainedBlock"],
            cpu_ram_efficient_loading=False,
        )
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision="no",  # the network says itself what is rounded where
        fsdp_plugin=sharding,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
    )
    if sharding is not None and accelerator.num_processes == 1:
        raise InputError("sharding = 'full' needs several processes to share among: start them by `accelerate launch`.")
    return accelerator


def _encoders(config: TrainConfig, files: WanFiles, device: torch.device) -> WanModels:
    """What sees and reads the clips."""
    dtype = _dtype(config)
    return WanModels(
        dit=None,
        vae=load_vae(files, device, dtype),
        image_encoder=load_image_encoder(files, device, dtype),
        camera_encoder=None,
        load_text_encoder=lambda: load_text_encoder(files, dtype),
        text_encoder_id=text_encoder_id(files),
        device=device,
        dtype=dtype,
    )


def _network(
    config: TrainConfig, files: WanFiles, device: torch.device, progress: ProgressCallback | None
) -> TrainedNetwork:
    """The network as training starts."""
    dtype = _dtype(config)
    # Sharding takes the blocks to the GPU one by one and keeps a part of each.
    dit = load_dit(files, CPU if config.sharding == "full" else device, dtype, progress=progress)
    adapter = None if config.start == "fresh" else read_start(files.adapter, dit)
    with_fresh_lora(dit, config.seed)
    if adapter is None:
        encoder = fresh_camera_encoder(dit.dim, seed=config.seed)
    else:
        encoder = load_camera_encoder(adapter, dit.dim, CPU, torch.float32)
    network = TrainedNetwork(dit, encoder, dtype, config.gradient_checkpointing, config.compiled)
    if adapter is not None:
        fill(named(network), tensors_of(adapter), adapter.source)
    return network
