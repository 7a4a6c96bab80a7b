# SPDX-License-Identifier: Apache-2.0
"""Open a .blend where the add-on is not installed and write down what it plays.

BLENDER_USER_RESOURCES=/empty/folder python playback.py FILE.blend OUT.npz
"""

import os
import sys
import tempfile
from pathlib import Path

import bpy
import numpy as np

blend, out = sys.argv[1:]
assert not any("ex4d" in addon.module for addon in bpy.context.preferences.addons)
bpy.ops.wm.open_mainfile(filepath=blend)
scene = bpy.context.scene
assert not hasattr(scene, "ex4d")
mesh_object = next(item for item in scene.objects if "DW-Mesh" in item.name)

scene.render.engine = "CYCLES"
scene.cycles.samples = 1
scene.cycles.pixel_filter_type = "BOX"
scene.cycles.filter_width = 0.01
scene.cycles.use_denoising = False
scene.render.filter_size = 0.01
scene.render.dither_intensity = 0
scene.render.image_settings.file_format = "PNG"
vertices, pictures = [], []
with tempfile.TemporaryDirectory() as folder:
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        mesh = mesh_object.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
        mesh.attributes["position"].data.foreach_get("vector", points)
        vertices.append(points.reshape(-1, 3))
        scene.render.filepath = str(Path(folder) / f"{frame}.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        width, height = image.size
        pictures.append(np.array(image.pixels[:]).reshape(height, width, 4)[::-1, :, :3] * 255)
        bpy.data.images.remove(image)
movies = [image for image in bpy.data.images if image.source == "MOVIE"]
found = [Path(bpy.path.abspath(image.filepath)).is_file() and image.filepath.startswith("//") for image in movies]
np.savez(out, vertices=vertices, pictures=np.round(pictures).astype(np.uint8), images_found=found)
os._exit(0)
