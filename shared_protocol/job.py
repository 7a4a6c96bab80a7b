# SPDX-License-Identifier: Apache-2.0
"""A job as its client sees it, and the two transfers that frame it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .client import Client
from .connection import Connection
from .errors import (
    BadConnectionFile,
    LinkError,
    NotRunning,
    ServerLost,
    TimedOut,
    WrongServerKey,
    as_link_error,
)
from .events import JobFailed
from .messages import ArtifactRef, OutputRef, Pictures

CONNECTION_TROUBLE = (ServerLost, NotRunning, TimedOut, WrongServerKey, BadConnectionFile)
"""What may be mended by connecting again."""


@dataclass
class Job:
    """A job on its way through upload, server and download."""

    job_id: str
    kind: str
    params: dict[str, Any]
    inputs: dict[str, Path]
    output_folder: Path
    makes: Pictures | None = None
    uploaded: dict[str, tuple[ArtifactRef, str]] | None = None
    outputs: tuple[OutputRef, ...] | None = None
    submitted: bool = False  # the server may have it
    followed: bool = False  # its events arrive over the present connection
    last_seq: int = 0
    transferring: bool = False
    transfer_failures: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)


Report = Callable[[str, str, int, int], None]
"""Receives (stage, file name, bytes done, bytes in all). It raises Stopped to end the transfer."""


def transfer(
    connection: Connection, job: Job, work: Callable[[Client, Job, Report], None], report: Report
) -> LinkError | None:
    """Do an upload or a download over a connection of its own; returns what went wrong."""
    try:
        with Client(connection, "ex4d file transfer") as client:
            work(client, job, report)
    except Exception as error:  # whatever it is, the job must hear of it
        return as_link_error(error)
    return None


def failure(job_id: str, error: LinkError) -> JobFailed:
    """An error as the end of a job."""
    return JobFailed(job_id, error.code, error.title, error.hint, error.detail)


def upload_inputs(client: Client, job: Job, report: Report) -> None:
    """Send all inputs; what the server already has is not sent again."""
    uploaded = {}
    for role, path in job.inputs.items():
        artifact = client.upload(path, partial(report, "Uploading", path.name))
        uploaded[role] = (artifact, path.name)
    job.uploaded = uploaded


def download_outputs(client: Client, job: Job, report: Report) -> None:
    """Fetch all outputs, then rename all: a folder never holds half of a new result."""
    assert job.outputs is not None
    mark = f".{job.job_id[:8]}.new"
    try:
        for output in job.outputs:
            arriving = job.output_folder / (output.role + mark)
            client.download(output.artifact, arriving, partial(report, "Downloading", output.role))
        for output in job.outputs:
            (job.output_folder / (output.role + mark)).replace(job.output_folder / output.role)
    except CONNECTION_TROUBLE:
        raise  # what has arrived is kept: the download goes on from there
    except (LinkError, OSError):
        for leftover in job.output_folder.glob(f"*{mark}*"):
            leftover.unlink(missing_ok=True)
        raise
