# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does the heavy work for this scene."""

from bpy.props import StringProperty


class ServerProperties:
    server: StringProperty(
        name="Server",
        description="Name of the paired server that this scene's jobs go to. Empty: the server of this computer",
    )
