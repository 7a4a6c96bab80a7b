# SPDX-License-Identifier: Apache-2.0
"""Learning, step after step, on one GPU or on many through accelerate; it can be stopped and goes on exactly there."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ex4d.errors import Cancelled, InputError
from ex4d.generation.wan.finite import NonFiniteError
from ex4d.progress import Progress, ProgressCallback
from ex4d.training.adapter import fill, named, whole
from ex4d.training.checkpoints import (
    Checkpoint,
    State,
    newest_checkpoint,
    read_checkpoint,
    remove_old,
    write_checkpoint,
)
from ex4d.training.config import TrainConfig
from ex4d.training.journal import Journal
from ex4d.training.latents import Lesson
from ex4d.training.loss import flow_losses, noise_levels, noisy
from ex4d.training.network import TrainedNetwork, fastest_attention
from ex4d.training.order import Draw, draw_at, fixed_draws, sample_at
from ex4d.training.selection import Selection
from ex4d.training.stopping import StopRequest

BETAS = (0.9, 0.999)  # torch's own
MOMENTS = ("exp_avg", "exp_avg_sq")
UNSET = {"compiled": False}  # settings that older checkpoints do not name
VALIDATION_DRAWS = 4  # noise levels at which a clip of the validation is judged

ReadLesson = Callable[[Sequence[int]], Lesson]
"""Clips of the dataset by their numbers, as a batch in main memory."""


class Trainer:
    """A network, what it learns from, and how far it is."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        network: TrainedNetwork,
        read: ReadLesson,
        chosen: Selection,
    ) -> None:
        """Make everything ready; `resume` goes on from a checkpoint.

        Args:
            config: see there.
            accelerator: of this process; it wraps the network.
            network: as it starts.
            read: reads clips.
            chosen: the clips.
        """
        self.config, self.accelerator = config, accelerator
        self.step, self.clips_seen = 0, 0
        self._read, self._chosen = read, chosen
        self._levels = noise_levels()
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=config.learning_rate, betas=BETAS, weight_decay=config.weight_decay)
        self.network: nn.Module
        self.network, self._optimiser = accelerator.prepare(network, optimiser)
        self.parameters = named(self.network)
        self.ema = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self._batch = config.batch_size * accelerator.num_processes  # clips that are computed at once

    def run(
        self,
        journal: Journal,
        progress: ProgressCallback | None = None,
        paint: Callable[["Trainer"], None] | None = None,
    ) -> None:
        """Learn until the last step.

        Args:
            journal: is told the loss of every step.
            progress: told after every step; it may cancel.
            paint: makes a validation clip.

        Raises:
            Cancelled: the user stopped the run, by signal or through `progress`; it was saved before.
            NonFiniteError: the loss or its gradient is no number.
            StorageError: a checkpoint could not be written.
        """
        config = self.config
        with StopRequest() as stop, fastest_attention():
            started, first = time.monotonic(), self.step
            while self.step < config.steps:
                began = time.monotonic()
                loss, norm, stopping = self._learn(stop.asked)
                seconds = time.monotonic() - began
                rate = self.learning_rate(self.step - 1)
                journal.numbers(self.step, loss=loss, gradient=norm, learning_rate=rate, seconds=seconds)
                if self._chosen.held_out and self._due(config.validate_every):
                    journal.numbers(self.step, validation_loss=self.validate())
                if stopping or self._due(config.save_every):
                    self.save()
                if stopping and self.step < config.steps:
                    raise Cancelled(
                        f"Stopped after step {self.step} of {config.steps}; its checkpoint is written. The same "
                        "command goes on from there."
                    )
                if paint is not None and config.clip_every and self._due(config.clip_every):
                    paint(self)
                left_s = (time.monotonic() - started) / (self.step - first) * (config.steps - self.step)
                _tell(progress, Progress("Training", self.step, config.steps, left_s), stop)

    def learning_rate(self, step: int) -> float:
        """Of a step, counted from 0: it grows evenly, then stays."""
        return self.config.learning_rate * min(1.0, (step + 1) / max(1, self.config.warmup_steps))

    def validate(self) -> float:
        """The loss of the clips that were held out, with the averaged weights, always the same noise and levels."""
        accelerator, count = self.accelerator, len(self._chosen.held_out)
        total = torch.zeros((), device=accelerator.device)
        with torch.no_grad(), self.averaged():
            # Every process computes as often as the others: sharded weights are gathered together.
            for first in range(0, count, accelerator.num_processes):
                place = first + accelerator.process_index
                lesson = self._read([self._chosen.held_out[place % count]])
                draws = fixed_draws(
                    place % count, lesson.clean.shape[1:], self._levels, VALIDATION_DRAWS, self.config.seed
                )
                loss = sum(self._losses(lesson, [draw]).sum() for draw in draws) / len(draws)
                total += loss if place < count else 0
        return float(accelerator.reduce(total, "sum")) / count

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the network work with the mean of its weights over the last steps."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(self.ema[name])
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(kept[name])

    def save(self) -> None:
        """Write a checkpoint; all processes take part."""
        state = State(
            self.step, self.clips_seen, self.config.deciding(), self._chosen.digest, self._chosen.commercial_use
        )
        if self.accelerator.is_main_process or self.config.sharding == "full":
            weights = {name: whole(parameter) for name, parameter in self.parameters.items()}
            ema = {name: whole(mean) for name, mean in self.ema.items()}
            moments = {
                f"{name}.{moment}": whole(self._optimiser.state[parameter][moment])
                for name, parameter in self.parameters.items()
                for moment in MOMENTS
            }
        if self.accelerator.is_main_process:
            write_checkpoint(self.config.out, Checkpoint(state, weights, ema, moments))
            remove_old(self.config.out, self.config.keep)
        self.accelerator.wait_for_everyone()

    def resume(self) -> Path | None:
        """Go on from the run's newest checkpoint.

        Returns:
            Its folder; None when there is none.

        Raises:
            InputError: it was made with other settings or other clips.
            MachineError: it is damaged.
        """
        folder = newest_checkpoint(self.config.out)
        if folder is None:
            return None
        found = read_checkpoint(folder)
        self._check(folder, found.state)
        moments = {
            f"{name}.{moment}": torch.zeros_like(parameter)
            for name, parameter in self.parameters.items()
            for moment in MOMENTS
        }
        fill(self.parameters, found.weights, str(folder))
        fill(self.ema, found.ema, str(folder))
        fill(moments, found.optimiser, str(folder))
        for name, parameter in self.parameters.items():
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(found.state.step)),
                **{moment: moments[f"{name}.{moment}"] for moment in MOMENTS},
            }
        self.step, self.clips_seen = found.state.step, found.state.clips_seen
        return folder

    def _check(self, folder: Path, state: State) -> None:
        ours = self.config.deciding()
        theirs = {**UNSET, **state.settings}
        changed = [f"{name} was {theirs.get(name)}" for name in ours if ours[name] != theirs.get(name)]
        if state.dataset != self._chosen.digest:
            changed.append("its clips were others")
        if changed:
            raise InputError(
                f"'{folder}' is of a run with other settings: {', '.join(changed)}. Set them back, or choose another "
                "folder for 'out'; 'start' can be an adapter that was exported from this one."
            )

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _learn(self, stop: bool) -> tuple[float, float, bool]:
        """One step of the optimiser.

        Returns:
            Loss, length of the gradient, and whether any process was asked to stop.
        """
        config, accelerator = self.config, self.accelerator
        loss = torch.zeros((), device=accelerator.device)
        for part in range(config.accumulation):
            last = part == config.accumulation - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.network):
                losses = self._losses(*self._batch_at(self.clips_seen + part * self._batch))
                accelerator.backward(losses.mean() / config.accumulation)
            loss += losses.detach().mean() / config.accumulation
        both = accelerator.reduce(torch.stack([loss, torch.full_like(loss, float(stop))]), "mean")
        norm = self._clip()
        number = self.step + 1
        if not (torch.isfinite(both[0]) and torch.isfinite(norm)):
            raise NonFiniteError(
                f"Training broke down in step {number} of {config.steps}: the loss is {float(both[0])}, its gradient "
                f"{float(norm)}. The checkpoints before it are whole. Lower learning_rate, in another folder 'out'."
            )
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self._optimiser.step()
        self._optimiser.zero_grad()
        # At first the mean follows quickly, so that it is of use after a few steps: as in TensorFlow's and diffusers'.
        decay = min(config.ema_decay, (1 + number) / (10 + number))
        with torch.no_grad():
            means, now = list(self.ema.values()), [parameter.detach() for parameter in self.parameters.values()]
            get_ema_multi_avg_fn(decay)(means, now, number)
        self.step = number
        self.clips_seen += config.accumulation * self._batch
        return float(both[0]), float(norm), bool(both[1] > 0)

    def _batch_at(self, position: int) -> tuple[Lesson, list[Draw]]:
        """This process's part of a batch that begins at a position of the endless sequence of clips."""
        seed, count = self.config.seed, len(self._chosen.learned)
        first = position + self.accelerator.process_index * self.config.batch_size
        places = range(first, first + self.config.batch_size)
        lesson = self._read([self._chosen.learned[sample_at(place, count, seed)] for place in places])
        return lesson, [draw_at(place, lesson.clean.shape[1:], self._levels, seed) for place in places]

    def _losses(self, lesson: Lesson, draws: Sequence[Draw]) -> Tensor:
        """[B]"""
        device = self.accelerator.device
        noise, timesteps, sigmas, weights = (torch.stack(part).to(device) for part in zip(*draws, strict=True))
        lesson = lesson.to(device)
        clean = lesson.clean.float()
        answer = self.network(noisy(clean, noise, sigmas), timesteps, lesson.seen, lesson.words)
        return flow_losses(answer, clean, noise, weights)

    def _clip(self) -> Tensor:
        """Shorten the gradient; its length before that."""
        norm: Any = nn.utils.clip_grad_norm_(list(self.parameters.values()), self.config.clip_norm)
        full: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return full


def _tell(progress: ProgressCallback | None, report: Progress, stop: StopRequest) -> None:
    """Report; who cancels there is answered after the next step, for all processes have to know."""
    if progress is not None:
        try:
            progress(report)
        except Cancelled:
            stop.asked = True
