# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the server's program is."""

import shlex
import shutil
from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import AddonPreferences

from .shared_protocol.launch import recorded_command


class EX4D_Preferences(AddonPreferences):
    bl_idname = __package__

    server_command: StringProperty(
        name="Server Program",
        description="The ex4d program that starts the server: its name, its full path, or a command with arguments",
        subtype="FILE_PATH",
    )

    def draw(self, context):
        self.layout.prop(self, "server_command")
        self.layout.label(text="Leave empty to use the server that was started last on this computer.")


def server_command(context):
    """Return the words that run ex4d, or None where none is known.

    The preference decides; if it is empty, the server started last, then an ex4d on the PATH.
    """
    text = context.preferences.addons[__package__].preferences.server_command.strip()
    if not text:
        candidates = (recorded_command(), ["ex4d"])
        return next((words for words in candidates if words and shutil.which(words[0])), None)
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
