# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: a filmed plate comes into the scene, from a file, a movie clip with its solve, or the sequencer."""

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty
from bpy.types import Operator

from .. import compat, plate, shots
from ..session import Step
from ..view import look_through, show_materials
from . import grey
from .step import StepOperator

_clip_items = []  # Blender does not keep the texts of an enumeration that a function makes


def _movie_clips(operator, context):
    """The file's movie clips, for a menu."""
    _clip_items[:] = [
        (clip.name, clip.name, bpy.path.abspath(clip.filepath), "TRACKER", number)
        for number, clip in enumerate(bpy.data.movieclips)
        if clip.source == "MOVIE"
    ]
    return _clip_items


class PlateOperator(StepOperator):
    """Brings one plate into the scene."""

    step, reasons = Step.PLATE, (grey.busy,)
    bl_options = {"REGISTER", "UNDO"}

    def bring(self, context, found, frame_start):
        scene = context.scene
        plate.import_plate(scene, found, frame_start)
        notices = plate.set_scene_from_plate(scene, found, frame_start)
        notices += plate.obstacles(context)
        scene.ex4d.plate_notice = "\n".join(notices)
        self.report({"INFO"}, " ".join(notices))
        look_through(context, scene.camera)
        show_materials(context.window_manager)


class EX4D_OT_import_plate(PlateOperator, Operator):
    """Bring a filmed plate into the scene: as an image plane and as the background of the camera that filmed it"""

    bl_idname, bl_label = "ex4d.import_plate", "Import Plate"

    filepath: StringProperty(subtype="FILE_PATH")
    filter_glob: StringProperty(default="*.mp4;*.mov;*.mkv;*.avi;*.webm;*.mxf;*.m4v;*.mts", options={"HIDDEN"})
    frame_start: IntProperty(
        name="First Frame", description="Scene frame that shows the plate's first frame", default=1
    )

    def invoke(self, context, event):
        self.filepath = self.filepath or bpy.path.abspath("//")  # else the browser proposes the .blend
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def start(self, context):
        self.bring(context, plate.open_plate(shots.absolute(self.filepath)), self.frame_start)


class EX4D_OT_plate_from_clip(PlateOperator, Operator):
    """Take a movie clip of this file as the plate, with its place in time and, if it was solved, its lens and motion"""

    bl_idname, bl_label = "ex4d.plate_from_clip", "From Movie Clip"
    reasons = (grey.no_movie_clip, grey.busy)

    clip: EnumProperty(name="Movie Clip", items=_movie_clips)

    def start(self, context):
        clip = bpy.data.movieclips[self.clip]
        self.bring(context, plate.plate_of(clip), clip.frame_start)


class EX4D_OT_plate_from_strip(PlateOperator, Operator):
    """Take the sequencer's active movie strip as the plate, at the strip's place in time"""

    bl_idname, bl_label = "ex4d.plate_from_strip", "From Strip"
    reasons = (grey.no_movie_strip, grey.busy)

    def start(self, context):
        filepath, frame_start = compat.movie_strip(context.scene)
        self.bring(context, plate.open_plate(shots.absolute(filepath)), frame_start)
