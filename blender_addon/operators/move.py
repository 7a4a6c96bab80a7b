# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4: a camera move of the library, keyed on the artist's camera. Needs no server."""

import math

from bpy.props import EnumProperty, FloatProperty, IntProperty
from bpy.types import Operator

from .. import keyframes, moves
from ..errors import CameraPathError
from . import grey
from .step import StepOperator

HANDHELD = "handheld"
HANDHELD_AMOUNTS = {"angle": 0.8, "distance": 0.01}  # degrees; share of the way to the subject
MOVE_ITEMS = [
    *((name.replace("-", "_").upper(), move.label, move.help) for name, move in moves.MOVES.items()),
    (HANDHELD.upper(), "Handheld", "Sway as if held by hand, on top of the animation that the camera has"),
]
EASE_ITEMS = [
    ("LINEAR", "Linear", "The same speed all the way"),
    ("SMOOTH", "Smooth", "Start and stop gently"),
    ("IN", "Start Gently", "From standing still to full speed"),
    ("OUT", "Stop Gently", "From full speed to standing still"),
]
FRESH = {"SKIP_SAVE"}


class EX4D_OT_add_move(StepOperator, Operator):
    """Key a move on the scene's camera, from where it stands at the first frame; adjust it below in the 3D view"""

    bl_idname, bl_label = "ex4d.add_move", "Camera Move"
    bl_options = {"REGISTER", "UNDO"}
    reasons = (grey.no_camera, grey.plates_own_camera)

    move: EnumProperty(name="Move", items=MOVE_ITEMS)
    # Fresh for each move: a pan should not turn as far as the orbit before it.
    angle: FloatProperty(
        name="Angle", description="To the right, or upwards for a tilt", subtype="ANGLE", options=FRESH
    )
    rise: FloatProperty(name="Rise", description="Upwards round the subject", subtype="ANGLE", options=FRESH)
    distance: FloatProperty(
        name="Distance",
        description="As a share of the way to the subject; negative goes the other way",
        subtype="PERCENTAGE",
        soft_min=-100,
        soft_max=100,
        options=FRESH,
    )
    turns: FloatProperty(name="Turns", description="Full circles", options=FRESH)
    ease: EnumProperty(name="Easing", items=EASE_ITEMS, default="SMOOTH")
    seed: IntProperty(name="Seed", description="Another one sways differently", min=0)
    frame_start: IntProperty(
        name="First Frame", description="Where the move begins; as a rule the scene's first frame", options=FRESH
    )
    frame_end: IntProperty(
        name="Last Frame", description="Where the move ends; as a rule the scene's last frame", options=FRESH
    )

    def start(self, context):
        self._fill_in(context)
        if self.frame_end <= self.frame_start:
            raise CameraPathError(
                f"A move needs at least two frames, got {self.frame_start} to {self.frame_end}. Set the scene's range."
            )
        camera = context.scene.camera
        stand, to_channels = keyframes.stand_of(context, camera, context.scene.ex4d.move_target, self.frame_start)
        frames = self.frame_start, self.frame_end
        name = self.move.lower().replace("_", "-")
        if name == HANDHELD:
            swing = self.distance / 100 * stand.distance * to_channels.median_scale
            keyframes.sway(camera, self.angle, swing, self.seed, *frames)
        else:
            if name == "dolly-zoom" and self.distance >= 100:
                raise CameraPathError("A dolly zoom must stop before the subject: keep Distance below 100 %.")
            keys = moves.keys_of(name, self._amounts(name), self.ease.lower(), stand, *frames)
            keyframes.write_move(camera, to_channels, keys, has_zoom=name == "dolly-zoom")
        context.scene.frame_set(context.scene.frame_current)

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "move")
        name = self.move.lower().replace("_", "-")
        for amount in _amounts_of(name):
            layout.prop(self, amount)
        layout.prop(self, "seed" if name == HANDHELD else "ease")
        column = layout.column(align=True)
        column.prop(self, "frame_start")
        column.prop(self, "frame_end")

    def _fill_in(self, context):
        """Give what nobody has set its usual value: of the move, of the scene."""
        usual = {"frame_start": context.scene.frame_start, "frame_end": context.scene.frame_end}
        for name, amount in _amounts_of(self.move.lower().replace("_", "-")).items():
            usual[name] = amount if name == "turns" else 100 * amount if name == "distance" else math.radians(amount)
        for name, value in usual.items():
            if not self.properties.is_property_set(name):
                setattr(self, name, value)

    def _amounts(self, name):
        amounts = {"angle": math.degrees(self.angle), "rise": math.degrees(self.rise)}
        amounts |= {"distance": self.distance / 100, "turns": self.turns}
        return {amount: amounts[amount] for amount in moves.MOVES[name].amounts}


def _amounts_of(name):
    return HANDHELD_AMOUNTS if name == HANDHELD else moves.MOVES[name].amounts
