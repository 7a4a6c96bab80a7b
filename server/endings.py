# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job when an attempt at it has ended, or the server or machine under it."""

from pathlib import Path

from shared_protocol.messages import ErrorInfo, JobEvent

from .attempt import Ending, Kept
from .executor import Cancelled, Failed
from .failures import error_info
from .store import Loss, Store, StoredJob

MOST_LOSSES: dict[Loss, int] = {
    "worker_lost": 2,  # a job may kill its worker once; the second time it fails
    "machine_lost": 2,  # the same for a whole machine
    "server_lost": 10,  # a server that is killed is hardly ever the job's fault: jobs run in processes of their own
}


class Endings:
    """Records ends.

    Args:
        store: where.
        logs: the folder of the logs; each job's is in `jobs`.
    """

    def __init__(self, store: Store, logs: Path) -> None:
        self._store = store
        self._logs = logs

    def log_file(self, job_id: str) -> Path:
        """The log of one job."""
        return self._logs / "jobs" / f"{job_id}.log"

    def record(self, job: StoredJob, ending: Ending, result_key: str) -> JobEvent:
        """An attempt has ended."""
        match ending:
            case Kept():
                return self._store.finish(job.job_id, "done", outputs=ending.outputs, result_key=result_key)
            case Cancelled():
                return self._store.finish(job.job_id, "cancelled")
            case Failed():
                return self._store.finish(job.job_id, "failed", self._error(job.job_id, ending.code, ending.title))
        title = ending.text
        if job.worker_lost + 1 >= MOST_LOSSES["worker_lost"]:
            error = self._error(job.job_id, "worker_lost", f"{title}, {MOST_LOSSES['worker_lost']} times")
            return self._store.finish(job.job_id, "failed", error)
        return self._store.requeue(job.job_id, f"{title}: trying once more", "worker_lost")

    def recover(self, machine: str) -> None:
        """Put the jobs over which the last server died back into the queue.

        Args:
            machine: the name of this machine's present boot.
        """
        for job in self._store.running():
            loss: Loss = "server_lost" if job.machine in ("", machine) else "machine_lost"
            what = "The server was killed" if loss == "server_lost" else "The machine went down"
            if job.cancel_requested:
                self._store.finish(job.job_id, "cancelled")
            elif getattr(job, loss) + 1 >= MOST_LOSSES[loss]:
                error = self._error(job.job_id, loss, f"{what} {MOST_LOSSES[loss]} times while this job ran")
                self._store.finish(job.job_id, "failed", error)
            else:
                self._store.requeue(job.job_id, f"{what}: trying once more", loss)

    def _error(self, job_id: str, code: str, title: str) -> ErrorInfo:
        return error_info(code, title, f"log: {self.log_file(job_id)}, server's log: {self._logs}")
