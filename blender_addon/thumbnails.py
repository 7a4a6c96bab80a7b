# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of each take, as an icon. Blender makes it of the movie in a job of its own, when it is first drawn."""

from pathlib import Path

import bpy
import bpy.utils.previews

from . import shots

PICTURED = "result.mp4"

_icons = None  # made with the first one


def icon_id(scene, name) -> int:
    """Return the icon of a take that lies beside the shot. Looks at no file."""
    global _icons
    if _icons is None:
        _icons = bpy.utils.previews.new()
    image = scene.ex4d.shot_image
    folder = Path(bpy.path.abspath(image.filepath)).parent if image is not None else shots.shot_folder(scene)
    path = str(folder / "takes" / name / PICTURED)
    known = _icons.get(path)
    return (known if known is not None else _icons.load(path, path, "MOVIE")).icon_id


def forget():
    """Let the next look read the files anew."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None


def register():
    pass


def unregister():
    forget()
