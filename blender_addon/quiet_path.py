# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's camera path read from its curves, without moving the scene to other frames.

Moving it would throw away what the artist has changed but not keyed yet. It costs a few milliseconds, but knows only
keyframes and parents; `path_sampling` knows everything.
"""

import numpy as np
from mathutils import Euler, Matrix, Quaternion

from . import compat, plate_time
from .cameras import NotRigidError, intrinsics_of, world_to_camera
from .errors import CameraPathError
from .path_sampling import SampledPath, picture_of
from .path_sampling import lens_of_camera as lens_of

MEASURE = "Check Coverage measures it."
LENS = {"lens": "lens_mm", "sensor_width": "sensor_width_mm", "shift_x": "shift_x", "shift_y": "shift_y"}


def quiet_path(scene, frames) -> SampledPath:
    """Return the scene camera's path at scene frames.

    Raises:
        CameraPathError: the camera does more than keyframes and parents tell, or cannot be sent at all.
    """
    state, camera = scene.ex4d, scene.camera
    if camera is None or camera.type != "CAMERA" or camera.data.type != "PERSP":
        raise CameraPathError("The scene has no perspective camera.")
    if any(marker.camera is not None for marker in scene.timeline_markers):
        raise CameraPathError(f"Markers switch the camera: {MEASURE}")
    chains = [_plain_chain(camera), _plain_chain(state.root)]
    data_curves = _curves(camera.data, camera.name)
    time_curve = _curves(state.root, state.root.name).get((plate_time.DATA_PATH, 0))
    poses, matrices, shown = [], [], []
    for frame in frames:
        camera_to_scene, root_to_scene = (np.array(_world(chain, frame), dtype=np.float64) for chain in chains)
        try:
            poses.append(world_to_camera(camera_to_scene, root_to_scene))
        except NotRigidError as error:
            raise CameraPathError(f"'{camera.name}' cannot be used at frame {frame:g}: {error}.") from error
        values = {name: data_curves[path, 0].evaluate(frame) for path, name in LENS.items() if (path, 0) in data_curves}
        matrices.append(intrinsics_of(_replaced(lens_of(camera), values), picture_of(scene)))
        shown.append(_plate_frame(state, time_curve, frame))
    picture = picture_of(scene)
    return SampledPath(np.array(poses), np.array(matrices), picture.width, picture.height, np.array(shown, dtype=float))


def _replaced(lens, values):
    return type(lens)(**{**vars(lens), **values})


def _plate_frame(state, curve, frame):
    if plate_time.is_keyed(state):
        value = state.root[plate_time.PROPERTY] if curve is None else curve.evaluate(frame)
        return plate_time.clamped(value, state.plate_start, state.plate_frames)
    return min(max(frame - state.plate_start, 0), state.plate_frames - 1)


def _curves(datablock, name):
    """{(path, index): curve} of a data-block that keyframes alone animate."""
    animation = datablock.animation_data
    if animation is not None and (len(animation.drivers) or len(animation.nla_tracks)):
        raise CameraPathError(f"'{name}' has drivers or NLA strips: {MEASURE}")
    return {(curve.data_path, curve.array_index): curve for curve in compat.fcurves_of(datablock) if not curve.mute}


def _plain_chain(item):
    """[(object, its curves)] from an object up through its parents."""
    chain = []
    while item is not None:
        if any(not constraint.mute for constraint in item.constraints):
            raise CameraPathError(f"'{item.name}' has constraints: {MEASURE}")
        if item.rotation_mode == "AXIS_ANGLE" or (item.parent is not None and item.parent_type != "OBJECT"):
            raise CameraPathError(f"'{item.name}' is rotated or parented in an unusual way: {MEASURE}")
        if any(item.delta_location) or any(item.delta_rotation_euler) or tuple(item.delta_scale) != (1, 1, 1):
            raise CameraPathError(f"'{item.name}' has delta transforms: {MEASURE}")
        chain.append((item, _curves(item, item.name)))
        item = item.parent
    return chain


def _world(chain, frame):
    matrix = Matrix()
    for item, curves in chain:
        matrix = item.matrix_parent_inverse @ _basis(item, curves, frame) @ matrix
    return matrix


def _basis(item, curves, frame):
    def channel(path):
        values = list(getattr(item, path))
        for index in range(len(values)):
            if (path, index) in curves:
                values[index] = curves[path, index].evaluate(frame)
        return values

    if item.rotation_mode == "QUATERNION":
        rotation = Quaternion(channel("rotation_quaternion")).normalized()
    else:
        rotation = Euler(channel("rotation_euler"), item.rotation_mode)
    return Matrix.LocRotScale(channel("location"), rotation, channel("scale"))
