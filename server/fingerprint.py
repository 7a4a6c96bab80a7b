# SPDX-License-Identifier: Apache-2.0
"""Two requests that ask for the same under the same circumstances have the same key, and one result.

Circumstances are everything beside the request that may change a result: our code, the installed packages, the GPUs and
the model weights on this machine (which decide what `auto` means).
"""

import contextlib
import hashlib
import json
import stat
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distributions

from ex4d.code_hash import code_hash
from ex4d.models.places import UNFINISHED, hub_cache, models_root
from shared_protocol.fields import to_plain
from shared_protocol.messages import InputRef

_WEIGHTS_MEMORY_S = 5.0  # how long the list of weights is believed


class Circumstances:
    """What this server's results depend on.

    Args:
        runner: module:function that does the jobs.
        gpus: names of the GPUs.
    """

    def __init__(self, runner: str, gpus: tuple[str, ...] = ()) -> None:
        packages = sorted({f"{each.metadata['Name']} {each.version}" for each in distributions()})
        self._fixed = [runner, list(gpus), sys.version, packages, code_hash(runner)]
        self._weights: list[str] = []
        self._weights_seen_s = -_WEIGHTS_MEMORY_S

    def result_key(self, kind: str, params: dict[str, object], inputs: tuple[InputRef, ...]) -> str:
        """The key of a request. File names count: they stand in what a job writes."""
        if time.monotonic() - self._weights_seen_s > _WEIGHTS_MEMORY_S:
            self._weights, self._weights_seen_s = _weights(), time.monotonic()
        content = [kind, params, to_plain(inputs), self._fixed, self._weights]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _weights() -> list[str]:
    """The files of the models folder by size and time, and the snapshots in the Hugging Face cache by commit."""
    hub = hub_cache()
    snapshots = (str(path.relative_to(hub)) for path in hub.glob("models--*/snapshots/*"))
    return sorted([*_models(), *snapshots])


def _models() -> Iterator[str]:
    for place in models_root().glob("*/*"):  # a model's folder, which may be a link, or a LoRA
        for path in [place, *place.resolve().rglob("*")]:
            with contextlib.suppress(OSError):  # dropped meanwhile
                status = path.stat()
                if stat.S_ISREG(status.st_mode) and path.suffix != UNFINISHED:
                    yield f"{path} {status.st_size} {status.st_mtime_ns}"
