# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: the plate's own time, keyed: freeze, ramp, reverse. Needs no server."""

from bpy.props import EnumProperty, FloatProperty, IntProperty
from bpy.types import Operator

from .. import plate_time
from ..errors import CameraPathError
from . import grey
from .step import StepOperator

TIME_ITEMS = [
    ("PLAY", "Play", "As filmed: the start for keys of your own"),
    ("FREEZE", "Freeze", "One frame of the plate, all the time: only the camera moves"),
    ("HOLD", "Stop and Go On", "Play, stand still at one frame for a while, then play on from there"),
    ("RAMP", "Ramp", "From full speed to another one, evenly"),
    ("REVERSE", "Reverse", "Backwards"),
    ("CLEAR", "Remove Keys", "The plate plays as filmed, and follows the scene's frame"),
]
FRESH = {"SKIP_SAVE"}


class EX4D_OT_key_plate_time(StepOperator, Operator):
    """Key which of the plate's frames shows over the scene's range; edit the keys of the shot's Empty as any others"""

    bl_idname, bl_label = "ex4d.key_plate_time", "Key Plate Time"
    bl_options = {"REGISTER", "UNDO"}
    reasons = (grey.no_shot, grey.no_reconstruction, grey.no_mesh)

    time: EnumProperty(name="Plate Time", items=TIME_ITEMS)
    frame: IntProperty(
        name="Frame", description="The plate's frame that stands still; as a rule the current one", options=FRESH
    )
    hold: IntProperty(name="For", description="How many frames it stands still", min=1, default=24)
    speed: FloatProperty(
        name="Final Speed",
        description="At the end of the range, of the speed that was filmed; negative runs backwards",
        subtype="PERCENTAGE",
        soft_min=-100,
        soft_max=400,
        default=25,
    )

    def start(self, context):
        scene, state = context.scene, context.scene.ex4d
        if not self.properties.is_property_set("frame"):
            self.frame = scene.frame_current
        if self.time == "CLEAR":
            plate_time.clear(state)
        else:
            begin, end = scene.frame_start, scene.frame_end
            if end <= begin:
                raise CameraPathError(f"Plate time needs at least two frames, got {begin} to {end}. Set the range.")
            plate_time.key(state, *self._keys(begin, end))
        scene.frame_set(scene.frame_current)

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "time")
        if self.time in {"FREEZE", "HOLD"}:
            layout.prop(self, "frame")
        if self.time == "HOLD":
            layout.prop(self, "hold")
        if self.time == "RAMP":
            layout.prop(self, "speed")

    def _keys(self, begin, end):
        """(scene frames, the plate's frames there) and for a curve its slopes."""
        match self.time:
            case "FREEZE":
                return (begin, end), (self.frame, self.frame)
            case "REVERSE":
                return (begin, end), (end, begin)
            case "RAMP":
                final = self.speed / 100  # a speed that changes evenly is, on average, the mean of first and last
                return (begin, end), (begin, begin + (end - begin) * (1 + final) / 2), (1, final)
            case "HOLD":
                on = self.frame + self.hold
                keys = {begin: min(begin, self.frame), self.frame: self.frame, on: self.frame}
                keys[max(end, on + 1)] = max(end, on + 1) - self.hold
                frames = sorted(keys)
                return frames, [keys[frame] for frame in frames]
        return (begin, end), (begin, end)
