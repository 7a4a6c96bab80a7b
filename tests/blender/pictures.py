# SPDX-License-Identifier: Apache-2.0
"""Numbered pictures, written by Blender itself."""

import bpy
import numpy as np


def write_picture(path, rgb):
    """Write a picture in the format of its name.

    Args:
        rgb: uint8 [H, W, 3]; into an EXR go these numbers divided by 255, as scene-linear light.
    """
    kinds = {".png": "PNG", ".exr": "OPEN_EXR", ".tif": "TIFF", ".jpg": "JPEG"}
    height, width = rgb.shape[:2]
    is_float = path.suffix == ".exr"
    image = bpy.data.images.new("picture", width, height, float_buffer=is_float, is_data=is_float)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = rgb[::-1] / 255
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path), kinds[path.suffix]
    image.save()
    bpy.data.images.remove(image)
    return path


def write_sequence(folder, frames, first=1001, suffix=".png", name="plate"):
    """Write frames [T, H, W, 3] as name.1001.png and on; return the folder."""
    folder.mkdir(exist_ok=True)
    for number, rgb in enumerate(frames, start=first):
        write_picture(folder / f"{name}.{number:04d}{suffix}", rgb)
    return folder
