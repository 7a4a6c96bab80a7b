# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the server's program is."""

import shlex
import shutil
import sys
from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import AddonPreferences

from .errors import PreferencesError
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


def server_program(context) -> str:
    """Return what the artist wrote into the preferences."""
    return context.preferences.addons[__package__].preferences.server_command.strip()


def server_command(program: str) -> list[str] | None:
    """Return the words that run ex4d, or None where none is known. Looks for files: for the background thread.

    The preference decides; if it is empty, the server started last, then an ex4d on the PATH.

    Raises:
        PreferencesError: the preference is no command line.
    """
    if not program:
        candidates = (recorded_command(), ["ex4d"])
        return next((words for words in candidates if words and shutil.which(words[0])), None)
    if Path(program).is_file() or shutil.which(program):  # a path may hold spaces
        return [program]
    try:
        words = shlex.split(program, posix=sys.platform != "win32")  # on Windows a backslash is part of a path
    except ValueError as error:
        raise PreferencesError(
            f"Server Program in the extension's preferences is no command: {error}. Correct it, or leave it empty."
        ) from error
    return [word.strip('"') for word in words]


CLASSES = (EX4D_Preferences,)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
