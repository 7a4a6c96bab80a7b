# SPDX-License-Identifier: Apache-2.0
"""The mesh file that the library saves opens in Blender with its shape and colours."""

import os
import subprocess
from pathlib import Path

import bpy
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("EX4D_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
WRITE = """
import sys
import numpy as np
from ex4d.camera import pinhole_intrinsics
from ex4d.mesh import watertight_mesh
from ex4d.ply import write_ply

mesh = watertight_mesh(np.full((6, 8), 4.0, np.float32), pinhole_intrinsics(10, 8, 6), sys.argv[2])
write_ply(sys.argv[1], mesh, np.full((6, 8, 3), (255, 128, 0), np.uint8))
"""


def test_a_saved_mesh_opens_in_blender(tmp_path):
    for convention, size in (("exact", (10, 12)), ("reference", (6, 8))):
        file = tmp_path / f"{convention}.ply"
        subprocess.run([PYTHON, "-c", WRITE, file, convention], check=True, cwd=REPOSITORY)
        bpy.ops.object.select_all(action="DESELECT")
        assert bpy.ops.wm.ply_import(filepath=str(file)) == {"FINISHED"}
        mesh = bpy.context.object.data
        assert len(mesh.vertices) == size[0] * size[1]
        # Faces of the skirt's corners and the release's closing quad share all vertices with others or have no area.
        assert len(mesh.polygons) > 2 * (size[0] - 3) * (size[1] - 3)
        colors = np.empty(4 * len(mesh.vertices), np.float32)
        mesh.color_attributes[0].data.foreach_get("color_srgb", colors)
        colors = colors.reshape(-1, 4)[:, :3]
        orange = np.abs(colors - [1, 128 / 255, 0]).max(axis=1) < 0.01
        assert orange.any()
        assert (orange | ~colors.any(axis=1)).all()
        bpy.data.objects.remove(bpy.context.object)
