# SPDX-License-Identifier: GPL-3.0-or-later
"""Before step 5: what the scene's camera asks of the painting."""

from bpy.types import Operator

from .. import coverage
from ..session import Step
from . import grey
from .step import StepOperator


class EX4D_OT_check_coverage(StepOperator, Operator):
    """Measure how much of the scene camera's picture the plate does not show, and from how far aside; paints nothing"""

    bl_idname, bl_label = "ex4d.check_coverage", "Check Coverage"
    step, reasons = Step.COVERAGE, grey.TAKES_NEED

    def start(self, context):
        coverage.check(context)
