# SPDX-License-Identifier: Apache-2.0
"""`ex4d train run` and `ex4d train export`: what they take; what they do stands in the modules beside this one."""

import argparse
import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

from ex4d.commands import PAID_WORK, Outcome, TerminalProgress, report
from ex4d.errors import InputError, MachineError

PACKAGES = ("accelerate", "diffsynth", "peft", "safetensors", "torch", "torchvision", "transformers")
Subparsers = Any  # argparse's own type is private and generic over it


def add_run_and_export(commands: Subparsers) -> None:
    """Add `train run` and `train export`."""
    from ex4d.cli import add_command

    command = add_command(
        commands, "run", _run, "tune the adapter on a dataset; again, to go on", "ex4d train run --config train.toml"
    )
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML, see docs/training.md")
    command.add_argument("--json", action="store_true", help="print the outcome as JSON")

    command = add_command(
        commands,
        "export",
        partial(report, steps=(export,)),
        "write what was learned as a file that EX-4D's release and `ex4d generate` load",
        "ex4d train export run --out ex4d.ckpt",
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run's folder, or one of its step-*")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="ex4d.ckpt, or a .safetensors")
    command.add_argument(
        "--last", action="store_true", help="the weights of the last step (default their mean over the last steps)"
    )
    command.add_argument("--json", action="store_true", help="print the outcome as JSON")


def _run(options: argparse.Namespace) -> int:
    from ex4d.training.config import read_config

    config = read_config(options.config)
    need_packages()
    from ex4d.training.run import train

    with TerminalProgress() as progress:
        done = train(config, progress)
    if not done.main:
        return 0
    facts = {
        "checkpoint": str(done.checkpoint),
        "learning": f"{done.learning / 1e6:.1f} M of {(done.learning + done.frozen) / 1e6:.1f} M numbers",
        "clips": f"{done.clips} learned from, {done.held_out} held out",
        "resumed from": str(done.resumed_from) if done.resumed_from else "nothing, it is new",
    }
    return report(options, [lambda _: Outcome(facts)])


def need_packages() -> None:
    """Refuse to go on where packages are missing, or MachineError."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"Training needs the Python packages {', '.join(missing)}, which are not installed. Install them with: "
            "pip install 'ex4d[train]' -c constraints.txt."
        )


def export(options: argparse.Namespace) -> Outcome:
    """`ex4d train export`."""
    from ex4d.training.adapter import count, write_adapter
    from ex4d.training.checkpoints import newest_checkpoint, read_part, read_state

    folder = newest_checkpoint(options.checkpoint) or options.checkpoint
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder of a training run. Name the `out` of its configuration.")
    state = read_state(folder)
    tensors = read_part(folder, "weights" if options.last else "ema")
    write_adapter(options.out, tensors)
    facts = {
        "adapter": str(options.out),
        "step": state.step,
        "tensors": f"{len(tensors)}, {count(tensors.values()) / 1e6:.1f} M numbers",
        "paid work": PAID_WORK[state.commercial_use],
    }
    return Outcome(facts)
