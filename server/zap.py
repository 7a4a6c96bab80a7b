# SPDX-License-Identifier: Apache-2.0
"""Who may connect: answers ZeroMQ's authentication requests (RFC 27, ZAP) from a list of client keys."""

from collections.abc import Callable

import zmq
import zmq.asyncio
from zmq.utils import z85

ENDPOINT = "inproc://zeromq.zap.01"  # fixed by the RFC
_FRAMES = 7  # version, request id, domain, address, identity, mechanism, one CURVE key


def bind_zap(context: zmq.asyncio.Context) -> zmq.asyncio.Socket:
    """The socket on which the library asks; must be bound before a server socket is."""
    socket = context.socket(zmq.REP)
    socket.linger = 0
    socket.bind(ENDPOINT)
    return socket


async def answer_zap(socket: zmq.asyncio.Socket, allowed: Callable[[str], bool]) -> None:
    """Let in the clients whose CURVE key (Z85) is allowed, and nobody else; their key becomes their User-Id."""
    while True:
        frames = await socket.recv_multipart()
        request_id = frames[1] if len(frames) > 1 else b""
        key = ""
        if len(frames) == _FRAMES and frames[5] == b"CURVE" and len(frames[6]) == 32:  # bytes of a raw key
            key = z85.encode(frames[6]).decode("ascii")
        status, text = (b"200", b"OK") if key and allowed(key) else (b"400", b"unknown client key")
        user = key.encode("ascii") if status == b"200" else b""
        await socket.send_multipart([b"1.0", request_id, status, text, user, b""])
