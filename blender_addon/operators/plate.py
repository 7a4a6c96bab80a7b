# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1: a filmed plate comes into the scene: files, a movie clip with its solve, a strip or an image plane."""

from dataclasses import replace

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, IntProperty, StringProperty
from bpy.types import Operator, OperatorFileListElement

from .. import picture_files, plate_sources, scene_match, shots
from ..session import Step
from . import grey
from .step import StepOperator

MOVIES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".mxf", ".m4v", ".mts")

_clip_items = []  # Blender does not keep the texts of an enumeration that a function makes


def _movie_clips(operator, context):
    """The file's movie clips, for a menu."""
    _clip_items[:] = [
        (clip.name, clip.name, bpy.path.abspath(clip.filepath), "TRACKER", number)
        for number, clip in enumerate(bpy.data.movieclips)
    ]
    return _clip_items


class PlateOperator(StepOperator):
    """Brings one plate into the scene."""

    step, reasons = Step.PLATE, (grey.busy,)
    bl_options = {"REGISTER", "UNDO"}

    match_scene: BoolProperty(
        name="Match Scene",
        description="Give the scene the plate's size, colours and, from a movie, its frame rate",
        default=True,
    )

    def bring(self, context, source):
        notices = plate_sources.bring(context, replace(source, match_scene=self.match_scene))
        if notices is not None:
            self.report({"INFO"}, " ".join(notices))


class EX4D_OT_import_plate(PlateOperator, Operator):
    """Bring a filmed plate into the scene: a movie, or one picture for its whole sequence, or several for those"""

    bl_idname, bl_label = "ex4d.import_plate", "Import Plate"

    filepath: StringProperty(subtype="FILE_PATH")
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(
        default=";".join(f"*{suffix}" for suffix in (*MOVIES, *sorted(picture_files.SUFFIXES))), options={"HIDDEN"}
    )
    frame_start: IntProperty(
        name="First Frame",
        description="Scene frame that shows the plate's first frame. Unless set: 1, or the first picture's number",
        default=1,
        options={"SKIP_SAVE"},
    )

    def invoke(self, context, event):
        self.filepath = self.filepath or bpy.path.abspath("//")  # else the browser proposes the .blend
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def start(self, context):
        names = [file.name for file in self.files]
        source = plate_sources.picked_files(shots.absolute(self.filepath), names)
        if self.properties.is_property_set("frame_start"):
            source = replace(source, frame_start=self.frame_start)
        self.bring(context, source)


class EX4D_OT_plate_from_clip(PlateOperator, Operator):
    """Take a movie clip of this file as the plate, with its place in time and, if it was solved, its lens and motion"""

    bl_idname, bl_label = "ex4d.plate_from_clip", "From Movie Clip"
    reasons = (grey.no_movie_clip, grey.busy)

    clip: EnumProperty(name="Movie Clip", items=_movie_clips)

    def start(self, context):
        self.bring(context, plate_sources.clip_source(bpy.data.movieclips[self.clip]))


class EX4D_OT_plate_from_strip(PlateOperator, Operator):
    """Take the sequencer's active movie or image strip as the plate, at its place in time; if it is cut, the cut"""

    bl_idname, bl_label = "ex4d.plate_from_strip", "From Strip"
    reasons = (grey.no_strip, grey.busy)

    def start(self, context):
        self.bring(context, plate_sources.strip_source(plate_sources.active_strip(context.scene)))


class EX4D_OT_plate_from_plane(PlateOperator, Operator):
    """Take the movie or image sequence that the active object shows as the plate, at its place in time"""

    bl_idname, bl_label = "ex4d.plate_from_plane", "From Image Plane"
    reasons = (grey.no_image_plane, grey.busy)

    def start(self, context):
        self.bring(context, plate_sources.plane_source(context.object))


class EX4D_OT_match_scene(StepOperator, Operator):
    """Give the scene the plate's size, colours and, from a movie, its frame rate"""

    bl_idname, bl_label = "ex4d.match_scene", "Match Scene"
    step, reasons = Step.PLATE, (grey.no_shot, grey.already_matched)
    bl_options = {"REGISTER", "UNDO"}

    def start(self, context):
        self.report({"INFO"}, scene_match.match_scene(context.scene))
