# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: the artist's own camera, starting where the plate was filmed."""

import bpy
from bpy.props import BoolProperty
from bpy.types import Operator
from mathutils import Matrix

from .. import motion
from ..view import look_through
from . import grey
from .step import StepOperator


class EX4D_OT_add_camera(StepOperator, Operator):
    """Add a camera at the plate's own view, with a first keyframe, and make it the scene's camera"""

    bl_idname, bl_label = "ex4d.add_camera", "Add Camera"
    bl_options = {"REGISTER", "UNDO"}
    reasons = (grey.no_shot,)

    follow: BoolProperty(
        name="Ride Along",
        description=(
            "The new camera rides on the plate's moving camera: its keyframes are moves away from what was filmed. "
            "Off: it starts at the plate's first view and stands still in the world"
        ),
    )

    def start(self, context):
        scene, state = context.scene, context.scene.ex4d
        source = state.source_camera
        data = source.data.copy()
        data.name = f"{state.shot_name} camera"
        data.animation_data_clear()
        data.background_images.clear()
        data.show_background_images = False
        camera = bpy.data.objects.new(data.name, data)
        scene.collection.objects.link(camera)
        camera.parent = source if self.follow else state.root
        camera.matrix_basis = Matrix() if self.follow else motion.pose_at(source, state.plate_start)
        for path in ("location", "rotation_euler"):
            camera.keyframe_insert(path, frame=state.plate_start)
        scene.camera = camera
        look_through(context, camera)
