# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the shot's files beside the .blend."""

from bpy.types import Operator

from .. import gathering
from ..errors import ArtistError
from ..session import Step, current
from . import grey


class EX4D_OT_gather_files(Operator):
    """Copy the shot's files beside the .blend, so that they travel with it"""

    bl_idname, bl_label = "ex4d.gather_files", "Gather Files"

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot, grey.no_reconstruction, grey.busy)

    def execute(self, context):
        current.begin(Step.PLATE)
        try:
            gathering.gather(context.scene)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
