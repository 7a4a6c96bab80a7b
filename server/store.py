# SPDX-License-Identifier: Apache-2.0
"""Jobs and their events in SQLite: what a client was told has happened survives any crash."""

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from shared_protocol.fields import from_plain, to_plain
from shared_protocol.messages import ErrorInfo, InputRef, JobEvent, JobState, OutputRef, SubmitJob

from .failures import IdConflict, UnknownJob

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the queue's order
    job_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,                       -- of kind, params and inputs: tells a repeated submit from another job
    kind TEXT NOT NULL,
    params TEXT NOT NULL,
    inputs TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    worker_lost INTEGER NOT NULL DEFAULT 0,
    server_lost INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS events (
    job_id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (job_id, seq)
) WITHOUT ROWID;
"""
SCHEMA_VERSION = 1
_COLUMNS = "number, job_id, kind, params, inputs, state, attempt, worker_lost, server_lost, cancel_requested"


@dataclass(frozen=True)
class StoredJob:
    """A row of the queue."""

    number: int
    job_id: str
    kind: str
    params: dict[str, Any]
    inputs: tuple[InputRef, ...]
    state: JobState
    attempt: int  # how often it was started
    worker_lost: int  # how often its worker died under it
    server_lost: int  # how often the server was killed while it ran
    cancel_requested: bool


class Store:
    """The database. Each method is one transaction that is on disk when it returns; used from one thread."""

    def __init__(self, path: Path) -> None:
        self._database = _open(path)

    def close(self) -> None:
        self._database.close()

    def submit(self, request: SubmitJob) -> bool:
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
        with self._database:
            self._database.execute(
                "INSERT INTO jobs (job_id, digest, kind, params, inputs, state) VALUES (?, ?, ?, ?, ?, 'queued')",
                (
                    request.job_id,
                    digest,
                    request.kind,
                    json.dumps(request.params),
                    json.dumps(to_plain(request.inputs)),
                ),
            )
            self._append(request.job_id, "queued")
        return True

    def job(self, job_id: str) -> StoredJob:
        """One job.

        Raises:
            UnknownJob: there is none of this id.
        """
        found = self._select("job_id = ?", job_id)
        if not found:
            raise UnknownJob(f"The server knows no job {job_id[:8]}. Submit it again.")
        return found[0]

    def next_queued(self) -> StoredJob | None:
        """The job whose turn it is."""
        return next(iter(self._select("state = 'queued' ORDER BY number LIMIT 1")), None)

    def running(self) -> list[StoredJob]:
        """Jobs that are being worked on; at the start of a server, those it was killed over."""
        return self._select("state = 'running'")

    def count_queued(self, before: int | None = None) -> int:
        """How many jobs wait, in all or before a number."""
        where = "state IN ('queued', 'running') AND number < ?" if before is not None else "state = 'queued'"
        values = () if before is None else (before,)
        return int(self._database.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()[0])  # noqa: S608

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

    def start(self, job_id: str) -> JobEvent:
        """A worker begins with a job."""
        with self._database:
            self._set(job_id, "state = 'running', attempt = attempt + 1")
            return self._append(job_id, "started")

    def stage(self, job_id: str, note: str) -> JobEvent:
        """A running job reached another stage."""
        with self._database:
            return self._append(job_id, "stage", note=note)

    def requeue(self, job_id: str, note: str, counter: str | None) -> JobEvent:
        """A running job goes back to the queue.

        Args:
            job_id: the job.
            note: why, for the user.
            counter: which loss to count: "worker_lost", "server_lost" or None.
        """
        assert counter in (None, "worker_lost", "server_lost"), counter
        with self._database:
            self._set(job_id, "state = 'queued'" + (f", {counter} = {counter} + 1" if counter else ""))
            return self._append(job_id, "requeued", note=note)

    def request_cancel(self, job_id: str) -> None:
        """Remember that the user wants a running job stopped, whatever happens to the server."""
        with self._database:
            self._set(job_id, "cancel_requested = 1")

    def finish(
        self, job_id: str, state: JobState, error: ErrorInfo | None = None, outputs: Iterable[OutputRef] = ()
    ) -> JobEvent:
        """A job reached its end: done, failed or cancelled."""
        assert state in ("done", "failed", "cancelled"), state
        with self._database:
            self._set(job_id, f"state = '{state}'")
            return self._append(job_id, state, error=error, outputs=tuple(outputs))

    def _append(self, job_id: str, name: Any, **values: Any) -> JobEvent:
        attempt = self._database.execute("SELECT attempt FROM jobs WHERE job_id = ?", (job_id,)).fetchone()[0]
        event = JobEvent(job_id, self.last_seq(job_id) + 1, name, time.time(), attempt, **values)
        self._database.execute("INSERT INTO events VALUES (?, ?, ?)", (job_id, event.seq, json.dumps(to_plain(event))))
        return event

    def _set(self, job_id: str, assignments: str) -> None:
        self._database.execute(f"UPDATE jobs SET {assignments} WHERE job_id = ?", (job_id,))  # noqa: S608

    def _select(self, where: str, *values: Any) -> list[StoredJob]:
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where}", values).fetchall()  # noqa: S608
        return [_stored_job(row) for row in rows]


def _stored_job(row: tuple[Any, ...]) -> StoredJob:
    number, job_id, kind, params, inputs, state, attempt, worker_lost, server_lost, cancel_requested = row
    assert state in get_args(JobState), state
    refs: tuple[InputRef, ...] = from_plain(tuple[InputRef, ...], json.loads(inputs), "inputs")
    params = json.loads(params)
    return StoredJob(
        number, job_id, kind, params, refs, state, attempt, worker_lost, server_lost, bool(cancel_requested)
    )


def _open(path: Path) -> sqlite3.Connection:
    """Open the database; a damaged one is put aside so that the server can work."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
        logging.getLogger("ex4d.server").error("the job database was damaged (%s); put aside as %s", error, aside)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # 0.2 ms a transaction (measured); jobs must survive power cuts
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.OperationalError(f"{path} was written by a newer version of the server")
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        database.executescript(SCHEMA)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except sqlite3.Error:
        database.close()
        raise
    return database
