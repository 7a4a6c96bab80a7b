# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: the new camera."""

from bpy.types import Panel

from .. import plate_time
from . import look
from .parts import SidebarPanel


class EX4D_PT_camera(SidebarPanel, Panel):
    bl_label = "Camera"

    def draw_step(self, layout, context, state):
        layout.operator("ex4d.add_camera", icon="OUTLINER_OB_CAMERA")
        layout.prop(context.scene, "camera", text="Shoot With")
        layout.operator_menu_enum("ex4d.add_move", "move", text="Camera Move", icon="CON_FOLLOWPATH")
        layout.prop(state, "move_target")
        layout.operator_menu_enum("ex4d.key_plate_time", "time", text="Plate Time", icon="TIME")
        if plate_time.is_keyed(state):
            row = layout.row()
            row.use_property_decorate = True  # this one can be keyed
            row.prop(state.root, plate_time.DATA_PATH, text=plate_time.PROPERTY)
        look.draw_coverage(layout, context, state)
