# SPDX-License-Identifier: Apache-2.0
"""A small uncompressed AVI writer: the add-on's tests need a real movie where no encoder is installed."""

import struct
import zlib

import numpy as np


def _chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(name, data):
    return _chunk(b"LIST", name + data)


def write_avi(path, frames, fps):
    """Write frames as 24-bit RGB. frames: uint8 [T, H, W, 3]; fps: (numerator, denominator)"""
    count, height, width = frames.shape[:3]
    row = (3 * width + 3) // 4 * 4
    rows = np.zeros((count, height, row), dtype=np.uint8)
    rows[:, :, : 3 * width] = frames[:, ::-1, :, ::-1].reshape(count, height, -1)  # bottom up, BGR
    size = height * row
    numerator, denominator = fps
    main = struct.pack(
        "<14I", 1_000_000 * denominator // numerator, 0, 0, 0x10, count, 0, 1, size, width, height, *[0] * 4
    )
    stream = struct.pack(
        "<4s4sIHHIIIIIIiI4H",
        b"vids",
        b"DIB ",
        0,
        0,
        0,
        0,
        denominator,
        numerator,
        0,
        count,
        size,
        -1,
        0,
        0,
        0,
        width,
        height,
    )
    picture = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    header = _list(b"hdrl", _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", picture)))
    movie = b"".join(_chunk(b"00db", frame.tobytes()) for frame in rows)
    index = b"".join(struct.pack("<4sIII", b"00db", 0x10, 4 + i * (8 + size), size) for i in range(count))
    body = b"AVI " + header + _list(b"movi", movie) + _chunk(b"idx1", index)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def write_png16(path, plane):
    """Write uint16 [H, W] as a grey PNG."""
    height, width = plane.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), plane.astype(">u2").view(np.uint8)], axis=1)  # no filter

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path
