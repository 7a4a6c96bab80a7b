# SPDX-License-Identifier: GPL-3.0-or-later
"""Before step 5: what the scene's camera asks of the painting."""

from bpy.types import Operator

from .. import coverage
from ..errors import ArtistError
from ..session import Step, current
from . import grey


class EX4D_OT_check_coverage(Operator):
    """Measure how much of the scene camera's picture the plate does not show, and from how far aside; paints nothing"""

    bl_idname, bl_label = "ex4d.check_coverage", "Check Coverage"

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, grey.no_shot, grey.no_reconstruction, grey.no_server, grey.busy)

    def execute(self, context):
        current.begin(Step.COVERAGE)
        try:
            coverage.check(context)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
