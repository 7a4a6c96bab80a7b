# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers about its shot: one PropertyGroup, `scene.ex4d`, a file for each step of the artist's path."""

import bpy
from bpy.props import PointerProperty
from bpy.types import PropertyGroup

from .camera import CameraProperties
from .look import LookProperties
from .plate import PlateProperties
from .reconstruct import ReconstructProperties
from .result import EX4D_ListedTake, ResultProperties
from .server import ServerProperties
from .take import TakeProperties


class EX4D_SceneState(
    ServerProperties,
    PlateProperties,
    ReconstructProperties,
    LookProperties,
    CameraProperties,
    TakeProperties,
    ResultProperties,
    PropertyGroup,
):
    """The shot of this scene. Empty until a plate is imported."""


CLASSES = (EX4D_ListedTake, EX4D_SceneState)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.ex4d = PointerProperty(type=EX4D_SceneState)


def unregister():
    del bpy.types.Scene.ex4d
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
