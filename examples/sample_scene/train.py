# SPDX-License-Identifier: Apache-2.0
"""The moving foreground of the sample scene: a small steam train on its track."""

import math
import random

import bpy

from . import materials, shapes

TRACK_AT = (0.0, 6.3, 0.0)
TRACK_TURN_RAD = math.radians(-5)
SPEED_M_PER_S = 1.15
START_X_M = -0.75  # where the engine's middle is at time 0, along the track
RAIL_TOP_M = 0.22
GAUGE_M = 0.56
PUFF_EVERY_S = 0.32
PUFF_LIFE_S = 2.4


class Train:
    """The engine, its wagons and its smoke; `pose` puts them where they are at a time."""

    def __init__(self) -> None:
        self.track = shapes.empty("track", TRACK_AT)
        self.track.rotation_euler = (0, 0, TRACK_TURN_RAD)
        self.body = shapes.empty("train", parent=self.track)
        self.wheels: list[tuple[bpy.types.Object, float]] = []
        self.rods: list[bpy.types.Object] = []
        self.paints()
        self.lay_track()
        self.build_engine()
        self.build_wagon(-2.15, self.blue, self.logs)
        self.build_wagon(-3.95, self.ochre, self.crates)
        self.build_wagon(-5.75, self.blue, self.crates)
        steam = materials.speckled(
            "steam", ((0.3, (0.74, 0.76, 0.80)), (0.7, (0.95, 0.95, 0.95))), 3.0, 0.08, glow=0.12
        )
        count = math.ceil(PUFF_LIFE_S / PUFF_EVERY_S)
        self.puffs = [shapes.ball("puff", 1.0, steam, parent=self.track, lumps=0.6, seed=i) for i in range(count)]

    def paints(self) -> None:
        """All paints and metals."""
        self.green = materials.painted("green enamel", (0.02, 0.17, 0.09), 0.3)
        self.red = materials.painted("red enamel", (0.55, 0.03, 0.02), 0.35)
        self.blue = materials.painted("blue enamel", (0.04, 0.16, 0.42), 0.4)
        self.ochre = materials.painted("ochre enamel", (0.72, 0.36, 0.05), 0.4)
        self.black = materials.painted("soot", (0.025, 0.025, 0.028), 0.5)
        self.brass = materials.painted("brass", (0.85, 0.55, 0.16), 0.28, metallic=0.9)
        self.steel = materials.painted("steel", (0.42, 0.43, 0.45), 0.35, metallic=0.8)
        self.cream = materials.painted("cream enamel", (0.85, 0.76, 0.55), 0.5)
        self.wood = materials.wooden("planks", (0.22, 0.11, 0.05), (0.55, 0.33, 0.16), along="X")
        self.bark = materials.wooden("logs", (0.12, 0.07, 0.04), (0.42, 0.27, 0.15), along="X")

    def lay_track(self) -> None:
        """Ballast, sleepers, rails; long enough for both cameras."""
        gravel = materials.speckled(
            "gravel", ((0.36, (0.10, 0.095, 0.09)), (0.5, (0.34, 0.32, 0.30)), (0.64, (0.66, 0.63, 0.58))), 17.0, 0.06
        )
        tarred = materials.wooden("sleepers", (0.07, 0.045, 0.03), (0.24, 0.16, 0.10), along="Y")
        shapes.box("ballast", (70, 1.35, 0.16), gravel, (0, 0, 0.02), self.track, bevel=0.05)
        sleeper = shapes.box("sleeper", (0.17, 1.02, 0.09), tarred, (0, 0, 0.115), self.track)
        rng = random.Random(2)
        for i in range(-38, 39):
            copy = bpy.data.objects.new("sleeper", sleeper.data)
            copy.parent, copy.location = self.track, (i * 0.42 + 0.21, rng.uniform(-0.02, 0.02), 0.115)
            bpy.context.scene.collection.objects.link(copy)
        for side in (-1, 1):
            shapes.box(
                "rail",
                (70, 0.05, 0.07),
                self.steel,
                (0, side * GAUGE_M / 2, RAIL_TOP_M - 0.035),
                self.track,
                bevel=0.01,
            )

    def wheel(self, x: float, side: int, radius: float, parent: bpy.types.Object) -> None:
        """A spoked wheel which rolls with the train."""
        hub = shapes.empty("wheel", (x, side * (GAUGE_M / 2 + 0.02), RAIL_TOP_M + radius), parent)
        shapes.cylinder("tyre", radius, 0.05, self.steel, parent=hub, axis="Y", segments=40)
        shapes.cylinder("disc", radius * 0.86, 0.056, self.red, parent=hub, axis="Y", segments=40)
        shapes.cylinder("boss", radius * 0.24, 0.075, self.brass, parent=hub, axis="Y")
        for i in range(4):
            spoke = shapes.box("spoke", (radius * 1.66, 0.066, radius * 0.13), self.cream, parent=hub, bevel=0.0)
            spoke.rotation_euler = (0, i * math.pi / 4, 0)
        self.wheels.append((hub, radius))

    def build_engine(self) -> None:
        """A tank engine with cab, dome, funnel, lamp and coupling rods, facing +X."""
        engine = shapes.empty("engine", parent=self.body)
        base = RAIL_TOP_M + 0.36
        shapes.box("frame", (1.95, 0.56, 0.10), self.black, (0.0, 0, base - 0.06), engine)
        shapes.box("footplate", (2.0, 0.74, 0.04), self.red, (0.0, 0, base + 0.01), engine, bevel=0.01)
        shapes.box("buffer beam", (0.07, 0.76, 0.17), self.red, (0.98, 0, base - 0.06), engine)
        for side in (-1, 1):
            shapes.cylinder("buffer", 0.065, 0.12, self.steel, (1.06, side * 0.24, base - 0.05), engine, axis="X")
        boiler_z = base + 0.35
        shapes.cylinder("boiler", 0.29, 1.1, self.green, (0.25, 0, boiler_z), engine, axis="X", segments=48)
        shapes.cylinder("smokebox", 0.3, 0.24, self.black, (0.83, 0, boiler_z), engine, axis="X", segments=48)
        shapes.cylinder("door", 0.2, 0.05, self.black, (0.96, 0, boiler_z), engine, axis="X")
        shapes.cylinder("door ring", 0.06, 0.05, self.brass, (0.985, 0, boiler_z), engine, axis="X")
        for x in (-0.1, 0.24, 0.58):
            shapes.cylinder("band", 0.297, 0.035, self.brass, (x, 0, boiler_z), engine, axis="X", segments=48)
        shapes.cylinder("funnel", 0.075, 0.36, self.black, (0.83, 0, boiler_z + 0.45), engine, radius_top=0.11)
        shapes.cylinder("funnel rim", 0.13, 0.05, self.brass, (0.83, 0, boiler_z + 0.63), engine)
        shapes.cylinder("dome foot", 0.11, 0.14, self.brass, (0.40, 0, boiler_z + 0.31), engine)
        shapes.ball("dome", 0.11, self.brass, (0.40, 0, boiler_z + 0.38), engine)
        shapes.cylinder("whistle", 0.025, 0.2, self.brass, (0.03, 0, boiler_z + 0.36), engine)
        shapes.cylinder("lamp", 0.08, 0.09, self.brass, (0.99, 0, boiler_z + 0.27), engine, axis="X")
        for side in (-1, 1):
            shapes.box("tank", (0.85, 0.13, 0.34), self.green, (0.12, side * 0.31, base + 0.2), engine, bevel=0.03)
            shapes.box(
                "tank line", (0.7, 0.135, 0.025), self.cream, (0.12, side * 0.311, base + 0.29), engine, bevel=0.0
            )
        self.build_cab(engine, base)
        for side in (-1, 1):
            for x in (-0.55, 0.02, 0.59):
                self.wheel(x, side, 0.25, engine)
            self.rods.append(shapes.box("rod", (1.28, 0.03, 0.055), self.steel, (0, 0, 0), engine, bevel=0.01))
            self.rods[-1]["side"] = side

    def build_cab(self, engine: bpy.types.Object, base: float) -> None:
        """Walls with open windows, and a curved roof."""
        for side in (-1, 1):
            shapes.box("cab side", (0.62, 0.05, 0.46), self.green, (-0.63, side * 0.34, base + 0.25), engine)
            for x in (-0.9, -0.36):
                shapes.box(
                    "cab post", (0.07, 0.05, 0.42), self.green, (x, side * 0.34, base + 0.66), engine, bevel=0.01
                )
            shapes.box("number", (0.26, 0.02, 0.16), self.brass, (-0.63, side * 0.37, base + 0.27), engine, bevel=0.01)
        for x in (-0.92, -0.34):
            shapes.box("cab end", (0.05, 0.7, 0.56), self.green, (x, 0, base + 0.3), engine)
        shapes.box("cab inside", (0.5, 0.5, 0.3), self.black, (-0.63, 0, base + 0.2), engine)
        shapes.box("driver", (0.2, 0.24, 0.36), self.blue, (-0.62, 0.02, base + 0.5), engine, bevel=0.08)
        shapes.ball(
            "head", 0.11, materials.painted("skin", (0.72, 0.42, 0.28), 0.6), (-0.61, 0.02, base + 0.76), engine
        )
        shapes.cylinder("cap", 0.115, 0.07, self.black, (-0.60, 0.02, base + 0.84), engine)
        shapes.box("roof", (0.86, 0.86, 0.06), self.black, (-0.63, 0, base + 0.93), engine, bevel=0.03)
        shapes.box("roof ridge", (0.8, 0.5, 0.06), self.black, (-0.63, 0, base + 0.975), engine, bevel=0.03)

    def build_wagon(self, x: float, paint: bpy.types.Material, load) -> None:
        """A four-wheeled open wagon; `load` fills it."""
        wagon = shapes.empty("wagon", (x, 0, 0), self.body)
        base = RAIL_TOP_M + 0.3
        shapes.box("frame", (1.56, 0.5, 0.09), self.black, (0, 0, base - 0.05), wagon)
        shapes.box("floor", (1.5, 0.74, 0.05), self.wood, (0, 0, base + 0.02), wagon)
        for side in (-1, 1):
            for row in range(3):
                shapes.box(
                    "plank", (1.5, 0.04, 0.125), paint, (0, side * 0.36, base + 0.11 + row * 0.135), wagon, bevel=0.015
                )
            for post in (-0.62, 0.0, 0.62):
                shapes.box(
                    "stanchion", (0.05, 0.03, 0.44), self.black, (post, side * 0.39, base + 0.24), wagon, bevel=0.01
                )
            for axle in (-0.48, 0.48):
                self.wheel(axle, side, 0.18, wagon)
            shapes.box("end", (0.04, 0.72, 0.4), paint, (side * 0.73, 0, base + 0.24), wagon, bevel=0.015)
        shapes.box("coupling", (0.4, 0.06, 0.05), self.black, (0.9, 0, base - 0.06), wagon, bevel=0.01)
        load(wagon, base)

    def logs(self, wagon: bpy.types.Object, base: float) -> None:
        """Tree trunks."""
        ends = materials.painted("cut wood", (0.72, 0.50, 0.28), 0.8, scale=25.0)
        for y, z in ((-0.22, 0.3), (0.0, 0.3), (0.22, 0.3), (-0.11, 0.5), (0.11, 0.5), (0.0, 0.68)):
            shapes.cylinder("log", 0.105, 1.3, self.bark, (0, y, base + z), wagon, axis="X", segments=20)
            shapes.cylinder("log end", 0.09, 1.31, ends, (0, y, base + z), wagon, axis="X", segments=20)

    def crates(self, wagon: bpy.types.Object, base: float) -> None:
        """Crates, and pumpkins on top."""
        pumpkin = materials.speckled("pumpkin", ((0.3, (0.62, 0.17, 0.02)), (0.7, (0.95, 0.42, 0.05))), 9.0, 0.01)
        for i, x in enumerate((-0.45, 0.02, 0.47)):
            crate = shapes.box("crate", (0.4, 0.46, 0.42), self.wood, (x, 0.04 * (-1) ** i, base + 0.28), wagon)
            crate.rotation_euler = (0, 0, 0.12 * (i - 1))
            shapes.ball("pumpkin", 0.16, pumpkin, (x, -0.03, base + 0.6), wagon, squash=0.8, lumps=0.15, seed=i)

    def pose(self, time_s: float) -> None:
        """Roll everything to where it is at `time_s`."""
        x = START_X_M + SPEED_M_PER_S * time_s
        self.body.location = (x, 0, 0)
        for hub, radius in self.wheels:
            hub.rotation_euler = (0, SPEED_M_PER_S * time_s / radius, 0)
        turn = SPEED_M_PER_S * time_s / 0.25
        for rod in self.rods:
            phase = turn + (math.pi / 2 if rod["side"] > 0 else 0.0)
            height = RAIL_TOP_M + 0.25 - 0.12 * math.sin(phase)
            rod.location = (0.02 + 0.12 * math.cos(phase), rod["side"] * (GAUGE_M / 2 + 0.085), height)
        for i, puff in enumerate(self.puffs):
            self.pose_puff(puff, i, time_s)

    def pose_puff(self, puff: bpy.types.Object, index: int, time_s: float) -> None:
        """A puff leaves the funnel, stays behind, rises, grows, and shrinks away."""
        cycle = PUFF_EVERY_S * len(self.puffs)
        age = (time_s - index * PUFF_EVERY_S) % cycle
        born_s = time_s - age
        life = age / cycle
        size = 0.30 * math.sin(math.pi * min(life * 1.02 + 0.06, 1.0)) ** 0.8
        start_x = START_X_M + SPEED_M_PER_S * born_s + 0.83
        sway = 0.10 * math.sin(index * 2.4)
        puff.location = (start_x + 0.25 * age, sway * age + 0.22 * age, 1.62 + 0.62 * age**0.8)
        puff.scale = (max(size, 1e-3),) * 3
        puff.rotation_euler = (0.2 * age, 0.15 * age, index * 1.3)
