# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's networks where a memory plan puts them, on one GPU or shared among several."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from diffsynth.models.wan_video_dit import WanModel

from ex4d.generation.wan.arrival import arrive
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.denoise import Velocity, guided
from ex4d.generation.wan.fast_forward import FastForward
from ex4d.generation.wan.files import WanFiles, text_encoder_id
from ex4d.generation.wan.fp8 import require_fp8
from ex4d.generation.wan.loading import load_models, load_text_encoder
from ex4d.generation.wan.memory_plan import MemoryPlan
from ex4d.generation.wan.models import TextEncoder, WanModels
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.parallel import Team
from ex4d.generation.wan.pipeline import WanPipeline, velocity_of
from ex4d.generation.wan.prompts import prompt_embeddings
from ex4d.generation.wan.sharing import SHARED_NETWORK, sharing_arguments
from ex4d.generation.wan.streaming import StreamedBlocks
from ex4d.generation.wan.tiny_decoder import find_tiny_decoder
from ex4d.progress import ProgressCallback

CPU = torch.device("cpu")


class Networks:
    """The networks of one quality, ready to paint."""

    def __init__(
        self,
        files: WanFiles,
        mode: Mode,
        plan: MemoryPlan,
        device: torch.device,
        dtype: torch.dtype = torch.bfloat16,
        progress: ProgressCallback | None = None,
        others: Sequence[torch.device] = (),
        at_once: int | None = None,
    ) -> None:
        """Load them.

        Args:
            files: what was found.
            mode: its arithmetic; modes which differ in their steps alone share networks.
            plan: where each network lives.
            device: where they compute.
            dtype: of the weights.
            progress: told after every block of the DiT; it may cancel.
            others: devices that compute the DiT together with this one; only where nothing streams.
            at_once: how many of the others load at the same time; None: all.

        Raises:
            MachineError: a file is damaged, the GPU cannot compute in 8 bits, or a process of another one failed.
            InputError: a LoRA is for another model.
        """
        if mode.fp8:
            require_fp8(device)
        self._team: Team | None = None
        if others:  # they load while this process does
            arguments = sharing_arguments(files, mode, dtype)
            self._team = Team([device, *others], SHARED_NETWORK, arguments, at_once=at_once)
        crosses_stay = plan.crosses == "gpu"
        streams = plan.streams or not crosses_stay

        def each_block(dit: WanModel, number: int) -> None:
            arrive(dit, number, fp8=mode.fp8, resident=plan.resident_blocks, crosses_stay=crosses_stay)
            if self._team is not None:
                self._team.check()

        try:
            models = load_models(
                files,
                device,
                dtype,
                mode.precision,
                encoders_device=CPU if plan.encoders == "visits" else None,
                each_block=each_block,
                progress=progress,
            )
            if self._team is not None:
                self._team.meet(progress)
        except BaseException:
            if self._team is not None:
                self._team.close()
            raise
        self._files, self._dtype = files, dtype
        self._text_encoder: TextEncoder | None = None
        self.keep_text_encoder = False
        self.previews, self.notices = find_tiny_decoder(device, dtype)
        self.models = replace(models, load_text_encoder=self._load_text_encoder)
        self._blocks: StreamedBlocks | None = None
        if streams:
            self._blocks = StreamedBlocks(models.dit, device, plan.resident_blocks, crosses_stay=crosses_stay)
        guide = guided if self._team is None else self._team.guide
        self.pipeline = WanPipeline(self.models, bind=self._bind, guide=guide)

    @property
    def whole(self) -> bool:
        """Whether all processes that share the DiT are there."""
        return self._team is None or self._team.alive

    def rest(self) -> None:
        """Give back what only a job needs."""
        if self._blocks is not None:
            self._blocks.release()
        if not self.keep_text_encoder:
            self._text_encoder = None

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Have the DiT wait in main memory, so that the text encoder has the GPU to itself."""
        dit, device = self.models.dit, self.models.device
        if self._blocks is not None:
            self._blocks.park()
        else:
            dit.to(CPU)
        try:
            yield
        finally:
            if self._blocks is not None:
                self._blocks.resume()
            else:
                dit.to(device)

    def close(self) -> None:
        """Free the memory. The networks are of no use afterwards."""
        if self._team is not None:
            self._team.close()
        if self._blocks is not None:
            self._blocks.close()
        self._text_encoder = None
        del self.pipeline, self.models, self.previews, self._blocks, self._team

    def _bind(self, models: WanModels, conditions: Conditions, mode: Mode) -> Velocity:
        if self._team is not None:
            return self._team.bind(models, conditions, mode)
        if self._blocks is not None:
            return FastForward(models.dit, conditions, mode, blocks=self._blocks)
        return velocity_of(models, conditions, mode)

    def _load_text_encoder(self) -> TextEncoder:
        if self._text_encoder is not None:
            return self._text_encoder
        encoder = load_text_encoder(self._files, self._dtype)
        if self.keep_text_encoder:
            self._text_encoder = encoder._replace(network=encoder.network.to(self.models.device))
            return self._text_encoder
        return encoder


def read_prompts(
    files: WanFiles,
    prompts: Sequence[str],
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    progress: ProgressCallback | None = None,
) -> None:
    """Have the text encoder alone on the GPU read prompts, and keep on disk what it says of them."""
    models = WanModels(
        dit=None,
        vae=None,
        image_encoder=None,
        camera_encoder=None,
        load_text_encoder=lambda: load_text_encoder(files, dtype),
        text_encoder_id=text_encoder_id(files),
        device=device,
        dtype=dtype,
    )
    prompt_embeddings(models, prompts, progress)
    free_memory()


def free_memory() -> None:
    """Give what nobody holds back to the GPU's other programs."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
