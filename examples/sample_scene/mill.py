# SPDX-License-Identifier: Apache-2.0
"""The middle of the sample scene: a windmill that turns, a swing that swings, sheep, a fence."""

import math
from itertools import pairwise

import bmesh
import bpy

from . import materials, shapes
from .landscape import ground_height

MILL_AT = (3.3, 13.2)
SAIL_TURNS_PER_S = 0.16
SWING_AT = (-1.3, 4.45)
SWING_SCALE = 0.62
SWING_ROPE_M = 1.35
SWING_PERIOD_S = 2.1


class Mill:
    """Windmill, swing and sheep; `pose` turns and swings them."""

    def __init__(self) -> None:
        self.sails = self.build_mill()
        self.swing = self.build_swing()
        self.sheep = self.build_sheep()
        self.build_fence()

    def build_mill(self) -> bpy.types.Object:
        """A tower mill of stone and plaster; returns the handle that carries its sails."""
        plaster = materials.speckled(
            "mill plaster",
            ((0.34, (0.60, 0.53, 0.42)), (0.5, (0.84, 0.79, 0.68)), (0.66, (0.93, 0.90, 0.83))),
            2.2,
            0.02,
        )
        stone = materials.brickwork("mill stone", (0.40, 0.36, 0.32), (0.30, 0.27, 0.25), (0.62, 0.58, 0.52), 0.26)
        shingles = materials.brickwork("shingles", (0.42, 0.11, 0.06), (0.30, 0.075, 0.045), (0.12, 0.04, 0.03), 0.16)
        timber = materials.wooden("mill timber", (0.10, 0.055, 0.03), (0.34, 0.20, 0.11), along="Z")
        canvas = materials.speckled("canvas", ((0.35, (0.74, 0.62, 0.44)), (0.65, (0.95, 0.88, 0.74))), 5.0, 0.01)
        glass = materials.painted("glass", (0.03, 0.05, 0.08), 0.1)

        root = shapes.empty("mill", (*MILL_AT, ground_height(*MILL_AT) - 0.1))
        root.rotation_euler = (0, 0, math.radians(-22))
        shapes.revolved("mill base", [(1.42, 0.0), (1.36, 0.75)], stone, parent=root)
        shapes.revolved("mill tower", [(1.36, 0.75), (1.43, 0.78), (1.3, 0.86), (0.96, 3.7)], plaster, parent=root)
        shapes.revolved("gallery", [(1.0, 3.68), (1.14, 3.72), (1.14, 3.82), (0.9, 3.84)], timber, parent=root)
        shapes.revolved(
            "cap", [(1.08, 3.8), (1.02, 4.1), (0.72, 4.62), (0.3, 4.95), (0.0, 5.05)], shingles, parent=root
        )
        shapes.ball("finial", 0.1, timber, (0, 0, 5.1), root)
        shapes.box("door", (0.62, 0.14, 1.15), timber, (0, -1.36, 0.62), root)
        shapes.box("lintel", (0.8, 0.2, 0.12), stone, (0, -1.34, 1.24), root)
        for height, out in ((2.0, 1.19), (3.0, 1.06)):
            shapes.box("window frame", (0.46, 0.12, 0.56), timber, (0, -out, height), root)
            shapes.box("window", (0.34, 0.14, 0.44), glass, (0, -out - 0.005, height), root, bevel=0.0)
            shapes.box("bar", (0.03, 0.16, 0.44), timber, (0, -out - 0.005, height), root, bevel=0.0)

        sails = shapes.empty("sails", (0, -1.34, 4.15), root)
        shapes.cylinder("axle", 0.1, 0.9, timber, (0, 0.3, 0), sails, axis="Y")
        shapes.cylinder("boss", 0.19, 0.2, timber, (0, 0, 0), sails, axis="Y")
        for i in range(4):
            arm = shapes.empty("arm", parent=sails)
            arm.rotation_euler = (0, i * math.pi / 2, 0)
            shapes.box("stock", (0.1, 0.1, 2.75), timber, (0, 0, 1.37), arm)
            cloth = shapes.box("cloth", (0.58, 0.025, 1.95), canvas, (0.34, 0, 1.72), arm, bevel=0.0)
            cloth.rotation_euler = (0, 0, 0.12)
            for bar in range(6):
                shapes.box("sail bar", (0.66, 0.05, 0.035), timber, (0.32, -0.02, 0.78 + 0.375 * bar), arm, bevel=0.0)
            shapes.box("sail edge", (0.035, 0.05, 1.95), timber, (0.64, -0.04, 1.72), arm, bevel=0.0)
        return sails

    def build_swing(self) -> bpy.types.Object:
        """A board on two ropes under a frame, with a bear on it; returns the pivot."""
        timber = materials.wooden("swing timber", (0.24, 0.13, 0.06), (0.55, 0.35, 0.18), along="Z")
        rope = materials.painted("rope", (0.55, 0.42, 0.24), 0.9, scale=40.0)
        fur = materials.speckled("fur", ((0.35, (0.24, 0.11, 0.04)), (0.65, (0.62, 0.36, 0.16))), 16.0, 0.03)
        scarf = materials.painted("scarf", (0.75, 0.05, 0.04), 0.8, scale=20.0)
        x, y = SWING_AT
        root = shapes.empty("swing frame", (x, y, ground_height(x, y)))
        root.scale, root.rotation_euler = (SWING_SCALE,) * 3, (0, 0, math.radians(38))
        top = SWING_ROPE_M + 0.45
        shapes.cylinder("beam", 0.055, 1.5, timber, (0, 0, top), root, axis="X")
        for side in (-1, 1):
            for lean in (-1, 1):
                leg = shapes.cylinder("leg", 0.045, top * 1.04, timber, (side * 0.7, lean * 0.24, top / 2), root)
                leg.rotation_euler = (lean * 0.26, 0, 0)
        pivot = shapes.empty("swing", (0, 0, top), root)
        for side in (-1, 1):
            shapes.cylinder("rope", 0.014, SWING_ROPE_M, rope, (side * 0.3, 0, -SWING_ROPE_M / 2), pivot, segments=8)
        seat = -SWING_ROPE_M
        shapes.box("seat", (0.74, 0.3, 0.05), scarf, (0, 0, seat), pivot)
        shapes.ball("bear", 0.24, fur, (0, 0, seat + 0.25), pivot, squash=1.1)
        shapes.ball("bear's head", 0.18, fur, (0, -0.03, seat + 0.62), pivot)
        shapes.cylinder("bear's scarf", 0.16, 0.08, scarf, (0, -0.01, seat + 0.47), pivot)
        shapes.ball(
            "bear's nose", 0.07, materials.painted("muzzle", (0.80, 0.62, 0.42), 0.8), (0, -0.19, seat + 0.59), pivot
        )
        for side in (-1, 1):
            shapes.ball("bear's ear", 0.075, fur, (side * 0.14, -0.01, seat + 0.78), pivot)
            shapes.ball("bear's leg", 0.09, fur, (side * 0.14, -0.25, seat + 0.1), pivot)
            shapes.ball("bear's arm", 0.08, fur, (side * 0.25, -0.08, seat + 0.36), pivot, squash=1.5)
        return pivot

    def build_sheep(self) -> list[tuple[bpy.types.Object, float, float, float]]:
        """A few sheep; returns (handle, x, y, phase) of each."""
        wool = materials.speckled("wool", ((0.35, (0.62, 0.58, 0.50)), (0.65, (0.95, 0.93, 0.88))), 9.0, 0.06)
        face = materials.painted("face", (0.05, 0.045, 0.045), 0.7)
        flock = []
        for i, (x, y, turn) in enumerate(((-0.75, 13.4, 0.4), (-1.7, 15.2, 2.6), (0.35, 16.5, -0.3), (6.4, 12.2, 2.2))):
            handle = shapes.empty("sheep", (x, y, ground_height(x, y)))
            handle.rotation_euler = (0, 0, turn)
            shapes.ball("fleece", 0.36, wool, (0, 0, 0.52), handle, squash=0.82, lumps=0.35, seed=i).scale = (
                1.3,
                0.9,
                1,
            )
            shapes.ball("head", 0.15, face, (0.5, 0, 0.66), handle, squash=1.1)
            shapes.ball("tuft", 0.12, wool, (0.46, 0, 0.79), handle, lumps=0.4, seed=i)
            for px in (-0.26, 0.26):
                for py in (-0.14, 0.14):
                    shapes.cylinder("leg", 0.045, 0.4, face, (px, py, 0.2), handle, segments=12)
            flock.append((handle, x, y, i * 1.7))
        return flock

    def build_fence(self) -> None:
        """A post-and-rail fence behind the track, which follows the ground."""
        timber = materials.wooden("fence", (0.30, 0.24, 0.18), (0.62, 0.53, 0.42), along="Z")
        rail = materials.wooden("fence rail", (0.30, 0.24, 0.18), (0.62, 0.53, 0.42), along="X")
        posts = [(x, 9.3 + 0.035 * (x - 2) ** 2 * 0.4) for x in (-6.2, -5.0, -3.8, 2.7, 3.9, 5.1, 6.3, 7.5)]
        for x, y in posts:
            shapes.box("post", (0.11, 0.11, 0.85), timber, (x, y, ground_height(x, y) + 0.4))
        for (x0, y0), (x1, y1) in pairwise(posts):
            if x1 - x0 < 2:
                for height in (0.34, 0.64):
                    plank(rail, (x0, y0, ground_height(x0, y0) + height), (x1, y1, ground_height(x1, y1) + height))

    def pose(self, time_s: float) -> None:
        """Turn the sails, swing the swing, let the sheep hop."""
        self.sails.rotation_euler = (0, 2 * math.pi * SAIL_TURNS_PER_S * time_s + 0.35, 0)
        self.swing.rotation_euler = (math.radians(26) * math.sin(2 * math.pi * time_s / SWING_PERIOD_S), 0, 0)
        for handle, x, y, phase in self.sheep:
            hop = abs(math.sin(2.6 * time_s + phase))
            handle.location = (x, y, ground_height(x, y) + 0.16 * hop)


def plank(material: bpy.types.Material, start: shapes.Point, end: shapes.Point) -> bpy.types.Object:
    """A bar from one point to another."""
    length = math.dist(start, end)
    bm = bmesh.new()
    bmesh.ops.create_cube(bm, size=1.0)
    for vertex in bm.verts:
        vertex.co = (vertex.co.x * length, vertex.co.y * 0.05, vertex.co.z * 0.1)
    bar = shapes.object_from_bmesh("rail", bm, material, [(a + b) / 2 for a, b in zip(start, end, strict=True)])
    flat = math.hypot(end[0] - start[0], end[1] - start[1])
    bar.rotation_euler = (0, -math.atan2(end[2] - start[2], flat), math.atan2(end[1] - start[1], end[0] - start[0]))
    return bar
