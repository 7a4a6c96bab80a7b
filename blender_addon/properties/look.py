# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3: how the scene is looked at, and what of it a camera would not see."""

from bpy.props import BoolProperty, EnumProperty, StringProperty

from .. import coverage_strip, display_mesh
from ..materials import BLACK, WARNING

STRIDE_ITEMS = [
    ("FULL", "Full", "Every pixel is a vertex: for stills and renders"),
    ("HALF", "Half", "Every second row and column: for playback"),
    ("QUARTER", "Quarter", "Every fourth row and column: for large plates"),
]
UNSEEN_ITEMS = [
    ("BLACK", "Black", "Draw it black, as a take hands it to the painting"),
    ("WARNING", "Warning Colour", "Draw it magenta, which stands out in dark plates"),
    ("OPEN", "See-Through", "Leave it out: look past it, and into the shot from outside"),
]
UNSEEN_COLOURS = {"BLACK": BLACK, "WARNING": WARNING, "OPEN": None}


def _show_unseen(state, context):
    display_mesh.show_unseen(state.mesh, UNSEEN_COLOURS[state.unseen])


def _look_again(state, context):
    coverage_strip.touch()


class LookProperties:
    mesh_stride: EnumProperty(
        name="Detail",
        description="Of the mesh in Blender; takes always use every pixel",
        items=STRIDE_ITEMS,
        default="HALF",
    )
    unseen: EnumProperty(
        name="Unseen",
        description="How the 3D view and renders of this scene draw what the plate never saw; takes do not change",
        items=UNSEEN_ITEMS,
        update=_show_unseen,
    )
    coverage_check: StringProperty(
        name="Coverage Check", description="Of the scene's camera: which frames, then what they ask for"
    )
    use_coverage_strip: BoolProperty(
        name="Coverage Strip",
        description=(
            "Show in the timeline, while the camera is edited, how much of each picture the plate never saw: green is "
            "little, red is most. An estimate; Check Coverage measures"
        ),
        default=True,
        update=_look_again,
    )
