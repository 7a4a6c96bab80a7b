# SPDX-License-Identifier: Apache-2.0
"""A network of one multiplication in the processes of a team, and the ways in which such a process is lost."""

import os
import signal
import stat
import sys
import time
from pathlib import Path

import torch

from ex4d.errors import MachineError
from ex4d.generation.wan.denoise import Velocity
from ex4d.generation.wan.parallel import Network


def bind(conditions, mode, sharding) -> Velocity:
    """Each forward is an exchange of tokens, where the tokens are shared."""

    def forward(latents: torch.Tensor, timestep: torch.Tensor, branch: str) -> torch.Tensor:
        tokens = latents.reshape(1, -1, 1)
        if sharding is not None:
            tokens = sharding.whole(sharding.share(tokens) * 2) / 2
        return (tokens * conditions.context[branch].mean()).reshape(latents.shape)

    return forward


def network(device: torch.device, dies: str = "", at: int = 0, folder: str = "") -> Network:
    """
    Args:
        device: of the process.
        dies: how the process ends: killed, fails, hangs (killed by the test), or runs out of memory.
        at: in which of its forwards.
        folder: only the process that comes there first does, and leaves its number; without it every one does.
    """
    left = at + 1

    def bound(conditions, mode, sharding) -> Velocity:
        velocity = bind(conditions, mode, sharding)

        def forward(*asked) -> torch.Tensor:
            nonlocal left
            left -= 1
            if left == 0 and dies and (not folder or first(Path(folder))):
                die(dies)
            return velocity(*asked)

        return forward

    return bound


def die(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(600)
    if how == "runs out":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    raise MachineError("Too little of everything.")


def loading(device: torch.device, folder: str, then: str = "") -> Network:
    """Writes that it loads; `then`: others (waits until two do), unless another one already does (alone), or dies."""
    mark = Path(folder) / f"loading {os.getpid()}"
    mark.touch()
    end = time.monotonic() + 60
    if then == "others":
        while len(list(Path(folder).glob("loading *"))) < 2:
            assert time.monotonic() < end, "the others do not load at the same time"
            time.sleep(0.02)
    elif then == "alone":
        time.sleep(0.5)
        assert list(Path(folder).glob("loading *")) == [mark], "another one loads at the same time"
        mark.rename(Path(folder) / f"loaded {os.getpid()}")
    elif then == "one fails":
        if first(Path(folder)):
            raise MachineError("Wan2.1's weights are missing. Run 'ex4d models download'.")
        die("hangs")
    elif then:
        die(then)
    return bind


def first(folder: Path) -> bool:
    """Whether this process is the one that came first."""
    try:
        with (folder / "first").open("x") as file:
            file.write(f"{os.getpid()}\n")
    except FileExistsError:
        return False
    return True


def dies_before_it_meets(device: torch.device) -> Network:
    """Says that it is ready, and is gone when the others look for it."""
    sys.modules["__main__"].Ranks.meet = lambda ranks: die("killed")
    return bind


def dies_in_the_middle_of_a_word(device: torch.device) -> Network:
    """Its last message is cut off."""
    for number in range(3, 32):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, b'{"t": "rea')
        except OSError:  # not open, or not to be written
            continue
    os.kill(os.getpid(), signal.SIGKILL)
    return bind
