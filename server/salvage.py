# SPDX-License-Identifier: Apache-2.0
"""What can still be read of a damaged job database: the jobs that were not done yet."""

import contextlib
import json
import sqlite3
from pathlib import Path

from shared_protocol.errors import BadMessage
from shared_protocol.fields import from_plain
from shared_protocol.messages import InputRef, SubmitJob

MOST_ROWS = 50_000  # looked at, from the newest back; the server remembers 10,000 jobs that ended
_ROW = "SELECT state, owner, job_id, kind, params, inputs, priority, fresh FROM jobs WHERE number = ?"


def unfinished_jobs(path: Path) -> list[tuple[SubmitJob, str]]:
    """The jobs that waited or ran, each with its owner, in the order of their arrival.

    Each row is looked for on its own, so that a damaged page costs no others; what makes no sense is left out.
    """
    found = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(path)) as database:
        highest = int(database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()[0])
        for number in range(max(1, highest - MOST_ROWS), highest + 1):
            with contextlib.suppress(sqlite3.Error, BadMessage, ValueError, TypeError):
                state, owner, job_id, kind, params, inputs, priority, fresh = database.execute(
                    _ROW, (number,)
                ).fetchone()
                if state in ("queued", "running"):
                    refs = from_plain(tuple[InputRef, ...], json.loads(inputs), "inputs")
                    request = SubmitJob(job_id, kind, json.loads(params), refs, priority, bool(fresh))
                    found.append((request, str(owner)))
    return found


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
