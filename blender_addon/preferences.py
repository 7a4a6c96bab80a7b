# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the server's program is."""

import shlex
import shutil
from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import AddonPreferences


class EX4D_Preferences(AddonPreferences):
    bl_idname = __package__

    server_command: StringProperty(
        name="Server Program",
        description="The ex4d program that starts the server: its name, its full path, or a command with arguments",
        default="ex4d",
        subtype="FILE_PATH",
    )

    def draw(self, context):
        self.layout.prop(self, "server_command")
        self.layout.label(text="Installed with `pip install ex4d`; give the full path if Blender does not find it.")


def server_command(context):
    """Return the words of the command that runs ex4d."""
    text = context.preferences.addons[__package__].preferences.server_command.strip() or "ex4d"
    if Path(text).is_file() or shutil.which(text):  # a path may hold spaces
        return [text]
    return shlex.split(text)


CLASSES = (EX4D_Preferences,)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
