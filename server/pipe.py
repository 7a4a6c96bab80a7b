# SPDX-License-Identifier: Apache-2.0
"""What the server and its worker process say to each other: msgpack maps with a length in front, over a pipe."""

import struct
from typing import Any, BinaryIO

import msgpack

DEFAULT_RUNNER = "ex4d.jobs:run_job"  # module:function; imported by workers only, because it brings numpy and more
MESSAGE_LIMIT = 1024 * 1024  # bytes; files travel as paths
_LENGTH = struct.Struct(">I")


def write_message(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Send a message.

    Raises:
        OSError: the other side is gone.
        ValueError: the message is too long.
    """
    packed: bytes = msgpack.packb(message)
    if len(packed) > MESSAGE_LIMIT:
        raise ValueError(f"a pipe message may have {MESSAGE_LIMIT} bytes, got {len(packed)}")
    stream.write(_LENGTH.pack(len(packed)) + packed)
    stream.flush()


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """Wait for a message; None when the other side is gone or talks nonsense."""
    try:
        head = stream.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MESSAGE_LIMIT:
            return None
        body = stream.read(length)
        message = msgpack.unpackb(body, max_ext_len=0) if len(body) == length else None
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
