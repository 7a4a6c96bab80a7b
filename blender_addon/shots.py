# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a scene's shot lies on disk, and how to find a shot's scene again."""

import json
import re
from pathlib import Path

import bpy

from .errors import ShotDataError

# Newest schema of shot.json and take.json that this version understands.
SCHEMA = 1


def safe_name(text):
    """Return the text as a file and folder name on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:60] or "shot"


def absolute(path):
    """Return a Blender path, // or not, as an absolute Path."""
    return Path(bpy.path.abspath(path)).resolve()


def stored(path):
    """Return a path as Blender should store it: relative to the .blend wherever that is possible."""
    if not bpy.data.filepath:
        return str(path)
    try:
        return bpy.path.relpath(str(path))
    except ValueError:  # another drive on Windows
        return str(path)


def shots_folder():
    """Return the folder for new shots: beside the .blend, or the extension's own while there is none."""
    if bpy.data.filepath:
        return Path(bpy.data.filepath).resolve().parent / "ex4d"
    return Path(bpy.utils.extension_path_user(__package__, path="shots", create=True))


def unused_shot_name(wanted):
    """Return the name, numbered if a shot of that name exists in this file or beside it."""
    wanted = safe_name(wanted)
    folder = shots_folder()
    name, number = wanted, 1
    while bpy.data.objects.get(f"EX-4D {name}") is not None or (folder / name).exists():
        number += 1
        name = f"{wanted}_{number:02d}"
    return name


def shot_folder(scene):
    """Return the folder of the scene's shot.

    Once reconstructed, the shot's picture says where: Blender keeps its path right when the .blend is saved elsewhere.
    """
    state = scene.ex4d
    if state.shot_image is not None:
        return absolute(state.shot_image.filepath).parent
    return shots_folder() / state.shot_name


def takes_folder(scene):
    """Return the folder that holds the shot's takes."""
    return shot_folder(scene) / "takes"


def shot_file(scene, role):
    """Return the path of one of the shot's files."""
    path = shot_folder(scene) / role
    if not path.is_file():
        raise ShotDataError(f"{path} is missing. Put it back, or reconstruct the shot again.")
    return path


def read_record(path):
    """Return the content of shot.json or take.json; for the background thread.

    Raises:
        ShotDataError: it was written by a newer EX-4D.
        errors.DAMAGED: it cannot be read.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["schema"] > SCHEMA:
        raise ShotDataError(
            f"{path} was written by a newer EX-4D (schema {record['schema']}; this extension reads up to {SCHEMA}). "
            "Install a newer extension."
        )
    return record


def scene_of(shot_id):
    """Return the scene that holds a shot, or None when another file is open by now."""
    return next((scene for scene in bpy.data.scenes if scene.ex4d.shot_id == shot_id), None)


def in_scene(scene, item):
    """Tell whether an object is still part of the scene: a deleted one may linger in a pointer."""
    return item is not None and scene.objects.get(item.name) is item
