# SPDX-License-Identifier: Apache-2.0
"""One way to report progress and to cancel, from the slowest loop to the artist's panel."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


@dataclass(frozen=True)
class Progress:
    """Step `i` of `n` of a stage is done."""

    stage: str  # what is being done, as an artist would say it: "Rendering the mesh"
    i: int  # steps done, 0 when the stage begins
    n: int  # steps in this stage, 0 when not known yet
    eta_s: float | None = None  # seconds left, of the stage or also of what follows it; None while estimating
    # What the result looks like so far: a small RGB picture, when there is a new one. [h, w, 3]
    preview: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


ProgressCallback = Callable[[Progress], None]
"""Receives every step. It may raise `errors.Cancelled`, which stops the work."""


def track(items: Iterable[Item], stage: str, progress: ProgressCallback | None, n: int | None = None) -> Iterator[Item]:
    """Yield the items and report each one that the caller has finished.

    Args:
        items: what to go through.
        stage: name of the stage, as an artist would say it.
        progress: receives the reports; None for silence.
        n: how many items there will be; None to ask `len(items)`.
    """
    total = n if n is not None else len(items) if isinstance(items, Sized) else 0
    if progress is not None:
        progress(Progress(stage, 0, total))
    start = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            # Two steps before the first estimate: the first one pays for compilation and cold caches.
            eta_s = (time.monotonic() - start) / done * (total - done) if done >= 2 and total >= done else None
            progress(Progress(stage, done, total, eta_s))
