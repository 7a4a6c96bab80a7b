# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: the artist's own camera, starting where the plate was filmed."""

import bpy
from bpy.types import Operator

from ..view import look_through
from . import grey


class EX4D_OT_add_camera(Operator):
    """Add a camera at the plate's own view, with a first keyframe, and make it the scene's camera"""

    bl_idname, bl_label = "ex4d.add_camera", "Add Camera"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot)

    def execute(self, context):
        scene, state = context.scene, context.scene.ex4d
        data = state.source_camera.data.copy()
        data.name = f"{state.shot_name} camera"
        data.animation_data_clear()
        data.background_images.clear()
        data.show_background_images = False
        camera = bpy.data.objects.new(data.name, data)
        scene.collection.objects.link(camera)
        camera.parent = state.root
        camera.matrix_basis = state.source_camera.matrix_basis
        for path in ("location", "rotation_euler"):
            camera.keyframe_insert(path, frame=state.plate_start)
        scene.camera = camera
        look_through(context, camera)
        return {"FINISHED"}
