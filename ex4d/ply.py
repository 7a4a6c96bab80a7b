# SPDX-License-Identifier: Apache-2.0
"""Meshes as PLY files, as the release saves them and any program opens them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ex4d.camera import Array
from ex4d.errors import InputError
from ex4d.mesh import DWMesh
from ex4d.storage import replacing

# The format's names for numbers, old and new -> numpy's.
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
MAX_HEADER_BYTES = 65536


@dataclass(frozen=True, eq=False)
class PlyMesh:
    """What a PLY file holds."""

    points: Array  # float32 [V, 3]
    colors: Array  # uint8 [V, 3]; white where the file has none
    faces: Array  # int32 [F, 3]


def vertex_colors(mesh: DWMesh, texture: Array) -> Array:
    """The plate's colour at each vertex, black where a cut face touches it. texture, result: uint8 [H, W, 3]"""
    rows, columns = (
        np.clip(np.floor(axis + mesh.texture_offset), 0, side - 1).astype(np.intp)
        for axis, side in zip((mesh.v, mesh.u), texture.shape[:2], strict=True)
    )
    return np.where(mesh.vertex_alpha[..., None] > 0, texture[np.ix_(rows, columns)], 0).astype(np.uint8)


def write_ply(path: Path | str, mesh: DWMesh, texture: Array) -> None:
    """Write the mesh as a binary PLY with vertex colours, OpenCV axes, every face. texture: uint8 [H, W, 3]"""
    points, faces = mesh.points.reshape(-1, 3), mesh.faces
    vertices = np.empty(len(points), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = points, vertex_colors(mesh, texture).reshape(-1, 3)
    triangles = np.empty(len(faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    triangles["count"], triangles["index"] = 3, faces
    coordinates = "".join(f"property float {axis}\n" for axis in "xyz")
    channels = "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue"))
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{coordinates}{channels}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(vertices.tobytes())
        file.write(triangles.tobytes())


def read_ply(path: Path | str) -> PlyMesh:
    """Read a triangle mesh from a binary little-endian PLY: ours, the release's, and others' with the same layout.

    Raises:
        InputError: the file is missing, is no such PLY, or is cut short; the message says what was found.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    end = content.find(b"end_header\n", 0, MAX_HEADER_BYTES)
    if not content.startswith(b"ply") or end < 0:
        raise InputError(f"'{path}' is no PLY file: it has no header.")
    lines = [line.split() for line in content[:end].decode("ascii", "replace").splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"'{path}' must be a binary little-endian PLY. Save it as one.")
    counts, layouts = _elements(path, lines)
    if list(counts)[:2] != ["vertex", "face"] or len(layouts["face"]) != 1 or len(layouts["face"][0]) != 3:
        raise InputError(f"'{path}' must hold vertices, then faces with one list of indices, got {', '.join(counts)}.")
    vertex = np.dtype([(field[-1], f"<{field[0]}") for field in layouts["vertex"]])
    if not {"x", "y", "z"} <= set(vertex.names or ()):
        raise InputError(f"'{path}': its vertices have no x, y, z.")
    length_type, index_type, _ = layouts["face"][0]
    face = np.dtype([("count", f"<{length_type}"), ("index", f"<{index_type}", 3)])
    start = end + len(b"end_header\n")
    needed = start + counts["vertex"] * vertex.itemsize + counts["face"] * face.itemsize
    if len(content) < needed:
        raise InputError(f"'{path}' is cut short: {len(content)} of {needed} bytes, or its faces are no triangles.")
    vertices = np.frombuffer(content, vertex, counts["vertex"], start)
    faces = np.frombuffer(content, face, counts["face"], start + vertices.nbytes)
    if (faces["count"] != 3).any() or (faces["index"] < 0).any() or (faces["index"] >= max(1, len(vertices))).any():
        raise InputError(f"'{path}' must hold triangles of its own vertices only.")
    colors = np.full((len(vertices), 3), 255, np.uint8)
    for k, channel in enumerate(("red", "green", "blue")):
        if channel in (vertex.names or ()):
            colors[:, k] = vertices[channel]
    points = np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float32)
    return PlyMesh(points, colors, faces["index"].astype(np.int32))


def _elements(path: Path | str, lines: list[list[str]]) -> tuple[dict[str, int], dict[str, list[tuple[str, ...]]]]:
    """Count and properties, (type, name) or (length type, type, name), of each element of the header."""
    counts: dict[str, int] = {}
    layouts: dict[str, list[tuple[str, ...]]] = {}
    try:
        for line in lines:
            if line[:1] == ["element"]:
                counts[line[1]], layouts[line[1]] = int(line[2]), []
            elif line[:2] == ["property", "list"]:
                layouts[list(counts)[-1]].append((TYPES[line[2]], TYPES[line[3]], line[4]))
            elif line[:1] == ["property"]:
                layouts[list(counts)[-1]].append((TYPES[line[1]], line[2]))
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"'{path}' has a PLY header that cannot be read: {error}.") from error
    return counts, layouts
