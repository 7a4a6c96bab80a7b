# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the shot's files beside the .blend."""

from bpy.types import Operator

from .. import gathering
from ..session import Step
from . import grey
from .step import StepOperator


class EX4D_OT_gather_files(StepOperator, Operator):
    """Copy the shot's files beside the .blend, so that they travel with it"""

    bl_idname, bl_label = "ex4d.gather_files", "Gather Files"
    step, reasons = Step.PLATE, (grey.no_shot, grey.no_reconstruction, grey.busy)

    def start(self, context):
        gathering.gather(context.scene)
