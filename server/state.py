# SPDX-License-Identifier: Apache-2.0
"""What the server tells of itself."""

import os
import time

from shared_protocol.messages import ServerState, WorkerState

from .jobs import JobQueue
from .runtime import VERSION, Home


def server_state(queue: JobQueue, home: Home, boot_id: str, uptime_s: float) -> ServerState:
    """How the server is, with all its workers."""
    now = time.monotonic()
    jobs = {id(attempt.executor): attempt.job for attempt in queue.attempts.values()}
    workers = []
    for executor in queue.executors:
        job = jobs.get(id(executor))
        work = (job.job_id, job.kind, now - executor.last_report) if job else ("", "", None)
        workers.append(WorkerState(executor.device, executor.worker_pid, *work))
    first = next((worker for worker in workers if worker.job_id), workers[0])
    return ServerState(
        server_version=VERSION,
        boot_id=boot_id,
        pid=os.getpid(),
        uptime_s=uptime_s,
        home=str(home.folder),
        log_path=str(home.log),
        queued=queue.queued,
        job_id=first.job_id,
        job_kind=first.job_kind,
        progress_age_s=first.progress_age_s,
        worker_pid=first.pid,
        workers=tuple(workers),
        draining=queue.draining,
    )
