# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera move as ordinary keyframes of a Blender camera."""

import numpy as np
from mathutils import Matrix, Vector

from . import compat, motion, path_sampling, shots
from .errors import CameraPathError
from .moves import Keys, Pose, Stand

BEZIER, ALIGNED = "BEZIER", "ALIGNED"
FAR_SUBJECT = 10.0  # scene units, where nothing says how far the subject is

# Of a hand-held camera: how long a sway takes in frames, and which curves sway.
SWAY_FRAMES = 24.0
SWAYING = ("location", "rotation_euler")


def stand_of(context, camera, target, frame_start):
    """Return where the camera stands at a frame, with what its moves turn round, and what brings it to its channels.

    Args:
        target: an object; None for the shot's subject, or what the camera focuses on.

    Returns:
        A `Stand` in the scene's world, and the matrix from there to what location and rotation say.
    """
    scene, state = context.scene, context.scene.ex4d
    with path_sampling.hidden(state.mesh), path_sampling.frame_restored(scene):
        scene.frame_set(frame_start)
        graph = context.evaluated_depsgraph_get()
        evaluated = camera.evaluated_get(graph)
        pose = np.array(evaluated.matrix_world, dtype=np.float64)
        to_channels = evaluated.matrix_basis @ evaluated.matrix_world.inverted()
        axes = pose[:3, :3] / np.linalg.norm(pose[:3, :3], axis=0)
        if target is not None:
            subject = np.array(target.evaluated_get(graph).matrix_world.translation)
        elif state.subject_distance and shots.in_scene(scene, state.source_camera):
            filmed_from = state.root.evaluated_get(graph).matrix_world @ motion.pose_at(
                state.source_camera, state.plate_start
            )
            subject = np.array(filmed_from @ Vector((0, 0, -state.subject_distance)))
        else:
            focus = camera.data.dof
            subject = pose[:3, 3] - (focus.focus_distance if focus.use_dof else FAR_SUBJECT) * axes[:, 2]
    return Stand(pose[:3, 3], axes, subject), to_channels


def write_move(camera, to_channels, keys: Keys, has_zoom: bool):
    """Key a move on the camera in place of the keys that it has in those frames.

    Args:
        camera: whose rotation is an Euler or a quaternion one.
        to_channels: of `stand_of`.
        keys: the move, in the scene's world.
        has_zoom: key the lens too.
    """
    rotation, count = _rotation_of(camera)
    channels = [("location", index) for index in range(3)] + [(rotation, index) for index in range(count)]
    values, slopes = [], []
    previous = None
    for pose, before, after in zip(keys.poses, keys.before, keys.after, strict=True):
        at = _channels(camera, to_channels, pose, previous)
        previous = at
        earlier, later = (_channels(camera, to_channels, near, at) for near in (before, after))
        values.append(at)
        slopes.append((later - earlier) / keys.nudge)
    for column, (path, index) in enumerate(channels):
        curve = compat.ensure_fcurve(camera, path, index)
        write_curve(curve, keys.frames, [row[column] for row in values], [row[column] for row in slopes])
    if has_zoom:
        lens = _lens_at(camera, keys.frames[0])
        curve = compat.ensure_fcurve(camera.data, "lens")
        zooms = [lens * pose.zoom for pose in keys.poses]
        pairs = zip(keys.before, keys.after, strict=True)
        write_curve(
            curve, keys.frames, zooms, [lens * (after.zoom - before.zoom) / keys.nudge for before, after in pairs]
        )


def sway(camera, turn_rad: float, swing: float, seed: int, frame_start: int, frame_end: int):
    """Let a camera sway as if held by hand: noise on its curves, on top of the animation that they have.

    Args:
        turn_rad: how far it turns to each side, at most.
        swing: how far it moves to each side, at most, in the unit of its location.
        seed: another one sways differently.
        frame_start, frame_end: between which it sways.
    """
    if _rotation_of(camera)[0] != "rotation_euler":
        raise CameraPathError(f"Set the rotation mode of '{camera.name}' to XYZ Euler: a hand-held sway needs that.")
    for number, (path, index) in enumerate((path, index) for path in SWAYING for index in range(3)):
        curve = compat.ensure_fcurve(camera, path, index)
        if not curve.keyframe_points:
            curve.keyframe_points.insert(frame_start, getattr(camera, path)[index])
        for modifier in list(curve.modifiers):
            if _sways_between(modifier, frame_start, frame_end):
                curve.modifiers.remove(modifier)
        noise = curve.modifiers.new("NOISE")
        noise.strength = 2 * (swing if path == "location" else turn_rad)  # noise goes half of it to each side
        noise.scale, noise.phase, noise.depth = SWAY_FRAMES, 31.7 * (6 * seed + number + 1), 1
        noise.use_restricted_range = True
        noise.frame_start, noise.frame_end = frame_start, frame_end
        noise.blend_in = noise.blend_out = min(SWAY_FRAMES, (frame_end - frame_start) / 4)
        curve.update()


def _sways_between(modifier, frame_start, frame_end):
    """Tell whether a curve's modifier is an earlier sway in those frames."""
    is_sway = modifier.type == "NOISE" and modifier.use_restricted_range
    return is_sway and modifier.frame_start < frame_end and modifier.frame_end > frame_start


def _rotation_of(camera):
    """(data path, numbers) of a camera's rotation."""
    if camera.rotation_mode == "QUATERNION":
        return "rotation_quaternion", 4
    if camera.rotation_mode == "AXIS_ANGLE":
        raise CameraPathError(f"Set the rotation mode of '{camera.name}' to XYZ Euler or Quaternion.")
    return "rotation_euler", 3


def _channels(camera, to_channels, pose: Pose, near):
    """Location and rotation as a camera's channels hold them, the rotation written as near as can be to another."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.axes, pose.position
    location, rotation, _ = (to_channels @ Matrix(matrix.tolist())).decompose()
    if camera.rotation_mode == "QUATERNION":
        known = camera.rotation_quaternion if near is None else near[3:]
        if np.dot(rotation, known) < 0:
            rotation.negate()
    else:
        known = camera.rotation_euler.copy()
        if near is not None:
            known[:] = near[3:]
        rotation = rotation.to_euler(camera.rotation_mode, known)
    return np.array([*location, *rotation])


def _lens_at(camera, frame):
    curve = next((curve for curve in compat.fcurves_of(camera.data) if curve.data_path == "lens"), None)
    return curve.evaluate(frame) if curve is not None else camera.data.lens


def write_curve(curve, frames, values, slopes):
    """Put Bezier keys into a curve in place of those that it has from the first to the last frame."""
    points = curve.keyframe_points
    for point in [point for point in points if frames[0] <= point.co[0] <= frames[-1]][::-1]:
        points.remove(point, fast=True)
    reach = np.diff(frames) / 3  # a third of the way: time then runs evenly along the curve
    for number, (frame, value, slope) in enumerate(zip(frames, values, slopes, strict=True)):
        point = points.insert(frame, value, options={"FAST"})
        point.interpolation, point.handle_left_type, point.handle_right_type = BEZIER, ALIGNED, ALIGNED
        left, right = reach[max(number - 1, 0)], reach[min(number, len(reach) - 1)]
        point.handle_left = (frame - left, value - slope * left)
        point.handle_right = (frame + right, value + slope * right)
    curve.update()
