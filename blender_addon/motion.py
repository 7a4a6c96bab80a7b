# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes of an object that stands elsewhere on every frame of the plate. They play without this add-on."""

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from . import compat

CONSTANT = 0  # Blender's number of the interpolation: between its frames a plate shows the same picture
POSE = (("location", 3), ("rotation_quaternion", 4))


def moves(item) -> bool:
    """Tell whether an object has a place of its own on each frame."""
    return any(curve.data_path == POSE[0][0] for curve in compat.fcurves_of(item))


def place(item, matrices, frame_start: int):
    """Let an object stand at one pose per frame; a single pose makes it stand still.

    Args:
        item: the object.
        matrices: relative to its parent, rigid. [T, 4, 4]
        frame_start: scene frame of the first one.
    """
    if len(matrices) == 1 and not moves(item):
        item.matrix_basis = Matrix(matrices[0].tolist())
        return
    item.rotation_mode = "QUATERNION"
    parts = [Matrix(matrix.tolist()).decompose() for matrix in matrices]
    values = {
        "location": np.array([location[:] for location, *_ in parts]),
        "rotation_quaternion": np.array([rotation[:] for _, rotation, _ in parts]),
    }
    frames = np.arange(frame_start, frame_start + len(parts), dtype=np.float64)
    for path, count in POSE:
        for index in range(count):
            compat.set_keys(compat.ensure_fcurve(item, path, index), frames, values[path][:, index], CONSTANT)
    for path, _ in POSE:  # at once, not only when the frame changes next
        frame = np.clip(bpy.context.scene.frame_current - frame_start, 0, len(parts) - 1)
        setattr(item, path, values[path][frame])


def follow(item, driven):
    """Let the keyframes of an object be those of another time than the scene's.

    Args:
        item: the object; one that stands still is left alone.
        driven: (data-block, its property, expression of p) whose value is the frame; None for the scene's own.
    """
    for path, count in POSE:
        for index in range(count):
            item.driver_remove(path, index)
    if driven is None or not moves(item):
        return
    poses = {path for path, _ in POSE}
    for curve in [curve for curve in compat.fcurves_of(item) if curve.data_path in poses]:
        at = np.empty(2 * len(curve.keyframe_points), dtype=np.float32)
        curve.keyframe_points.foreach_get("co", at)
        remapped = compat.drive(item, curve.data_path, curve.array_index, *driven)
        for modifier in list(remapped.modifiers):  # a line through the origin, which a new driver has
            remapped.modifiers.remove(modifier)
        compat.set_keys(remapped, *at.reshape(-1, 2).T, CONSTANT)


def pose_at(item, frame: float) -> Matrix:
    """Return where an object stands at a scene frame, relative to its parent."""
    if not moves(item):
        return item.matrix_basis.copy()
    found = {(curve.data_path, curve.array_index): curve.evaluate(frame) for curve in compat.fcurves_of(item)}
    location, rotation = ([found.get((path, index), 0.0) for index in range(count)] for path, count in POSE)
    return Matrix.LocRotScale(location, Quaternion(rotation), None)
