# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: the takes there are, and what the last one had to say."""

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty, PointerProperty, StringProperty
from bpy.types import PropertyGroup

from .take import PaintingProperties


def _is_camera(listed, item):
    return item.type == "CAMERA"


class EX4D_ListedTake(PaintingProperties, PropertyGroup):
    """One line of the list of takes; `name` is the take's. What is under way with it, `take_queue` knows."""

    summary: StringProperty(name="Summary", description="What painted the take, and how much of it")
    notes: StringProperty(name="Notes", description="Your own words about this take; they stay in this file")
    check: StringProperty(name="Check", description="What Check Result found, as JSON")
    is_planned: BoolProperty(name="Planned", description="Not rendered yet: its settings can still be changed")
    camera: PointerProperty(
        type=bpy.types.Object,
        name="Camera",
        description="What the take is shot with. Empty: the scene's camera, with its camera markers",
        poll=_is_camera,
    )
    path_of: StringProperty(
        name="Camera Path Of", description="The take whose camera path this one has, exactly as it was shot"
    )
    frame_start: IntProperty(name="First Frame", description="Scene frame of the take's first picture")
    frame_end: IntProperty(name="Last Frame", description="Scene frame of the take's last picture")


class ResultProperties:
    takes: CollectionProperty(type=EX4D_ListedTake, name="Takes")
    active_take: IntProperty(name="Active Take")
    last_take: StringProperty(name="Last Take")
    take_coverage: StringProperty(name="Coverage")
    take_notice: StringProperty(name="Take Notice", description="A line for each fact")
