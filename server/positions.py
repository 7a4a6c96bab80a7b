# SPDX-License-Identifier: Apache-2.0
"""Where waiting jobs stand, and when they should be done, from how long jobs like them took."""

import math
import statistics
from collections.abc import Sequence

from .store import Store, StoredJob

NEIGHBOURS = 5  # the past jobs nearest in size whose median is the estimate

Position = tuple[int, float | None]
"""Jobs that come first, and the seconds until this one should be done (None: nothing like it was done before)."""


def positions(store: Store, running: Sequence[StoredJob], workers: int) -> dict[str, Position]:
    """The position of each waiting job by its id."""
    histories: dict[str, list[tuple[int, float]]] = {}
    found: dict[str, Position] = {}
    taken = {job.job_id for job in running}
    total_s = 0.0  # of work that comes first; running jobs count whole, as if they had just begun
    before = [(job.job_id, job.kind, job.input_bytes) for job in running]
    for job_id, kind, input_bytes in [*before, *(row for row in store.waiting() if row[0] not in taken)]:
        if kind not in histories:
            histories[kind] = store.durations(kind)
        guess_s = estimate_s(histories[kind], input_bytes)
        own_s = math.inf if guess_s is None else guess_s
        if job_id not in taken:
            done_s = total_s / max(1, workers) + own_s
            found[job_id] = (len(running) + len(found), done_s if math.isfinite(done_s) else None)
        total_s += own_s
    return found


def estimate_s(history: Sequence[tuple[int, float]], input_bytes: int) -> float | None:
    """Seconds that a worker will need for a job.

    Args:
        history: (bytes of input, seconds) of done jobs of the same kind.
        input_bytes: of this job.

    Returns:
        None when nothing like it was done before.
    """
    if not history:
        return None

    def distance(past: tuple[int, float]) -> float:
        return abs(math.log((past[0] + 1) / (input_bytes + 1)))

    return statistics.median(seconds for _, seconds in sorted(history, key=distance)[:NEIGHBOURS])
