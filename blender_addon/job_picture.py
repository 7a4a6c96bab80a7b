# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of how a job comes along, as an icon that a panel can draw. Gone when the job ends.

Blender decodes a picture in memory only as a packed image data-block. One lives here for a moment; what stays is an
icon's pixels, which neither the .blend nor the artist's undo knows.
"""

import bpy
import bpy.utils.previews
import numpy as np

NAME = "ex4d job picture"

_icons = None  # made when the first picture arrives


def show(data: bytes):
    """Replace the picture. What is no picture is left out: it is only a help."""
    global _icons
    image = bpy.data.images.new(NAME, 1, 1)
    try:
        image.pack(data=data, data_len=len(data))
        image.source = "FILE"
        width, height = image.size
        if not (image.has_data and width and height):
            return
        pixels = np.empty(4 * width * height, dtype=np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    clear()
    _icons = bpy.utils.previews.new()
    icon = _icons.new(NAME)
    icon.image_size = width, height
    icon.image_pixels_float.foreach_set(pixels)


def icon_id() -> int | None:
    """Return the picture's icon, or None while there is none."""
    return _icons[NAME].icon_id if _icons is not None else None


def clear():
    """Forget the picture."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None
