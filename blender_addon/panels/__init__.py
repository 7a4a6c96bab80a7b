# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar tab "EX-4D" of the 3D view, a file for each step of the artist's path.

Panels draw what properties and session remember; they ask nobody.
"""

import bpy

from .camera import EX4D_PT_camera
from .look import EX4D_PT_look
from .next_step import EX4D_PT_next
from .plate import EX4D_PT_plate
from .reconstruct import EX4D_PT_reconstruct
from .result import EX4D_PT_result, EX4D_UL_takes
from .server import EX4D_MT_servers, EX4D_PT_server
from .take import EX4D_PT_take

# In the artist's order, from top to bottom.
CLASSES = (
    EX4D_UL_takes,
    EX4D_MT_servers,
    EX4D_PT_next,
    EX4D_PT_server,
    EX4D_PT_plate,
    EX4D_PT_reconstruct,
    EX4D_PT_look,
    EX4D_PT_camera,
    EX4D_PT_take,
    EX4D_PT_result,
)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
