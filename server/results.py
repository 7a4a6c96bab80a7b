# SPDX-License-Identifier: Apache-2.0
"""Results that are known already: the same request gets the same answer, at once."""

from collections.abc import Callable
from functools import partial

from shared_protocol.messages import JobEvent, OutputRef

from .artifacts import Artifacts
from .failures import UnknownArtifact
from .fingerprint import Circumstances
from .store import Store, StoredJob


class Results:
    """What earlier jobs made, as far as it is still stored.

    Args:
        store, artifacts: where.
        circumstances: make the keys of results; None: no result is used twice.
    """

    def __init__(self, store: Store, artifacts: Artifacts, circumstances: Circumstances | None) -> None:
        self._store = store
        self._artifacts = artifacts
        self._circumstances = circumstances

    def key(self, job: StoredJob) -> str:
        """What stands for this request under these circumstances; empty: no result of it is kept."""
        return self._circumstances.result_key(job.kind, job.params, job.inputs) if self._circumstances else ""

    def known(self, job: StoredJob) -> Callable[[], JobEvent] | None:
        """How to end a job at once whose result is known; None when it has to be done."""
        key = "" if job.fresh else self.key(job)
        outputs = self._store.known_result(key) if key else None
        if outputs is None or not self._has_all(outputs):
            return None
        return partial(self._store.finish, job.job_id, "done", outputs=outputs, note="The same was done before")

    def lost(self, job: StoredJob) -> bool:
        """Whether a job was done but what it made was dropped meanwhile."""
        return job.state == "done" and not self._has_all(self._store.events(job.job_id)[-1].outputs)

    def _has_all(self, outputs: tuple[OutputRef, ...]) -> bool:
        try:
            for output in outputs:
                self._artifacts.use(output.artifact)
        except UnknownArtifact:
            return False
        return True
