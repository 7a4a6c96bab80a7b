# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the plate, re-shot with the scene's camera."""

from bpy.props import StringProperty
from bpy.types import Operator

from .. import shots, takes
from ..errors import ArtistError
from ..session import Step, current
from . import grey


class EX4D_OT_render_take(Operator):
    """Re-shoot the plate with the scene's camera, over the scene's frame range"""

    bl_idname, bl_label = "ex4d.render_take", "Render Take"

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot, grey.no_reconstruction, grey.no_server, grey.busy)

    def execute(self, context):
        current.begin(Step.TAKE)
        try:
            takes.render(context)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class EX4D_OT_load_result(Operator):
    """Put a take's result into the sequencer, above the plate"""

    bl_idname, bl_label = "ex4d.load_result", "Load Result"

    take: StringProperty(name="Take", description="Empty: the last one rendered")

    @classmethod
    def poll(cls, context):
        return grey.enabled(
            cls,
            context,
            grey.no_shot,
            grey.no_reconstruction,
            grey.busy,
            lambda context: None if context.scene.ex4d.last_take else "Render a take first",
        )

    def execute(self, context):
        state = context.scene.ex4d
        current.begin(Step.TAKE)
        takes.load(state.shot_id, takes.take_folder(context.scene, shots.safe_name(self.take or state.last_take)))
        return {"FINISHED"}
