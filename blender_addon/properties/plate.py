# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: the plate, and where its shot hangs."""

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty, PointerProperty, StringProperty


class PlateProperties:
    shot_name: StringProperty(name="Shot")
    shot_id: StringProperty(name="Shot ID", description="Finds this scene again when a job's result arrives")
    root: PointerProperty(type=bpy.types.Object, name="Shot Empty")
    source_camera: PointerProperty(type=bpy.types.Object, name="Source Camera")
    plate_plane: PointerProperty(type=bpy.types.Object, name="Plate Plane")
    plate_clip: PointerProperty(type=bpy.types.MovieClip, name="Plate")
    plate_width: IntProperty(name="Plate Width")
    plate_height: IntProperty(name="Plate Height")
    plate_fps: FloatProperty(name="Plate Frame Rate")
    film_start: IntProperty(name="File's First Frame", description="Scene frame that shows the file's first frame")
    film_frames: IntProperty(name="File Length")
    plate_start: IntProperty(name="First Frame", description="Scene frame that shows the first frame used")
    plate_frames: IntProperty(name="Plate Length", description="How many frames are used")
    is_undistorted: BoolProperty(
        name="Undistorted", description="The reconstruction undid the lens's distortion: the shot's plate shows none"
    )
    plate_notice: StringProperty(name="Plate Notice", description="What the import set, a line for each fact")
