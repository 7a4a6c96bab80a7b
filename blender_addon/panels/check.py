# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: what was measured of the selected take."""

from .. import take_check
from ..session import Step
from .parts import button, is_under_way, outcome

ICONS = {take_check.GOOD: "CHECKMARK", take_check.FAIR: "INFO", take_check.POOR: "ERROR", "": "QUESTION"}


def draw(layout, context, state, item):
    """The button, then a line for each thing that was asked, with its worst frame to jump to."""
    button(layout, Step.CHECK, "ex4d.check_result", "VIEWZOOM")
    outcome(layout, context, Step.CHECK)
    findings = take_check.findings(item)
    if not findings or is_under_way(Step.CHECK):
        return
    box = layout.box().column(align=True)
    for finding in findings:
        if finding.worst_frame is None:
            box.label(text=finding.said, icon=ICONS[finding.word])
            continue
        frame = take_check.scene_frame(state, item, finding.worst_frame)
        to_frame = box.operator("ex4d.go_to_frame", text=f"{finding.said} ({frame})", icon=ICONS[finding.word])
        to_frame.frame, to_frame.meaning = frame, finding.question.meaning
    page = box.operator("wm.path_open", text="Open the Page", icon="URL")
    page.filepath = str(take_check.page_of(context.scene, item))
