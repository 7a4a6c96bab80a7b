# SPDX-License-Identifier: Apache-2.0
"""Log files of the server and of its worker."""

import contextlib
import logging
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES, LOG_FILES = 10_000_000, 10
JOB_LOG_BYTES = 1_000_000
TAIL_BYTES = 256 * 1024  # of a log that is read to show its last lines
FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start_log(path: Path, name: str) -> logging.Logger:
    """A log file that keeps itself small."""
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handler.setFormatter(OneLineFormatter(FORMAT))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


@contextlib.contextmanager
def job_log(path: Path) -> Iterator[None]:
    """Meanwhile, what this process logs also goes into a file of its own: one job's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=JOB_LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(OneLineFormatter(FORMAT))
    loggers = [logging.getLogger(), logging.getLogger("ex4d.worker")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def last_lines(path: Path, count: int, most_bytes: int = TAIL_BYTES) -> list[str]:
    """The end of a log.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        skipped = max(0, path.stat().st_size - most_bytes)
        file.seek(skipped)
        lines = file.read(most_bytes).decode("utf-8", "replace").splitlines()
    return lines[1 if skipped else 0 :][-count:] if count > 0 else []


class OneLineFormatter(logging.Formatter):
    """Shows control characters as escapes, so that a client's text cannot forge lines or drive a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        text = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
