# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: the new camera."""

import bpy
from bpy.props import FloatProperty, PointerProperty


class CameraProperties:
    subject_distance: FloatProperty(
        name="Subject Distance", description="Of the first frame's middle, in shot units; camera moves turn round it"
    )
    move_target: PointerProperty(
        type=bpy.types.Object,
        name="Subject",
        description="What camera moves turn round and keep in view. Empty: what stands in the middle of the plate",
    )
