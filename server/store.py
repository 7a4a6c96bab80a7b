# SPDX-License-Identifier: Apache-2.0
"""Jobs, their events and known results in SQLite: what a client was told has happened survives any crash."""

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from shared_protocol.fields import from_plain, to_plain
from shared_protocol.messages import ErrorInfo, InputRef, JobEvent, JobState, OutputRef, SubmitJob

from .failures import IdConflict, UnknownJob
from .salvage import unfinished_jobs
from .schema import open_database

Loss = Literal["worker_lost", "server_lost", "machine_lost"]
# Those over which the server died go behind the others: a job that kills it holds up nobody, and when somebody kills
# it again and again, the losses spread over the jobs instead of failing the first.
QUEUE_ORDER = "-priority, server_lost + machine_lost, number"
KEEP_ENDED_S = 30 * 24 * 3600.0  # then a job that ended is forgotten; its results may go long before, see artifacts.py
KEEP_ENDED = 10_000  # jobs


@dataclass(frozen=True)
class StoredJob:
    """A row of the queue. The fields are the table's columns."""

    number: int
    job_id: str
    kind: str
    params: dict[str, Any]
    inputs: tuple[InputRef, ...]
    state: JobState
    attempt: int  # how often it was started
    worker_lost: int  # how often its worker died under it
    server_lost: int  # how often the server was killed while it ran
    machine_lost: int  # how often the whole machine went down while it ran
    cancel_requested: bool
    owner: str
    priority: int
    fresh: bool
    machine: str
    input_bytes: int
    started_at_s: float | None


_COLUMNS = ", ".join(field.name for field in fields(StoredJob))


@dataclass(frozen=True)
class DoneTake:
    """What a take was, and how long it took."""

    params: dict[str, Any]
    width: int
    height: int
    pictures: int
    seconds: float


class Store:
    """The database. Each method is one transaction that is on disk when it returns; used from one thread."""

    def __init__(self, path: Path) -> None:
        self._database, damaged = open_database(path)
        for request, owner in unfinished_jobs(damaged) if damaged else ():
            self.submit(request, owner)
            logging.getLogger("ex4d.server").warning("job %s saved from the damaged database", request.job_id)

    def close(self) -> None:
        self._database.close()

    # What is there

    def job(self, job_id: str) -> StoredJob:
        """One job.

        Raises:
            UnknownJob: there is none of this id.
        """
        found = self._select("job_id = ?", job_id)
        if not found:
            raise UnknownJob(f"The server knows no job {job_id[:8]}. Submit it again.")
        return found[0]

    def queued(self, limit: int = -1) -> list[StoredJob]:
        """The jobs that wait, in the order in which they will run."""
        return self._select(f"state = 'queued' ORDER BY {QUEUE_ORDER} LIMIT ?", limit)

    def waiting(self) -> list[tuple[str, str, int]]:
        """(job id, kind, bytes of input) of the jobs that wait, in the order in which they will run."""
        return self._database.execute(
            f"SELECT job_id, kind, input_bytes FROM jobs WHERE state = 'queued' ORDER BY {QUEUE_ORDER}"  # noqa: S608
        ).fetchall()

    def running(self) -> list[StoredJob]:
        """Jobs that are being worked on; at the start of a server, those it was killed over."""
        return self._select("state = 'running'")

    def ended(self, limit: int) -> list[StoredJob]:
        """The jobs that ended last, newest first."""
        return self._select("ended_at_s IS NOT NULL ORDER BY ended_at_s DESC LIMIT ?", limit)

    def count_queued(self, owner: str | None = None) -> int:
        """How many jobs wait, in all or of one client."""
        where, values = ("", ()) if owner is None else (" AND owner = ?", (owner,))
        row = self._database.execute(f"SELECT count(*) FROM jobs WHERE state = 'queued'{where}", values)  # noqa: S608
        return int(row.fetchone()[0])

    def last_seq(self, job_id: str) -> int:
        """The number of the job's newest event."""
        row = self._database.execute("SELECT max(seq) FROM events WHERE job_id = ?", (job_id,)).fetchone()
        return int(row[0] or 0)

    def events(self, job_id: str, after_seq: int = 0) -> list[JobEvent]:
        """What happened to a job, oldest first."""
        rows = self._database.execute(
            "SELECT body FROM events WHERE job_id = ? AND seq > ? ORDER BY seq", (job_id, after_seq)
        )
        return [from_plain(JobEvent, json.loads(body), "event") for (body,) in rows]

    def durations(self, kind: str, limit: int = 50) -> list[tuple[int, float]]:
        """(bytes of input, seconds) of the last jobs of a kind that a worker has done."""
        rows = self._database.execute(
            # The + keeps SQLite from sorting all done jobs (5 ms of 10,000): it goes through the ends, newest first.
            "SELECT input_bytes, ended_at_s - started_at_s FROM jobs WHERE kind = ? AND +state = 'done'"
            " AND started_at_s IS NOT NULL AND ended_at_s IS NOT NULL ORDER BY ended_at_s DESC LIMIT ?",
            (kind, limit),
        )
        return [(int(size), float(seconds)) for size, seconds in rows]

    def takes_done(self, limit: int = 50) -> list[DoneTake]:
        """The last takes that a worker has done and of whose pictures we know, newest first."""
        rows = self._database.execute(
            "SELECT params, width, height, pictures, ended_at_s - started_at_s FROM jobs WHERE kind = 'take'"
            " AND +state = 'done' AND pictures > 0 AND started_at_s IS NOT NULL AND ended_at_s IS NOT NULL"
            " ORDER BY ended_at_s DESC LIMIT ?",
            (limit,),
        )
        return [DoneTake(json.loads(params), *numbers) for params, *numbers in rows]

    def kinds(self) -> list[str]:
        """The kinds of jobs of which a worker has done one."""
        rows = self._database.execute(
            "SELECT DISTINCT kind FROM jobs WHERE state = 'done' AND started_at_s IS NOT NULL ORDER BY kind"
        )
        return [kind for (kind,) in rows]

    def count_states(self) -> dict[str, int]:
        """How many jobs are remembered in each state."""
        counts = dict.fromkeys(get_args(JobState), 0)
        return counts | dict(self._database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def needed(self) -> set[str]:
        """The sha256 of every file that a waiting or running job reads."""
        jobs = self._select("state IN ('queued', 'running')")
        return {item.artifact.sha256 for job in jobs for item in job.inputs}

    def known_result(self, key: str) -> tuple[OutputRef, ...] | None:
        """The outputs of an earlier job that asked for the same."""
        row = self._database.execute("SELECT outputs FROM results WHERE key = ?", (key,)).fetchone()
        return from_plain(tuple[OutputRef, ...], json.loads(row[0]), "outputs") if row else None

    # What happens

    def submit(self, request: SubmitJob, owner: str = "") -> bool:
        """Queue a job; returns False when it is already here.

        Raises:
            IdConflict: the id is taken by another job.
        """
        content = json.dumps([request.kind, request.params, to_plain(request.inputs)], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        known = self._database.execute("SELECT digest FROM jobs WHERE job_id = ?", (request.job_id,)).fetchone()
        if known:
            if known[0] != digest:
                raise IdConflict(f"Job {request.job_id[:8]} was already sent with other content. Send it as a new job.")
            return False
        row = {
            "job_id": request.job_id,
            "digest": digest,
            "kind": request.kind,
            "params": json.dumps(request.params),
            "inputs": json.dumps(to_plain(request.inputs)),
            "state": "queued",
            "owner": owner,
            "priority": request.priority,
            "fresh": request.fresh,
            "input_bytes": sum(item.artifact.size for item in request.inputs),
        }
        if request.makes is not None:
            row |= {"width": request.makes.width, "height": request.makes.height, "pictures": request.makes.count}
        with self._database:
            names, places = ", ".join(row), ", ".join("?" * len(row))
            self._database.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", tuple(row.values()))  # noqa: S608
            self._append(request.job_id, "queued")
        return True

    def start(self, job_id: str, machine: str = "") -> JobEvent:
        """A worker begins with a job, on a machine that was booted under this name."""
        with self._database:
            values = {"state": "running", "machine": machine, "started_at_s": time.time(), "ended_at_s": None}
            self._set(job_id, "attempt = attempt + 1", **values)
            return self._append(job_id, "started")

    def stage(self, job_id: str, note: str) -> JobEvent:
        """A running job reached another stage."""
        with self._database:
            return self._append(job_id, "stage", note=note)

    def requeue(self, job_id: str, note: str, loss: Loss | None = None) -> JobEvent:
        """A job goes back to the queue.

        Args:
            job_id: the job.
            note: why, for the user.
            loss: what to count; None when nothing was lost.
        """
        with self._database:
            values = {"state": "queued", "started_at_s": None, "ended_at_s": None}
            self._set(job_id, f"{loss} = {loss} + 1" if loss else "", **values)
            return self._append(job_id, "requeued", note=note)

    def request_cancel(self, job_id: str) -> None:
        """Remember that the user wants a running job stopped, whatever happens to the server."""
        with self._database:
            self._set(job_id, cancel_requested=1)

    def prioritise(self, job_id: str, priority: int) -> None:
        """Put a job before or behind the others; those with a higher number run first."""
        with self._database:
            self._set(job_id, priority=priority)

    def finish(
        self,
        job_id: str,
        state: JobState,
        error: ErrorInfo | None = None,
        outputs: Iterable[OutputRef] = (),
        note: str = "",
        result_key: str = "",
    ) -> JobEvent:
        """A job reached its end: done, failed or cancelled. With a key its outputs answer the same request again."""
        assert state in ("done", "failed", "cancelled"), state
        kept = tuple(outputs)
        with self._database:
            self._set(job_id, state=state, ended_at_s=time.time())
            if result_key:
                values = (result_key, json.dumps(to_plain(kept)), time.time())
                self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", values)
            return self._append(job_id, state, error=error, outputs=kept, note=note)

    def forget_old(self, now_s: float | None = None) -> list[str]:
        """Drop the records of jobs that ended long ago, and the oldest when there are too many; returns their ids."""
        limit_s = (time.time() if now_s is None else now_s) - KEEP_ENDED_S
        ids = self._database.execute(
            "SELECT job_id FROM jobs WHERE ended_at_s < ? UNION SELECT job_id FROM"
            " (SELECT job_id FROM jobs WHERE ended_at_s IS NOT NULL ORDER BY ended_at_s DESC LIMIT -1 OFFSET ?)",
            (limit_s, KEEP_ENDED),
        ).fetchall()
        with self._database:
            self._database.executemany("DELETE FROM events WHERE job_id = ?", ids)
            self._database.executemany("DELETE FROM jobs WHERE job_id = ?", ids)
            self._database.execute("DELETE FROM results WHERE made_at_s < ?", (limit_s,))
        return [job_id for (job_id,) in ids]

    def _append(self, job_id: str, name: Any, **values: Any) -> JobEvent:
        attempt = self._database.execute("SELECT attempt FROM jobs WHERE job_id = ?", (job_id,)).fetchone()[0]
        event = JobEvent(job_id, self.last_seq(job_id) + 1, name, time.time(), attempt, **values)
        self._database.execute("INSERT INTO events VALUES (?, ?, ?)", (job_id, event.seq, json.dumps(to_plain(event))))
        return event

    def _set(self, job_id: str, assignment: str = "", **values: Any) -> None:
        assignments = ", ".join([*(f"{name} = ?" for name in values), *([assignment] if assignment else [])])
        self._database.execute(f"UPDATE jobs SET {assignments} WHERE job_id = ?", (*values.values(), job_id))  # noqa: S608

    def _select(self, where: str, *values: Any) -> list[StoredJob]:
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where}", values).fetchall()  # noqa: S608
        return [_stored_job(row) for row in rows]


def _stored_job(row: tuple[Any, ...]) -> StoredJob:
    values = dict(zip((field.name for field in fields(StoredJob)), row, strict=True))
    values["params"] = json.loads(values["params"])
    values["inputs"] = from_plain(tuple[InputRef, ...], json.loads(values["inputs"]), "inputs")
    values["cancel_requested"], values["fresh"] = bool(values["cancel_requested"]), bool(values["fresh"])
    return StoredJob(**values)
