# SPDX-License-Identifier: Apache-2.0
"""The job database's tables, and how an older or damaged one becomes a good one."""

import logging
import sqlite3
import time
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of arrival
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
CHANGES = {  # what each version added; applied in order to databases that are older
    2: """
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';            -- the CURVE key that sent it
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN fresh INTEGER NOT NULL DEFAULT 0;          -- do it even when its result is known
ALTER TABLE jobs ADD COLUMN machine TEXT NOT NULL DEFAULT '';          -- the boot of the machine on which it started
ALTER TABLE jobs ADD COLUMN machine_lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN input_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN started_at_s REAL;                         -- of the last attempt, Unix time
ALTER TABLE jobs ADD COLUMN ended_at_s REAL;
CREATE INDEX jobs_by_end ON jobs (ended_at_s);
CREATE TABLE results (key TEXT PRIMARY KEY, outputs TEXT NOT NULL, made_at_s REAL NOT NULL) WITHOUT ROWID;
""",
    3: """
ALTER TABLE jobs ADD COLUMN width INTEGER NOT NULL DEFAULT 0;          -- of the pictures that the job makes; 0: unknown
ALTER TABLE jobs ADD COLUMN height INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN pictures INTEGER NOT NULL DEFAULT 0;
""",
}
VERSION = 3


def open_database(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Open the database.

    Returns:
        The database, and where a damaged one was put aside so that the server can work.
    """
    try:
        return _connect(path), None
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
        logging.getLogger("ex4d.server").error("the job database was damaged (%s); put aside as %s", error, aside)
        return _connect(path), aside


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # 0.2 ms a transaction (measured); jobs must survive power cuts
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.OperationalError(f"{path} was written by a newer version of the server")
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        _bring_up_to_date(database, version)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _bring_up_to_date(database: sqlite3.Connection, version: int) -> None:
    for number in range(max(version, 1) + 1, VERSION + 1):  # each at once or not at all, whenever the server is killed
        tables = TABLES if number == 2 else ""
        database.executescript(f"BEGIN; {tables} {CHANGES[number]} PRAGMA user_version = {number}; COMMIT;")
