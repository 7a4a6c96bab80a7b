# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: the plate becomes an animated mesh."""

from bpy.types import Operator

from .. import reconstruction, shots
from ..session import Step
from . import grey
from .step import StepOperator


class EX4D_OT_reconstruct(StepOperator, Operator):
    """Let the server turn the plate into a mesh with depth; set the source camera's lens and film back before"""

    bl_idname, bl_label = "ex4d.reconstruct", "Reconstruct"
    step, reasons = Step.RECONSTRUCT, (grey.no_shot, grey.no_solve, grey.no_server, grey.busy)

    def start(self, context):
        reconstruction.start(context.scene)


class EX4D_OT_show_mesh(StepOperator, Operator):
    """Build the shot's mesh again, in the chosen detail"""

    bl_idname, bl_label = "ex4d.show_mesh", "Show Mesh"
    step, reasons = Step.RECONSTRUCT, (grey.no_shot, grey.no_reconstruction, grey.working)

    def start(self, context):
        reconstruction.show(context.scene, shots.shot_folder(context.scene))
