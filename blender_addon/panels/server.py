# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does the heavy work."""

from bpy.types import Menu, Panel

from .. import servers
from ..preferences import EX4D_Preferences
from ..server_words import HERE, label_of
from ..session import Step, current
from .parts import SidebarPanel, outcome, wrapped


class EX4D_MT_servers(Menu):
    bl_label = "Server"

    def draw(self, context):
        self.layout.operator_context = "INVOKE_DEFAULT"  # opened by a timer, it would run what should ask first
        chosen = context.scene.ex4d.server
        names = sorted({servers.NAME_HERE, chosen, *servers.known})
        for name in names:
            icon = "RADIOBUT_ON" if name == chosen else "RADIOBUT_OFF"
            self.layout.operator("ex4d.use_server", text=label_of(name), icon=icon, translate=name == "").name = name
        self.layout.separator()
        self.layout.operator("ex4d.pair_server", icon="ADD")
        if chosen in servers.known:
            self.layout.operator("ex4d.forget_server", text=f"Forget {chosen}", icon="REMOVE", translate=False)


class EX4D_PT_server(SidebarPanel, Panel):
    bl_label = "Server"

    def draw_step(self, layout, context, state):
        is_here = state.server == servers.NAME_HERE
        row = layout.row(align=True)
        text = HERE if is_here else state.server
        row.operator("ex4d.choose_server", text=text, icon="DESKTOP" if is_here else "NETWORK_DRIVE", translate=is_here)
        row.operator("ex4d.pair_server", text="", icon="ADD")
        if current.is_connected and current.server.name == state.server:
            layout.label(text="Connected", icon="CHECKMARK")
        else:
            text = "Connecting..." if current.is_connecting else "Connect to the Server"
            layout.operator("ex4d.connect_server", text=text, icon="LINKED")
        if current.is_link_error:
            wrapped(layout.box(), context, current.error, "ERROR")
            if is_here and not current.was_lost:
                addon = layout.operator("preferences.addon_show", text="Preferences", icon="PREFERENCES")
                addon.module = EX4D_Preferences.bl_idname
        if current.activity == servers.PAIRING:
            layout.label(text="Pairing...", icon="TIME")
        outcome(layout, context, Step.SERVER)
