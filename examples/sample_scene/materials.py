# SPDX-License-Identifier: Apache-2.0
"""Procedural materials of the sample scene: paint, wood, stone, grass, sky. No image files."""

from __future__ import annotations

from collections.abc import Sequence

import bpy

Colour = tuple[float, float, float]  # linear RGB

HAZE_COLOUR: Colour = (0.42, 0.58, 0.84)
HAZE_START_M, HAZE_END_M = 14.0, 100.0
HAZE_MOST = 0.52


class Nodes:
    """A thin hand on a node tree: make a node, set its inputs, link by assignment."""

    def __init__(self, material: bpy.types.Material) -> None:
        material.use_nodes = True
        material.cycles.emission_sampling = "NONE"  # haze and sky are not lamps; sampling them only costs time
        self.tree = material.node_tree
        self.tree.nodes.clear()

    def new(self, kind: str, inputs: dict[str | int, object] | None = None, **settings: object) -> bpy.types.Node:
        """A node of the given type; an input is a plain value or another node's output socket."""
        node = self.tree.nodes.new(kind)
        for key, value in settings.items():
            setattr(node, key, value)
        for key, value in (inputs or {}).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, node.inputs[key])
            else:
                node.inputs[key].default_value = value
        return node

    def ramp(self, factor: bpy.types.NodeSocket, stops: Sequence[tuple[float, Colour]], steps: bool = False):
        """A colour for every value of `factor`; `steps` leaves hard borders between the stops."""
        node = self.new("ShaderNodeValToRGB", {"Fac": factor})
        node.color_ramp.interpolation = "CONSTANT" if steps else "LINEAR"
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (position, colour) in zip(elements, stops, strict=True):
            element.position, element.color = position, (*colour, 1.0)
        return node.outputs["Color"]

    def noise(self, coordinates: bpy.types.NodeSocket, scale: float, detail: float = 5.0, rough: float = 0.6):
        """Fractal noise, about 0.25 to 0.75."""
        inputs = {"Vector": coordinates, "Scale": scale, "Detail": detail, "Roughness": rough}
        return self.new("ShaderNodeTexNoise", inputs).outputs["Fac"]

    def mix(self, factor: object, first: object, second: object, blend: str = "MIX"):
        """Blend two colours."""
        node = self.new("ShaderNodeMix", data_type="RGBA", blend_type=blend)
        for index, value in ((0, factor), (6, first), (7, second)):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, node.inputs[index])
            else:
                node.inputs[index].default_value = value if index == 0 else (*value, 1.0)
        return node.outputs[2]

    def finish(
        self,
        colour: bpy.types.NodeSocket,
        roughness: float = 0.8,
        specular: float = 0.2,
        bump: bpy.types.NodeSocket | None = None,
        bump_m: float = 0.01,
        metallic: float = 0.0,
        glow: float = 0.0,
    ) -> None:
        """Light the colour, and let the air in front of far things tint it."""
        inputs = {
            "Base Color": colour,
            "Roughness": roughness,
            "Specular IOR Level": specular,
            "Metallic": metallic,
            "Emission Color": colour,
            "Emission Strength": glow,
        }
        if bump is not None:
            inputs["Normal"] = self.new(
                "ShaderNodeBump", {"Height": bump, "Distance": bump_m, "Strength": 0.8}
            ).outputs[0]
        surface = self.new("ShaderNodeBsdfPrincipled", inputs)
        # Measured from the world's origin, not from the camera, so that both cameras see the same colours.
        position = self.new("ShaderNodeNewGeometry").outputs["Position"]
        far = self.new("ShaderNodeVectorMath", {0: position}, operation="LENGTH").outputs["Value"]
        amount = self.new(
            "ShaderNodeMapRange",
            {"Value": far, "From Min": HAZE_START_M, "From Max": HAZE_END_M, "To Min": 0.0, "To Max": HAZE_MOST},
        ).outputs[0]
        haze = self.new("ShaderNodeEmission", {"Color": (*HAZE_COLOUR, 1.0), "Strength": 0.9})
        both = self.new("ShaderNodeMixShader", {0: amount, 1: surface.outputs[0], 2: haze.outputs[0]})
        self.new("ShaderNodeOutputMaterial", {"Surface": both.outputs[0]})


def material_nodes(name: str) -> tuple[bpy.types.Material, Nodes, bpy.types.NodeSocket]:
    """An empty material, its nodes, and the object's own coordinates in metres."""
    material = bpy.data.materials.new(name)
    nodes = Nodes(material)
    return material, nodes, nodes.new("ShaderNodeTexCoord").outputs["Object"]


def painted(name: str, colour: Colour, roughness: float = 0.35, scale: float = 9.0, metallic: float = 0.0):
    """Paint or metal with worn, slightly darker patches."""
    material, nodes, here = material_nodes(name)
    worn = tuple(0.62 * c for c in colour)
    fleck = nodes.ramp(nodes.noise(here, scale), ((0.32, worn), (0.55, colour)))
    nodes.finish(fleck, roughness=roughness, specular=0.4, metallic=metallic)
    return material


def speckled(name: str, stops: Sequence[tuple[float, Colour]], scale: float, bump_m: float = 0.02, glow: float = 0.0):
    """Rough stuff of several colours: plaster, rock, leaves, wool, clouds."""
    material, nodes, here = material_nodes(name)
    grain = nodes.noise(here, scale, detail=8.0, rough=0.7)
    nodes.finish(nodes.ramp(grain, stops), roughness=0.95, specular=0.1, bump=grain, bump_m=bump_m, glow=glow)
    return material


def wooden(name: str, dark: Colour, light: Colour, scale: float = 6.0, along: str = "X"):
    """Planks with grain running along one axis."""
    material, nodes, here = material_nodes(name)
    stretch = {"X": (0.15, 1.0, 1.0), "Y": (1.0, 0.15, 1.0), "Z": (1.0, 1.0, 0.15)}[along]
    fibres = nodes.new("ShaderNodeVectorMath", {0: here, 1: stretch}, operation="MULTIPLY").outputs[0]
    grain = nodes.noise(fibres, scale * 3.0, detail=6.0)
    nodes.finish(nodes.ramp(grain, ((0.3, dark), (0.7, light))), roughness=0.8, bump=grain, bump_m=0.01)
    return material


def brickwork(name: str, first: Colour, second: Colour, mortar: Colour, brick_m: float):
    """Courses of bricks or tiles, on walls that face along X or Y alike."""
    material, nodes, here = material_nodes(name)
    parts = nodes.new("ShaderNodeSeparateXYZ", {0: here})
    across = nodes.new("ShaderNodeMath", {0: parts.outputs[0], 1: parts.outputs[1]}, operation="ADD").outputs[0]
    flat = nodes.new("ShaderNodeCombineXYZ", {0: across, 1: parts.outputs[2]}).outputs[0]
    bricks = nodes.new(
        "ShaderNodeTexBrick",
        {
            "Vector": flat,
            "Color1": (*first, 1.0),
            "Color2": (*second, 1.0),
            "Mortar": (*mortar, 1.0),
            "Scale": 0.5 / brick_m,
            "Mortar Size": 0.03,
        },
    )
    stained = nodes.mix(
        0.5,
        bricks.outputs["Color"],
        nodes.ramp(nodes.noise(here, 3.0), ((0.3, (0.5,) * 3), (0.7, (1.0,) * 3))),
        "MULTIPLY",
    )
    nodes.finish(stained, roughness=0.9)
    return material


def gores(name: str, colours: Sequence[Colour], count: int):
    """A balloon's cloth: `count` upright stripes which take the colours in turn."""
    material, nodes, here = material_nodes(name)
    parts = nodes.new("ShaderNodeSeparateXYZ", {0: here})
    angle = nodes.new("ShaderNodeMath", {0: parts.outputs[1], 1: parts.outputs[0]}, operation="ARCTAN2").outputs[0]
    turns = nodes.new("ShaderNodeMath", {0: angle, 1: count / len(colours) / 6.283185}, operation="MULTIPLY").outputs[0]
    part = nodes.new("ShaderNodeMath", {0: turns}, operation="FRACT").outputs[0]
    stripes = nodes.ramp(part, [(i / len(colours), c) for i, c in enumerate(colours)], steps=True)
    nodes.finish(
        nodes.mix(0.25, stripes, nodes.ramp(nodes.noise(here, 4.0), ((0.3, (0.6,) * 3), (0.7, (1.0,) * 3))), "MULTIPLY")
    )
    return material
