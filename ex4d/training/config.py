# SPDX-License-Identifier: Apache-2.0
"""What a training run is told: a TOML file, every line checked before anything is loaded. Imports no torch."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ex4d.document import Json
from ex4d.errors import InputError

Sharding = Literal["none", "full"]

# May change between the parts of a run without changing what it would have learned.
FREE = frozenset(
    {"out", "cache", "steps", "batch_size", "accumulation", "sharding", "save_every", "keep", "validate_every"}
    | {"clip_every", "clip_steps", "tensorboard"}
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Paths are relative to the configuration file."""

    dataset: Path  # a folder that `ex4d train prepare` made
    out: Path  # where checkpoints and the log go; a run that is there is continued
    start: str = "release"  # whose weights to start from: release, fresh, or an adapter's file such as ex4d.ckpt
    cache: Path | None = None  # where encoded clips are kept; unset: `latents` in the dataset's folder
    seed: int = 0  # of every random choice
    steps: int = 1000  # of the optimiser, in all
    batch_size: int = 1  # clips that one process computes at once
    accumulation: int = 1  # such batches per step
    learning_rate: float = 1e-4
    warmup_steps: int = 50  # in which the learning rate grows to its full size
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # longest gradient
    ema_decay: float = 0.999  # of the mean of the weights over the last steps, which is what export takes
    erosion_px: int = -1  # side of the block by which masks shrink; -1: 2 to 8 at random, as in the release
    sharding: Sharding = "none"  # full: the network's weights are shared out among all GPUs
    gradient_checkpointing: bool = True  # compute each block twice rather than remember it
    compiled: bool = False  # have torch.compile fuse the small steps of each block; clips of one size
    save_every: int = 100  # steps between checkpoints
    keep: int = 3  # newest checkpoints that stay
    held_out_videos: int = 0  # videos that validation has for itself
    validate_every: int = 100  # steps between validations
    clip_every: int = 0  # steps between painted validation clips, 0 for none
    clip_steps: int = 25  # denoising steps of such a clip
    tensorboard: bool = False  # also write TensorBoard's files
    cpu: bool = False  # compute on the CPU, in float32: for tiny networks

    @property
    def erosion(self) -> int | None:
        """As `conditions.eroded` takes it."""
        return None if self.erosion_px < 0 else self.erosion_px

    def settings(self) -> dict[str, Json]:
        """As JSON has it."""
        return {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(self).items()}

    def deciding(self) -> dict[str, Json]:
        """What may not change while a run goes on."""
        start = Path(self.start).name  # wherever it lies
        return {
            name: start if name == "start" else value
            for name, value in self.settings().items()
            if name not in FREE | {"dataset"}  # its clips are compared, not its place
        }


LIMITS: dict[str, tuple[float, float]] = {  # smallest and largest, both included
    "seed": (0, 2**31 - 1),
    "steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "accumulation": (1, math.inf),
    "learning_rate": (1e-12, 1),
    "warmup_steps": (0, math.inf),
    "weight_decay": (0, 1),
    "clip_norm": (1e-6, 1e6),
    "ema_decay": (0, 0.999999),
    "erosion_px": (-1, 64),
    "save_every": (1, math.inf),
    "keep": (1, math.inf),
    "held_out_videos": (0, math.inf),
    "validate_every": (1, math.inf),
    "clip_every": (0, math.inf),
    "clip_steps": (1, 1000),
}


def read_config(path: Path) -> TrainConfig:
    """Read a configuration.

    Raises:
        InputError: it is missing or no TOML, or keys are unknown, missing, of another type or out of their range; all
            of them are named.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The configuration '{path}' cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration '{path}' is no TOML: {error}.") from error
    types = get_type_hints(TrainConfig)
    values: dict[str, Any] = {}
    faults = [
        f"it lacks {field.name}"
        for field in dataclasses.fields(TrainConfig)
        if field.default is dataclasses.MISSING and field.name not in content
    ]
    for name in content.keys() & types.keys():
        try:
            values[name] = _checked(path, name, content[name], types[name])
        except InputError as error:
            faults.append(str(error))
    if values.get("compiled") and values.get("sharding") == "full":
        faults.append("compiled = true is for sharding = 'none'")
    if unknown := sorted(content.keys() - types.keys()):
        faults.append(f"unknown {', '.join(unknown)}; known are {', '.join(types)}")
    if faults:
        raise InputError(f"'{path}': {'; '.join(sorted(faults))}.")
    start = values.get("start", TrainConfig.start)
    if start not in ("release", "fresh"):
        values["start"] = str(path.parent / start)
    return TrainConfig(**values)


def _checked(path: Path, name: str, value: Any, kind: Any) -> Any:
    """A value of its type and in its range, or InputError."""
    if kind is Sharding:
        if value not in get_args(Sharding):
            raise _refused(name, f"one of {', '.join(get_args(Sharding))}", value)
        return value
    if kind in (Path, Path | None):
        if not isinstance(value, str) or not value:
            raise _refused(name, "a path", value)
        return path.parent / value
    if name == "start" and value == "":
        raise _refused(name, "release, fresh or a file", value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise _refused(name, words[kind], value)
    if name in LIMITS:
        low, high = LIMITS[name]
        if not low <= value <= high:
            asked = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise _refused(name, asked, value)
    return value


def _refused(name: str, expected: str, value: Any) -> InputError:
    return InputError(f"{name} must be {expected}, got {value!r}")
