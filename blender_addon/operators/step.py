# SPDX-License-Identifier: GPL-3.0-or-later
"""What the buttons of a step have in common: they say why they are grey, and tell the artist what went wrong."""

from .. import coverage_strip
from ..errors import ArtistError
from ..session import current
from . import grey


class StepOperator:
    """A button of one step. What it starts runs on after it; `session` says how that goes."""

    step = None  # of session.Step; None for a button that leaves the panels' news alone
    reasons = ()  # of `grey`

    @classmethod
    def poll(cls, context):
        return grey.enabled(cls, context, *cls.reasons)

    def execute(self, context):
        if self.step is not None:
            current.begin(self.step)
        try:
            self.start(context)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        coverage_strip.touch()  # keys that a script sets do not tell Blender's handlers
        return {"FINISHED"}
