# SPDX-License-Identifier: Apache-2.0
"""The server's own errors, and what to do about each code that the server or a job can answer with."""

import errno
from dataclasses import dataclass

from ex4d.errors import Ex4dError, InputError
from shared_protocol.errors import BadMessage, VersionMismatch
from shared_protocol.messages import ErrorInfo

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full, over the quota, larger than the file system takes


class UnknownArtifact(InputError):
    """The file is not here, or not complete."""

    code = "unknown_artifact"


class MissingArtifact(InputError):
    """A job names a file that the server does not have."""

    code = "missing_artifact"


class DamagedUpload(InputError):
    """What arrived does not have the promised size or hash."""

    code = "hash_mismatch"


class IdConflict(InputError):
    """A job id came twice with different content."""

    code = "id_conflict"


class QuotaExceeded(InputError):
    """One client wants more than its share."""

    code = "quota"


class NotYours(InputError):
    """Somebody else's job, or something that only the server's own user may do."""

    code = "not_yours"


class UnknownClient(InputError):
    """No such client."""

    code = "unknown_client"


class UnknownJob(InputError):
    """No such job."""

    code = "unknown_job"


HINTS = {
    "bad_camera": "Correct the camera's animation and render again.",
    "bad_depth": "Choose another depth file, or another depth source.",
    "bad_input": "Correct the setting that the message names and try again.",
    "bad_message": BadMessage.hint,
    "bad_shape": "Check that plate, depth and camera belong together.",
    "bad_shot": "Reconstruct the plate again.",
    "bad_video": "Open the file in a player to see whether it is whole, or convert it to mp4 or mov.",
    "cancelled": "Nothing to do: the work was stopped on request.",
    "hash_mismatch": "Make sure that nothing writes to the file, then try again.",
    "id_conflict": "Start the job again; it then gets an id of its own.",
    "internal": "This is a defect. Please report it together with the log file.",
    "licence": "Accept the licence that the message names, or choose another depth source.",
    "machine": "Install what the message names, or use another machine.",
    "missing_artifact": "Try again: the files are sent once more.",
    "not_paired": "Pair with this server: ex4d server pair on its machine, ex4d server join on yours.",
    "not_yours": "Ask whoever sent the job, or the user who runs the server.",
    "not_finite": "Try another seed or quality; check the weights when it happens again.",
    "out_of_memory": "Use fewer frames or a smaller plate, or close other programs.",
    "quota": "Wait until some of your jobs are done, or cancel those that you do not need.",
    "server_lost": "The job stopped the server several times. Look into the log before you try it again.",
    "storage": "Free some disk space, or set EX4D_HOME to a folder on a larger disk, and try again.",
    "unknown_artifact": "Try again: the file is sent once more.",
    "unknown_client": "Look at the names: ex4d server clients",
    "unknown_job": "Start the job again.",
    "version_mismatch": VersionMismatch.hint,
    "machine_lost": "The machine went down each time this job ran. Look at its memory and power before another try.",
    "worker_lost": "Often the machine was out of memory: close other programs or use fewer frames, then try again.",
}


@dataclass(frozen=True)
class Failure:
    """What an exception means for a job."""

    code: str
    title: str
    exit_code: int  # of `ex4d run`, see ex4d/errors.py
    spoilt: bool = False  # the process that raised it is not fit for another job


def classify(error: Exception) -> Failure:
    """An exception that a job raised, in our words."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Ex4dError):
        return Failure(error.code, str(error), error.exit_code)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not known here
        return Failure("out_of_memory", "The machine or its GPU ran out of memory", 4, spoilt=True)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return Failure("storage", text, 3)
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in text:  # every later call would fail as well
        return Failure("machine", f"The GPU failed: {text}", 3, spoilt=True)
    return Failure("internal", text, 1)


def error_info(code: str, title: str, detail: str = "") -> ErrorInfo:
    """An error for the wire. A code that is not in the table gets the hint of a defect."""
    return ErrorInfo(code, title, HINTS.get(code, HINTS["internal"]), detail)


def from_exception(error: Ex4dError, detail: str = "") -> ErrorInfo:
    """An error that this library raised on purpose."""
    return error_info(error.code, str(error), detail)
