# SPDX-License-Identifier: Apache-2.0
"""Messages to bytes and back. A message is one msgpack header frame and at most one binary frame.

The header is a map: `v` major version, `t` type, `rid` number of the request (0 for what nobody asked for), and the
message's own fields. Limits are checked before anything is unpacked.
"""

from collections.abc import Sequence
from typing import Any

import msgpack

from .errors import BadMessage, VersionMismatch
from .fields import from_plain, to_plain
from .messages import CHUNK_LIMIT, HEADER_LIMIT, MESSAGES, PROTOCOL_VERSION, Message

FRAME_LIMIT = CHUNK_LIMIT + 1024  # what the sockets let through: a chunk and CURVE's envelope around it
_FROZEN_TYPES = ("hello", "welcome", "error")
_MAX_RID = 2**53


def encode(message: Message, rid: int = 0) -> bytes:
    """The header frame of a message.

    Raises:
        BadMessage: the header is longer than 64 KiB.
    """
    header = {"v": PROTOCOL_VERSION[0], "t": message.type_name, "rid": rid, **to_plain(message)}
    packed: bytes = msgpack.packb(header)
    if len(packed) > HEADER_LIMIT:
        raise BadMessage(f"{message.type_name} needs {len(packed)} bytes; a header may have {HEADER_LIMIT}")
    return packed


def decode(header: bytes) -> tuple[int, Message]:
    """The request number and the message of a header frame.

    Raises:
        BadMessage: the bytes are no message of ours; the text names the field.
        VersionMismatch: the other side speaks another major version.
    """
    plain = unpack(header)
    rid = request_number(plain)
    type_name = plain.get("t")
    if plain.get("v") != PROTOCOL_VERSION[0] and type_name not in _FROZEN_TYPES:
        raise VersionMismatch(f"The other side speaks protocol {plain.get('v')!r:.20}, this one {PROTOCOL_VERSION[0]}")
    cls = MESSAGES.get(type_name) if isinstance(type_name, str) else None
    if cls is None:
        raise BadMessage(f"t must be a known message type, got {type_name!r:.80}")
    message: Message = from_plain(cls, plain, type_name or "")
    return rid, message


def unpack(header: bytes) -> dict[str, Any]:
    """The header's map, unpacked under strict limits but otherwise unchecked."""
    if len(header) > HEADER_LIMIT:
        raise BadMessage(f"A header may have {HEADER_LIMIT} bytes, got {len(header)}")
    try:
        plain = msgpack.unpackb(
            header,
            object_pairs_hook=_without_duplicates,
            ext_hook=_refuse_ext,
            max_array_len=10_000,
            max_map_len=1_000,
            max_str_len=HEADER_LIMIT,
            max_bin_len=HEADER_LIMIT,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise BadMessage("The header is not valid msgpack", detail=f"{type(error).__name__}: {error}") from error
    if not isinstance(plain, dict):
        raise BadMessage(f"The header must be a map, got {type(plain).__name__}")
    return plain


def request_number(plain: dict[str, Any]) -> int:
    """The `rid` of an unpacked header, so that even a refused request can be answered."""
    rid = plain.get("rid", 0)
    if isinstance(rid, bool) or not isinstance(rid, int) or not 0 <= rid <= _MAX_RID:
        raise BadMessage(f"rid must be a whole number in 0..2^53, got {rid!r:.80}")
    return rid


def check_frames(sizes: Sequence[int]) -> None:
    """Refuse a message of the wrong number of frames or of too long ones, before it is unpacked."""
    if not 1 <= len(sizes) <= 2:
        raise BadMessage(f"A message has one or two frames, got {len(sizes)}")
    if sizes[0] > HEADER_LIMIT:
        raise BadMessage(f"A header may have {HEADER_LIMIT} bytes, got {sizes[0]}")
    if len(sizes) == 2 and sizes[1] > CHUNK_LIMIT:
        raise BadMessage(f"A binary frame may have {CHUNK_LIMIT} bytes, got {sizes[1]}")


def _without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise ValueError("a key stands twice in one map")
    return plain


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
