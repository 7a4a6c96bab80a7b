# SPDX-License-Identifier: Apache-2.0
"""What a take would need on this server: asked of a process of its own, with what the server has measured."""

import asyncio
import json
import subprocess
import sys
from typing import Any

from ex4d.errors import MachineError
from ex4d.pipes import helper_environment
from shared_protocol.fields import to_plain
from shared_protocol.launch import NO_WINDOW
from shared_protocol.messages import AskEstimate, Estimate

from .store import Store

PLANNING_S = 60.0  # a cold disk takes long to read what painting imports


class Estimator:
    """Foretells one take at a time.

    Args:
        store: knows what was measured.
        elsewhere: other machines do the jobs, so that this one's GPU says nothing.
    """

    def __init__(self, store: Store, elsewhere: bool = False) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._turn = asyncio.Lock()

    async def estimate(self, asked: AskEstimate, ahead: int) -> Estimate:
        """What the take would need.

        Raises:
            MachineError: the process that thinks about it failed.
        """
        async with self._turn:
            done = [
                [take.params, {"width": take.width, "height": take.height, "count": take.pictures}, take.seconds]
                for take in self._store.takes_done()
            ]
            question = {"params": asked.params, "makes": to_plain(asked.makes), "done": done}
            question["elsewhere"] = self._elsewhere
            known = await asyncio.to_thread(_think, question)
        known["notices"] = tuple(known["notices"])
        return Estimate(**known, ahead=ahead)


def _think(question: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "server.planning"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=PLANNING_S,
            check=True,
            env=helper_environment({}),
            creationflags=NO_WINDOW,
        )
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        raise MachineError(f"The take could not be estimated: {' '.join(said)}") from error
    known: dict[str, Any] = json.loads(answer.stdout)
    return known
