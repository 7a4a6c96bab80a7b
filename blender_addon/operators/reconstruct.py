# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: the plate becomes an animated mesh."""

from functools import partial

from bpy.types import Operator

from .. import reconstruction, session, shots
from ..errors import ArtistError
from ..session import Step, current
from . import grey


class EX4D_OT_reconstruct(Operator):
    """Let the server turn the plate into a mesh with depth; set the source camera's lens and film back before"""

    bl_idname, bl_label = "ex4d.reconstruct", "Reconstruct"

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot, grey.no_server, grey.busy)

    def execute(self, context):
        scene = context.scene
        current.begin(Step.RECONSTRUCT)
        try:
            params, inputs = reconstruction.job_of(scene)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        folder = shots.shot_folder(scene)
        on_done = partial(reconstruction.arrived, scene.ex4d.shot_id, folder)
        session.start_job("Reconstruction", "reconstruct", params, inputs, folder, on_done)
        return {"FINISHED"}


class EX4D_OT_show_mesh(Operator):
    """Build the shot's mesh again, in the chosen detail"""

    bl_idname, bl_label = "ex4d.show_mesh", "Show Mesh"

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot, grey.no_reconstruction, grey.busy)

    def execute(self, context):
        current.begin(Step.RECONSTRUCT)
        reconstruction.show(context.scene, shots.shot_folder(context.scene))
        return {"FINISHED"}
