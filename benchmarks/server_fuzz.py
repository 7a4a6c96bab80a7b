# SPDX-License-Identifier: Apache-2.0
"""Random and mutated headers into the decoder, and nonsense of all kinds at a server's port.

    python benchmarks/server_fuzz.py --headers 1000000 --connections 2000

The decoder may only return a message or raise a LinkError, each within 50 ms, without growing. Nothing of what
strangers send may be delivered, and the server must serve its own client as before.
"""

import argparse
import contextlib
import copy
import os
import random
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack
import psutil
import zmq
from server_bench import ROOT, BenchServer, machine, percentile

from shared_protocol.errors import LinkError, NotPaired
from shared_protocol.messages import AskStatus
from shared_protocol.wire import check_frames, decode, encode

sys.path.insert(0, str(ROOT / "tests" / "protocol"))

from message_examples import EXAMPLES

TIME_LIMIT_S = 0.05
WORDS = (  # what tends to break decoders
    None, True, -1, 2**63, 2**64 - 1, -(2**63), 1e308, float("nan"), float("inf"), "", "\0", "../" * 30, "/etc/passwd",
    "\x1b[2J\u202e", "x" * 5000, b"\xff" * 300, [], [[]] * 50, {}, {"": {}}, [None] * 9000, "C:\\nul", "0" * 64,
)  # fmt: skip


@dataclass
class Decoded:
    """What the decoder did."""

    messages: int = 0
    refusals: int = 0
    slowest_s: float = 0.0
    slow: int = 0
    grown_mb: float = 0.0


def fuzz_decoder(count: int, seed: int = 0) -> Decoded:
    """Decode `count` headers. Anything but a message or a LinkError is raised."""
    generator, found = random.Random(seed), Decoded()
    headers = [encode(example, 7) for example in EXAMPLES]
    process = psutil.Process()
    before = 0
    for turn in range(count):
        if turn == min(count // 10, 20_000):
            before = process.memory_info().rss  # after the interpreter has warmed up
        data = _header(generator, headers)
        started = time.thread_time()  # of the processor: others use this machine too
        try:
            check_frames([len(data)])
            decode(data)
            found.messages += 1
        except LinkError:
            found.refusals += 1
        took_s = time.thread_time() - started
        found.slowest_s = max(found.slowest_s, took_s)
        found.slow += took_s > TIME_LIMIT_S
    found.grown_mb = (process.memory_info().rss - before) / 1e6
    return found


def _header(generator: random.Random, headers: list[bytes]) -> bytes:
    match generator.randrange(4):
        case 0:  # noise
            return generator.randbytes(generator.choice((0, 1, 8, 60, 300)))
        case 1:  # a real one with other values
            plain = msgpack.unpackb(generator.choice(headers))
            for _ in range(generator.randint(1, 3)):
                _put(generator, plain, copy.deepcopy(generator.choice(WORDS)))
            with contextlib.suppress(OverflowError):
                return bytes(msgpack.packb(plain))
            return b""
        case 2:  # two real ones in one
            first, second = generator.choice(headers), generator.choice(headers)
            return first[: generator.randrange(len(first))] + second[generator.randrange(len(second)) :]
    data = bytearray(generator.choice(headers))
    for _ in range(generator.randint(1, 6)):
        at = generator.randrange(len(data) + 1)
        match generator.randrange(4):
            case 0:
                data[at : at + 1] = generator.randbytes(1)
            case 1:
                del data[at : at + generator.randint(1, 8)]
            case 2:
                data[at:at] = generator.randbytes(generator.randint(1, 8))
            case 3:  # a length that promises too much
                data[at:at] = generator.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")) + struct.pack(
                    ">I", generator.choice((2**31 - 1, 2**32 - 1, 70_000))
                )
    return bytes(data)


def _put(generator: random.Random, plain: dict[str, object], value: object) -> None:
    """Replace something somewhere in a map."""
    key = generator.choice([*plain, "new"])
    inner = plain.get(key)
    if isinstance(inner, dict) and generator.random() < 0.6:
        _put(generator, inner, value)
    elif isinstance(inner, list) and inner and generator.random() < 0.6:
        inner[generator.randrange(len(inner))] = value
    elif generator.random() < 0.2:
        plain.pop(key, None)
    else:
        plain[key] = value


STRANGERS = {
    "noise": lambda generator: generator.randbytes(300),
    "HTTP post": lambda _: b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n",
    # 'P' is 80: an old peer's frame length, after which the headers count as frames and the body is a message.
    "post shaped as ZMTP 1.0": lambda _: b"POST /" + b"a" * 75 + b"\x01\x00" + _frame(encode(AskStatus(), 1)),
    "ZMTP 1.0": lambda _: b"\x01\x00" + _frame(encode(AskStatus(), 1)),
    "ZMTP 2.0": lambda _: b"\xff" + b"\0" * 8 + b"\x7f\x01\x05\x00\x00" + _frame(encode(AskStatus(), 1)),
    "ZMTP 3 without encryption": lambda _: (
        b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 48 + _frame(encode(AskStatus(), 1))
    ),
    "2 GiB length": lambda _: (
        b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE" + b"\0" * 47 + b"\x02\x00\x00\x00\x00\x7f\xff\xff\xff"
    ),
    "nothing": lambda _: b"",
}  # fmt: skip


def _frame(data: bytes) -> bytes:
    return bytes([len(data) + 1, 0]) + data if len(data) < 254 else data


def knock(server: BenchServer, connections: int, seed: int = 0) -> dict[str, float]:
    """Connect as strangers do; returns figures about the server. Raises if anything was answered."""
    generator = random.Random(seed)
    with server.client() as client:
        connection = client.connection
        client.hello()
        host, port = connection.endpoint.removeprefix("tcp://").split(":")
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        memory, queued = process.memory_info().rss, client.status().queued
        open_streams: list[socket.socket] = []
        waits = []
        for turn in range(connections):
            words = list(STRANGERS.values())[turn % len(STRANGERS)](generator)
            with contextlib.suppress(OSError):
                stream = socket.create_connection((host, int(port)), timeout=2)
                stream.sendall(words)
                open_streams.append(stream)
            if len(open_streams) > 200:
                _hang_up(open_streams.pop(0))
            if turn % 20 == 0:
                started = time.perf_counter()
                client.status()
                waits.append((time.perf_counter() - started) * 1e3)
        for stream in open_streams:
            _hang_up(stream)
        refused = _wrong_keys(server)
        _too_many_frames(server)
        time.sleep(1.0)
        assert client.status().queued == queued
        with server.client() as another:
            another.hello()
        return {
            "p99 ms": percentile(waits, 0.99),
            "longest ms": max(waits),
            "grown MB": (process.memory_info().rss - memory) / 1e6,
            "descriptors": process.num_fds(),
            "wrong keys refused": refused,
        }


def _hang_up(stream: socket.socket) -> None:
    """Look at what the server said: a greeting at most, never an answer."""
    stream.settimeout(0.001)
    said = b""
    with contextlib.suppress(OSError):
        said = stream.recv(65536)
    stream.close()
    assert b"boot_id" not in said, "a stranger was answered"
    assert b"error" not in said.lower() or b"\x05ERROR" in said, said


def _wrong_keys(server: BenchServer, count: int = 50) -> int:
    from shared_protocol.client import Client

    with server.client() as client:
        connection = client.connection
    refused = 0
    for _ in range(count):
        public, secret = (key.decode() for key in zmq.curve_keypair())
        with Client(replace(connection, client_key=public, client_secret=secret)) as stranger:
            try:
                stranger.hello(5.0)
            except NotPaired:
                refused += 1
    return refused


def _too_many_frames(server: BenchServer) -> None:
    """300 frames of 1 MB are refused as a whole and leave no memory behind."""
    with server.client() as client, contextlib.suppress(LinkError):
        client.hello()
        client._socket.send_multipart([encode(AskStatus(), 1)] + [b"x" * 1_000_000] * 299)
        client.status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine())
    started = time.monotonic()
    found = fuzz_decoder(arguments.headers, arguments.seed)
    print(f"{arguments.headers} headers in {time.monotonic() - started:.0f} s: {found.messages} messages,", end=" ")
    print(f"{found.refusals} refusals, nothing else; slowest {found.slowest_s * 1e3:.1f} ms,", end=" ")
    print(f"{found.slow} above {TIME_LIMIT_S * 1e3:g} ms; memory {found.grown_mb:+.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EX4D_HOME"] = folder
        server = BenchServer(Path(folder) / "home")
        server.start()
        figures = knock(server, arguments.connections, arguments.seed)
        print(
            f"{arguments.connections} strangers: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
        )
        server.stop()


if __name__ == "__main__":
    main()
