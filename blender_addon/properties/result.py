# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 6: the takes there are, and what the last one had to say."""

from bpy.props import CollectionProperty, IntProperty, StringProperty
from bpy.types import PropertyGroup


class EX4D_ListedTake(PropertyGroup):
    """One line of the list of takes; `name` is the take's."""

    summary: StringProperty(name="Summary", description="What painted the take, and how much of it")
    notes: StringProperty(name="Notes", description="Your own words about this take; they stay in this file")


class ResultProperties:
    takes: CollectionProperty(type=EX4D_ListedTake, name="Takes")
    active_take: IntProperty(name="Active Take")
    last_take: StringProperty(name="Last Take")
    take_coverage: StringProperty(name="Coverage")
    take_notice: StringProperty(name="Take Notice", description="A line for each fact")
