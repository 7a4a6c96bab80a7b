# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does the heavy work."""

from ..preferences import EX4D_Preferences
from ..session import current
from .parts import wrapped


def draw(layout, context):
    if current.is_connected:
        layout.label(text="Server connected", icon="CHECKMARK")
        return
    text = "Connecting..." if current.is_connecting else "Connect to the Server"
    layout.operator("ex4d.connect_server", text=text, icon="LINKED")
    if current.is_link_error:
        wrapped(layout.box(), context, current.error, "ERROR")
        if not current.was_lost:
            layout.operator(
                "preferences.addon_show", text="Preferences", icon="PREFERENCES"
            ).module = EX4D_Preferences.bl_idname
