# SPDX-License-Identifier: Apache-2.0
"""How much the server does and holds, as plain numbers for a studio's monitoring."""

import shutil
import statistics
from collections.abc import Sequence
from typing import Any

import psutil

from .devices import find_gpus
from .executor import Executor
from .housekeeping import Housekeeper
from .store import Store


class Metrics:
    """Collects the numbers when asked; nothing is counted in between but what the database holds anyway."""

    def __init__(self, store: Store, executors: Sequence[Executor], housekeeper: Housekeeper) -> None:
        self._store = store
        self._executors = executors
        self._housekeeper = housekeeper

    def of_jobs(self) -> dict[str, Any]:
        """From the database: how many jobs in which state, and how long each kind takes."""
        kinds = {}
        for kind in self._store.kinds():
            seconds = [each for _, each in self._store.durations(kind)]
            kinds[kind] = {"median_s": statistics.median(seconds), "longest_s": max(seconds), "jobs": len(seconds)}
        return {"jobs": self._store.count_states(), "job_seconds": kinds}

    def of_machine(self) -> dict[str, Any]:
        """From the system: memory, disk and GPUs. Blocks for up to seconds."""
        folder = self._housekeeper.folder
        pids = [executor.worker_pid for executor in self._executors]
        gpus = {
            f"gpu{gpu.index}": {"memory_used_mb": gpu.memory_used_mb, "memory_total_mb": gpu.memory_total_mb}
            for gpu in find_gpus()
        }
        return {
            "server_memory_mb": _memory_mb(None),
            "worker_memory_mb": {f"worker{number}": _memory_mb(pid) for number, pid in enumerate(pids) if pid},
            "cache_used_mb": round(self._housekeeper.used / 1e6, 1),
            "cache_budget_mb": round(self._housekeeper.budget / 1e6, 1),
            "disk_free_mb": round(shutil.disk_usage(folder).free / 1e6, 1),
            "gpus": gpus,
        }


def prometheus_text(values: dict[str, Any]) -> str:
    """The numbers in the text format that Prometheus reads: one line each, deeper names as labels."""
    lines = []
    for name, value in values.items():
        if not isinstance(value, dict):
            lines.append(f"ex4d_{name} {value}")
            continue
        for key, inner in value.items():
            named = inner if isinstance(inner, dict) else {"": inner}
            for detail, number in named.items():
                full = f"ex4d_{name}_{detail}" if detail else f"ex4d_{name}"
                lines.append(f'{full}{{name="{key}"}} {number}')
    return "\n".join(lines) + "\n"


def _memory_mb(pid: int | None) -> float:
    try:
        return float(round(psutil.Process(pid).memory_info().rss / 1e6, 1))
    except psutil.Error:
        return 0.0
