# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a shot beside its .blend, when it was made before the file had a folder of its own."""

import shutil
from functools import partial

import bpy

from . import compat, session, shots
from .errors import ShotDataError
from .job_files import PACKED


def gather(scene):
    """Copy the shot's folder beside the .blend in the background, then let the file point there.

    Raises:
        ShotDataError: the file is not saved yet, or a shot of that name lies there already.
    """
    if not bpy.data.filepath:
        raise ShotDataError("Save the file first: the shot then has a place beside it.")
    source, target = shots.shot_folder(scene), shots.shots_folder() / scene.ex4d.shot_name
    if target.exists():
        raise ShotDataError(f"{target} exists already. Rename that folder, then try again.")
    on_done = partial(_point_to, scene.ex4d.shot_id, source)
    session.call("Copying the shot", copy_whole, source, target, on_done=on_done)


def copy_whole(source, target):
    """Copy a folder so that it appears at once or not at all; runs in the background thread."""
    partial_copy = target.with_name(target.name + ".partial")
    shutil.rmtree(partial_copy, ignore_errors=True)
    shutil.copytree(source, partial_copy, ignore=shutil.ignore_patterns(PACKED))
    partial_copy.rename(target)
    return target


def _point_to(shot_id, source, target):
    scene = shots.scene_of(shot_id)
    if scene is None:
        return
    with session.undo_step("Gather Files"):
        for owner in (*bpy.data.images, *bpy.data.sounds, *compat.all_strips(scene)):
            name = next((name for name in ("filepath", "directory") if hasattr(owner, name)), None)
            stored = getattr(owner, name) if name is not None else ""
            if stored and (path := shots.absolute(stored)).is_relative_to(source):
                setattr(owner, name, shots.stored(target / path.relative_to(source)))
    session.current.notice = f"The shot lies in {target} now. Save the file once more."
