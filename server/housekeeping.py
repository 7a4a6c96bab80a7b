# SPDX-License-Identifier: Apache-2.0
"""Keeps the server's folder from growing: drops what was not used for longest, and forgets jobs that ended long ago."""

import asyncio
import logging
import shutil
import sqlite3
import time
from pathlib import Path

from .artifacts import Artifacts
from .memory import give_back
from .store import Store
from .uploads import LEAST_FREE

CACHE_GB = 100.0  # a 49-frame 1080p shot with its takes needs about 1.5 GB
INTERVAL_S = 60.0
PROTECTED_S = 3600.0  # what was used within the last hour stays: a client may be about to name or to fetch it
MOST_DROPPED = 5000  # files at a time: the list of them stays small, the rest goes a minute later
ROOM = 4 * LEAST_FREE  # bytes of the disk that stay free, even if the budget would allow more


class Housekeeper:
    """Looks after the artifacts, the records and the job logs of a server.

    Args:
        store, artifacts, logs: what it looks after.
        budget: bytes that the artifacts may take. What queued and running jobs need stays, whatever the budget.
    """

    def __init__(self, store: Store, artifacts: Artifacts, logs: Path, budget: float = CACHE_GB * 1e9) -> None:
        self.folder = artifacts.folder
        self.used = 0  # bytes of artifacts, when last looked at
        self.budget = budget
        self._store = store
        self._artifacts = artifacts
        self._logs = logs
        self._log = logging.getLogger("ex4d.server")

    async def work(self) -> None:
        """Tidy up every minute."""
        while True:
            try:
                await self.tidy()
            except (OSError, sqlite3.OperationalError) as error:  # a disk that refuses now may not do so later
                self._log.error("tidying up failed: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def tidy(self) -> None:
        """Drop and forget what has had its time."""
        await asyncio.to_thread(self._drop_logs, self._store.forget_old())
        give_back()
        await asyncio.to_thread(self._artifacts.sweep)
        self.used = await asyncio.to_thread(self._artifacts.size)
        free = shutil.disk_usage(self._artifacts.folder).free
        excess = max(self.used - self.budget, ROOM - free)
        if excess <= 0:
            return
        most = MOST_DROPPED + len(self._store.needed())
        files = await asyncio.to_thread(self._artifacts.least_used, time.time() - PROTECTED_S, most)
        # From here to the end in one go: no job can be submitted between looking at what is needed and dropping.
        needed, now = self._store.needed(), time.time()
        for used_at_s, size, sha256 in files:
            if excess <= 0:
                break
            if sha256 in needed or not self._artifacts.unused_since(sha256, used_at_s):
                continue
            self._artifacts.drop(sha256)
            self._log.info("dropped %s, %d bytes, not used for %.1f h", sha256[:12], size, (now - used_at_s) / 3600)
            excess -= size
            self.used -= size

    def _drop_logs(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            for name in (f"{job_id}.log", f"{job_id}.log.1"):  # what `job_log` writes
                (self._logs / "jobs" / name).unlink(missing_ok=True)
