# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind so that it can go on exactly where it was: a folder per checkpoint, whole or not there.

step-00000100/
    weights.safetensors     what learns, under the names of ex4d.ckpt
    ema.safetensors         its mean over the last steps; this is what export takes
    optimiser.safetensors   AdamW's two moments, NAME.exp_avg and NAME.exp_avg_sq
    state.json              step, clips seen, settings; from them follow learning rate, order of clips and all noise
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ex4d.document import Json, read_document, write_document
from ex4d.errors import InputError, ShotError, StorageError
from ex4d.generation.wan.tensors import read_tensors

SCHEMA = 1
STATE = "state.json"
PARTS = ("weights", "ema", "optimiser")
REMEDY = "Remove its folder: training goes on from the checkpoint before it."


@dataclass(frozen=True)
class State:
    """What of a run is no tensor."""

    step: int  # of the optimiser, done
    clips_seen: int  # by all processes together
    settings: dict[str, Json]  # that may not change while the run goes on
    dataset: str  # names the clips that are learned from
    commercial_use: bool | None  # whether their depth allows paid work; None when only its maker knows


@dataclass(frozen=True)
class Checkpoint:
    """A run at one of its steps. Tensors lie in main memory."""

    state: State
    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into the folder of a run.

    Returns:
        Its folder.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    folder = run / f"step-{checkpoint.state.step:08d}"
    temporary = run / f".{folder.name}.{os.getpid()}.part"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            save_file(dict(getattr(checkpoint, part)), temporary / f"{part}.safetensors")
        write_document(temporary / STATE, SCHEMA, asdict(checkpoint.state))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f"The checkpoint '{folder}' cannot be written: {reason}. Free some space, then start again."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def newest_checkpoint(run: Path) -> Path | None:
    """The folder of a run's last checkpoint, None when it has none."""
    return max(_checkpoints(run), default=None)


def remove_old(run: Path, keep: int) -> None:
    """Leave only the newest checkpoints of a run."""
    for folder in sorted(_checkpoints(run))[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def read_state(folder: Path) -> State:
    """Read what of a checkpoint is no tensor.

    Raises:
        InputError: this is no checkpoint, or one of a newer version.
    """
    try:
        fields = read_document(folder / STATE, SCHEMA)
        return State(
            step=fields.integer("step"),
            clips_seen=fields.integer("clips_seen"),
            settings=fields.json_object("settings"),
            dataset=fields.text("dataset"),
            commercial_use=fields.optional_boolean("commercial_use"),
        )
    except ShotError as error:
        raise InputError(f"'{folder}' is no checkpoint of a training run that can be read here. {error}") from error


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: this is no checkpoint, or one of a newer version.
        MachineError: a file of it is missing or damaged.
    """
    return Checkpoint(read_state(folder), *(read_part(folder, part) for part in PARTS))


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one of `PARTS`, or MachineError."""
    return read_tensors(folder / f"{part}.safetensors", REMEDY)


def _checkpoints(run: Path) -> list[Path]:
    return [path for path in run.glob("step-*") if (path / STATE).is_file()]
