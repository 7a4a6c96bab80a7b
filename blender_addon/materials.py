# SPDX-License-Identifier: GPL-3.0-or-later
"""The plate as unlit materials, which play in EEVEE and Cycles without this add-on."""

import bpy

from . import compat
from .node_layout import lay_out

UV_NAME = "plate"
UNSEEN, OUTPUT = "Unseen", "Output"  # nodes
BLACK = (0.0, 0.0, 0.0)
WARNING = (0.9, 0.0, 0.45)  # no plate has much of it, and it stands out for colour-blind eyes too

# By how many pixels of the plate a view may miss the ray that filmed a point: a gap that narrow would not be seen.
ALIGNED_PX = 0.5

# Scene frames by which a movie that shows any frame begins early: it then plays through all that a scene counts.
LONG_BEFORE = 100_000


def plate_material(name, image, plate_start, frame_count):
    """Return a material that shows the plate's frame of the scene's frame."""
    material, emission = _emission_material(name)
    material.node_tree.nodes.active = _show_plate(material, emission, image, plate_start, frame_count)
    lay_out(material.node_tree)
    return material


def hiding_material(name, image, plate_start, frame_count, pixel_rad, colour=BLACK):
    """Return the material of faces that only hide: black, as the render's mask leaves them, or a colour that warns.

    From the plate's own camera, though, nothing is missing: wherever the view's ray runs along the ray that filmed the
    point, the plate shows. That ray begins at the object's origin, so no camera has to be named.

    Args:
        pixel_rad: angle between the rays of two neighbouring pixels.
        colour: linear RGB.
    """
    material, emission = _emission_material(name)
    _show_plate(material, emission, image, plate_start, frame_count)
    new, link = material.node_tree.nodes.new, material.node_tree.links.new

    filmed, viewed = new("ShaderNodeVectorMath"), new("ShaderNodeVectorMath")  # from the film camera; to the viewer
    filmed.operation = viewed.operation = "NORMALIZE"
    link(new("ShaderNodeTexCoord").outputs["Object"], filmed.inputs[0])
    to_object = new("ShaderNodeVectorTransform")
    to_object.vector_type, to_object.convert_from, to_object.convert_to = "VECTOR", "WORLD", "OBJECT"
    link(new("ShaderNodeNewGeometry").outputs["Incoming"], to_object.inputs[0])
    link(to_object.outputs[0], viewed.inputs[0])

    apart, angle, aligned = new("ShaderNodeVectorMath"), new("ShaderNodeVectorMath"), new("ShaderNodeMath")
    apart.operation, angle.operation, aligned.operation = "ADD", "LENGTH", "LESS_THAN"
    link(filmed.outputs[0], apart.inputs[0])
    link(viewed.outputs[0], apart.inputs[1])  # opposite directions when aligned, so that little is left
    link(apart.outputs[0], angle.inputs[0])
    link(angle.outputs["Value"], aligned.inputs[0])
    aligned.inputs[1].default_value = ALIGNED_PX * pixel_rad

    unseen, choose = new("ShaderNodeEmission"), new("ShaderNodeMixShader")
    unseen.name = unseen.label = UNSEEN
    link(aligned.outputs[0], choose.inputs[0])
    link(unseen.outputs[0], choose.inputs[1])
    link(emission.outputs[0], choose.inputs[2])
    link(choose.outputs[0], material.node_tree.nodes[OUTPUT].inputs["Surface"])

    # Solid shading knows no rays. It would show any texture, so it gets an empty one, which leaves it the plain colour.
    material.node_tree.nodes.active = new("ShaderNodeTexImage")
    colour_unseen(material, colour)
    lay_out(material.node_tree)
    return material


def colour_unseen(material, colour):
    """Give the faces of a hiding material another colour."""
    node = material.node_tree.nodes.get(UNSEEN)
    if node is not None:  # the artist may have rebuilt the material
        node.inputs["Color"].default_value = (*colour, 1)
        material.diffuse_color = (*colour, 1)


def unseen_colour(material):
    """Return the colour of a hiding material's faces, linear RGB."""
    node = material.node_tree.nodes.get(UNSEEN)
    return BLACK if node is None else tuple(node.inputs["Color"].default_value)[:3]


def show_movie_frame(image_user, plate_start, frame_count):
    """Let a movie's first frame show at a scene frame, and follow the scene from there."""
    image_user.frame_start = plate_start
    image_user.frame_duration = frame_count
    image_user.frame_offset = 0
    image_user.use_cyclic = False
    image_user.use_auto_refresh = True


def show_any_frame(image_user):
    """Let a movie show its frame (scene frame + frame offset + LONG_BEFORE), counted from 1."""
    image_user.frame_start = 1 - LONG_BEFORE
    image_user.frame_duration = 10 * LONG_BEFORE  # else it would rest at its end, whatever the offset
    image_user.use_cyclic = False
    image_user.use_auto_refresh = True


def _emission_material(name):
    material = bpy.data.materials.new(name)
    tree = compat.use_nodes(material)
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    output.name = OUTPUT
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material, emission


def _show_plate(material, emission, image, plate_start, frame_count):
    """Let an emission take its colour from the plate; return the texture node."""
    tree = material.node_tree
    texture, uv = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeUVMap")
    uv.uv_map = UV_NAME
    texture.image = image
    texture.extension = "EXTEND"  # the picture's edge must not blend with the opposite one
    show_movie_frame(texture.image_user, plate_start, frame_count)
    tree.links.new(uv.outputs[0], texture.inputs["Vector"])
    tree.links.new(texture.outputs["Color"], emission.inputs["Color"])
    return texture
