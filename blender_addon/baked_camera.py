# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera path as other programs take it: one pose and one lens per frame in the world, nothing behind them."""

import math
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from . import cameras, compat, path_sampling
from .path_sampling import SampledPath

LINEAR = 1  # Blender's number of the interpolation
Y_UP = Matrix.Rotation(-math.pi / 2, 4, "X")  # from Blender's Z up
CHAN_ORDER = "ZXY"  # of a Nuke camera's rotations, unless its artist says otherwise


@dataclass(frozen=True)
class BakedCamera:
    """A camera in the scene's world."""

    frame_start: int
    poses: list[Matrix]  # camera to world, Blender's axes, no scale. [N]
    path: SampledPath
    film_back_mm: tuple[float, float]  # what of the sensor the picture covers: width, height

    @property
    def frames(self) -> range:
        return range(self.frame_start, self.frame_start + len(self.poses))

    @property
    def lenses(self) -> list[cameras.Lens]:
        """One per frame, the sensor's width across the picture."""
        size = self.path.width, self.path.height
        return [cameras.lens_of(matrix, *size, self.film_back_mm[0]) for matrix in self.path.intrinsics]


def bake(scene, path: SampledPath, frame_start: int, film_back_width_mm: float) -> BakedCamera:
    """Bring a path from the shot's world into the scene's, wherever the shot's Empty stands on each frame."""
    state, poses = scene.ex4d, []
    with path_sampling.hidden(state.mesh), path_sampling.frame_restored(scene):
        for number, world_to_camera in enumerate(path.world_to_camera):
            scene.frame_set(frame_start + number)
            root = state.root.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world
            location, rotation, _ = (root @ Matrix(cameras.camera_to_shot(world_to_camera).tolist())).decompose()
            poses.append(Matrix.LocRotScale(location, rotation, None))
    pixel_aspect = path.intrinsics[0, 0, 0] / path.intrinsics[0, 1, 1]  # how much taller than wide
    height_mm = film_back_width_mm * path.height * pixel_aspect / path.width
    return BakedCamera(frame_start, poses, path, (film_back_width_mm, height_mm))


def camera_object(baked: BakedCamera, name: str):
    """Return a new camera object with a key on every frame; its caller puts it into a collection, and removes it."""
    data = bpy.data.cameras.new(name)
    camera = bpy.data.objects.new(name, data)
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width, data.sensor_height = baked.film_back_mm
    camera.rotation_mode = "QUATERNION"
    turns: list[Quaternion] = []
    for pose in baked.poses:
        turn = pose.to_quaternion()
        if turns and turn.dot(turns[-1]) < 0:
            turn.negate()
        turns.append(turn)
    columns = {("location", i): [pose.translation[i] for pose in baked.poses] for i in range(3)}
    columns |= {("rotation_quaternion", i): [turn[i] for turn in turns] for i in range(4)}
    for (path, index), values in columns.items():
        compat.set_keys(compat.ensure_fcurve(camera, path, index), baked.frames, values, LINEAR)
    lenses = baked.lenses
    aspect = baked.film_back_mm[1] * baked.path.width / (baked.film_back_mm[0] * baked.path.height)
    for path, values in (
        ("lens", [lens.lens_mm for lens in lenses]),
        ("shift_x", [lens.shift_x for lens in lenses]),
        ("shift_y", [lens.shift_y * aspect for lens in lenses]),
    ):
        setattr(data, path, values[0])
        if np.ptp(values) > 0:
            compat.set_keys(compat.ensure_fcurve(data, path), baked.frames, values, LINEAR)
    return camera


def chan(baked: BakedCamera) -> str:
    """Return the camera as a .chan of Nuke: frame, position, rotation (degrees, ZXY), vertical angle of view; Y up."""
    lines = []
    for frame, pose, matrix in zip(baked.frames, baked.poses, baked.path.intrinsics, strict=True):
        upright = Y_UP @ pose
        turns = [math.degrees(angle) for angle in upright.to_euler(CHAN_ORDER)]
        view_deg = math.degrees(2 * math.atan(baked.path.height / 2 / matrix[1, 1]))
        numbers = "\t".join(f"{number:.8f}" for number in (*upright.translation, *turns, view_deg))
        lines.append(f"{frame}\t{numbers}\n")
    return "".join(lines)
