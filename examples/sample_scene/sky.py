# SPDX-License-Identifier: Apache-2.0
"""The far end of the sample scene: a painted dome of finite depth, clouds and balloons that drift, sun and air."""

import math

import bpy

from . import materials, shapes

DOME_RADIUS_M = 86.0


class Sky:
    """Clouds and balloons; `pose` lets them drift."""

    def __init__(self) -> None:
        add_dome()
        add_light()
        self.clouds = [
            build_cloud(i, *place)
            for i, place in enumerate(
                (
                    (-27.0, 62.0, 25.0, 1.0),
                    (13.0, 66.0, 30.0, 1.15),
                    (37.0, 58.0, 20.0, 0.85),
                    (-9.0, 58.0, 18.0, 0.6),
                    (-52.0, 55.0, 19.0, 0.9),
                )
            )
        ]
        red, cream, blue, gold = (0.72, 0.05, 0.03), (0.90, 0.82, 0.66), (0.05, 0.20, 0.55), (0.90, 0.52, 0.06)
        self.balloons = [
            build_balloon("red balloon", (-1.5, 25.0, 8.8), 1.9, (red, cream), 16, (0.55, 0.0, 0.30)),
            build_balloon("blue balloon", (5.5, 38.0, 12.6), 1.9, (blue, gold, cream), 18, (-0.7, 0.0, 0.25)),
            build_balloon("gold balloon", (-15.0, 48.0, 13.5), 1.8, (gold, red), 14, (0.8, 0.0, -0.3)),
        ]

    def pose(self, time_s: float) -> None:
        """Move clouds and balloons to where they are at `time_s`."""
        for handle, start, speed in (*self.clouds, *self.balloons):
            handle.location = [p + v * time_s for p, v in zip(start, speed, strict=True)]
        for i, (handle, _, _) in enumerate(self.balloons):
            handle.rotation_euler = (
                0.03 * math.sin(1.9 * time_s + i),
                0.03 * math.cos(1.6 * time_s),
                0.25 * time_s + i,
            )


def add_dome() -> None:
    """The sky as a surface: it has a depth, and only cameras see it."""
    material = bpy.data.materials.new("sky")
    nodes = materials.Nodes(material)
    here = nodes.new("ShaderNodeTexCoord").outputs["Object"]
    height = nodes.new("ShaderNodeSeparateXYZ", {0: here}).outputs[2]
    up = nodes.new("ShaderNodeMath", {0: height, 1: 1 / DOME_RADIUS_M}, operation="MULTIPLY").outputs[0]
    blue = nodes.ramp(
        up,
        ((0.0, (0.74, 0.82, 0.92)), (0.14, (0.36, 0.60, 0.92)), (0.34, (0.11, 0.33, 0.78)), (0.7, (0.05, 0.18, 0.55))),
    )
    flat = nodes.new("ShaderNodeVectorMath", {0: here, 1: (1.0, 1.0, 2.6)}, operation="MULTIPLY").outputs[0]
    veil = nodes.ramp(nodes.noise(flat, 0.05, detail=9.0, rough=0.62), ((0.52, (0.0,) * 3), (0.78, (0.7,) * 3)))
    colour = nodes.mix(veil, blue, (0.92, 0.94, 0.97))
    glow = nodes.new("ShaderNodeEmission", {"Color": colour, "Strength": 1.0})
    nodes.new("ShaderNodeOutputMaterial", {"Surface": glow.outputs[0]})
    dome = shapes.ball("sky", DOME_RADIUS_M, material, subdivisions=6)
    dome.visible_diffuse = dome.visible_glossy = dome.visible_shadow = dome.visible_transmission = False


def add_light() -> None:
    """A low sun from the left with a soft edge, and the sky's own light."""
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy, sun.angle, sun.color = 5.0, math.radians(2.5), (1.0, 0.86, 0.66)
    lamp = bpy.data.objects.new("sun", sun)
    lamp.rotation_euler = (math.radians(54), 0, math.radians(-52))
    bpy.context.scene.collection.objects.link(lamp)
    world = bpy.data.worlds.new("air")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value, background.inputs["Strength"].default_value = (0.46, 0.62, 0.95, 1), 0.70
    bpy.context.scene.world = world


def build_cloud(index: int, x: float, y: float, z: float, size: float):
    """A heap of balls; returns (handle, start, speed in m/s)."""
    vapour = bpy.data.materials.get("cloud") or materials.speckled(
        "cloud", ((0.35, (0.88, 0.90, 0.94)), (0.65, (0.98, 0.98, 0.98))), 0.5, 0.5, glow=0.30
    )
    handle = shapes.empty("cloud", (x, y, z))
    for i, (dx, dz, r) in enumerate(
        ((-5.2, -0.7, 2.1), (-2.6, 0.4, 3.0), (0.6, 1.3, 3.6), (3.6, 0.2, 2.8), (6.0, -0.8, 1.9))
    ):
        where = (dx * size, (i % 2) * 1.5 * size, dz * size)
        shapes.ball(
            "cloud", r * size, vapour, where, handle, squash=0.62, lumps=0.5, seed=index * 5 + i, subdivisions=5
        )
    return handle, (x, y, z), (1.3, 0.0, 0.0)


def build_balloon(name: str, at: shapes.Point, radius: float, colours, stripes: int, speed: shapes.Point):
    """A striped hot-air balloon with its basket; returns (handle, start, speed in m/s)."""
    cloth = materials.gores(name, colours, stripes)
    wicker = bpy.data.materials.get("wicker") or materials.wooden("wicker", (0.20, 0.10, 0.04), (0.55, 0.33, 0.15))
    handle = shapes.empty(name, at)
    steps = [math.pi * (0.02 + 0.78 * i / 16) for i in range(17)]
    profile = [(radius * math.sin(a), radius * 1.12 * math.cos(a)) for a in steps]
    profile += [(radius * 0.34, -radius * 1.12), (radius * 0.24, -radius * 1.25)]
    shapes.revolved(name, list(reversed(profile)), cloth, parent=handle)
    shapes.box("basket", (radius * 0.34, radius * 0.34, radius * 0.3), wicker, (0, 0, -radius * 1.72), handle)
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = (sx * radius * 0.15, sy * radius * 0.15, -radius * 1.43)
            shapes.cylinder("rope", radius * 0.012, radius * 0.42, wicker, foot, handle, segments=6)
    return handle, tuple(at), speed
