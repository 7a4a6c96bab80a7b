# SPDX-License-Identifier: Apache-2.0
"""A small world for the sample plate: a steam train in front of a windmill, hills, balloons and a painted sky.

Blender's axes (Z up), metres. The source camera stands at (0, 0, 1.9) and looks level along +Y, so that the
reconstructed ground lies flat in Blender too. Everything that moves is a pure function of time.
"""

import bpy

from .landscape import add_flowers, add_ground, add_trees, add_village
from .mill import Mill
from .sky import Sky
from .train import Train


class World:
    """The whole scene; `pose` puts everything where it is at a time."""

    def __init__(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        add_ground()
        add_trees()
        add_flowers()
        add_village()
        self.moving = (Train(), Mill(), Sky())

    def pose(self, time_s: float) -> None:
        """Move everything to `time_s` seconds after the first frame."""
        for part in self.moving:
            part.pose(time_s)
