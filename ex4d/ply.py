# SPDX-License-Identifier: Apache-2.0
"""The mesh as a PLY file, as the release saves it, for any program that opens meshes."""

from pathlib import Path

import numpy as np

from ex4d.camera import Array
from ex4d.mesh import DWMesh
from ex4d.storage import replacing


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
