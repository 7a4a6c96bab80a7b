# SPDX-License-Identifier: GPL-3.0-or-later
"""The animated DW-Mesh as Blender geometry that plays without this add-on.

One flat grid whose positions hold the rays at depth 1, per-frame attributes depth_<n> of its points and cut_<n> of its
faces (n = 1 for the plate's first frame), and geometry nodes that pick both by the scene's frame. Cut faces get a
second material: they only hide what is behind them, as in the render.
"""

import bpy
import numpy as np

from . import compat
from .display_arrays import DisplayArrays
from .materials import BLACK, UV_NAME, colour_unseen, hiding_material, plate_material, unseen_colour
from .node_layout import lay_out

MODIFIER_NAME = "DW-Mesh"
SHOW_CUT_NAME = "Show Unseen"
SHOW_CUT_DESCRIPTION = (
    "Draw what the plate never saw as black faces: the part a take has to paint. Off: look into the shot from outside"
)
HIDING_SLOT = 1  # of the object's materials; 0 shows the plate


def depth_node_group(name, plate_start, frame_count):
    """Return a node group that moves every vertex to its depth at the scene's frame, clamped to the plate's range."""
    group = bpy.data.node_groups.new(name, "GeometryNodeTree")
    group.is_modifier = True
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    shows_cut = group.interface.new_socket(SHOW_CUT_NAME, in_out="INPUT", socket_type="NodeSocketBool")
    shows_cut.default_value, shows_cut.description = True, SHOW_CUT_DESCRIPTION
    new, link = group.nodes.new, group.links.new
    inputs, output = new("NodeGroupInput"), new("NodeGroupOutput")

    # Between frames the plate's picture does not change, so the mesh must not either: floor, do not round.
    floor, number, clamp = new("ShaderNodeMath"), new("ShaderNodeMath"), new("ShaderNodeClamp")
    floor.operation, number.operation = "FLOOR", "SUBTRACT"
    number.inputs[1].default_value = plate_start - 1
    clamp.inputs["Min"].default_value, clamp.inputs["Max"].default_value = 1, frame_count
    digits = new("FunctionNodeValueToString")
    link(new("GeometryNodeInputSceneTime").outputs["Frame"], floor.inputs[0])
    link(floor.outputs[0], number.inputs[0])
    link(number.outputs[0], clamp.inputs["Value"])
    link(clamp.outputs[0], digits.inputs["Value"])

    def per_frame(prefix, data_type):
        """The attribute called prefix + number of the plate's frame."""
        text, join = new("FunctionNodeInputString"), new("GeometryNodeStringJoin")
        named = new("GeometryNodeInputNamedAttribute")
        text.string, named.data_type = prefix, data_type
        link(digits.outputs[0], join.inputs["Strings"])  # into a multi-input socket the last link comes first
        link(text.outputs[0], join.inputs["Strings"])
        link(join.outputs[0], named.inputs["Name"])
        return named.outputs[0]

    scale, move = new("ShaderNodeVectorMath"), new("GeometryNodeSetPosition")
    scale.operation = "SCALE"
    link(new("GeometryNodeInputPosition").outputs[0], scale.inputs[0])
    link(per_frame("depth_", "FLOAT"), scale.inputs["Scale"])
    link(inputs.outputs["Geometry"], move.inputs["Geometry"])
    link(scale.outputs[0], move.inputs["Position"])

    # Seen from outside, the cut faces are a black box around the shot: let the artist look in.
    hiding, opened = new("GeometryNodeSetMaterialIndex"), new("GeometryNodeDeleteGeometry")
    hiding.inputs["Material Index"].default_value, opened.domain = HIDING_SLOT, "FACE"
    cut = per_frame("cut_", "BOOLEAN")
    for treated in (hiding, opened):
        link(move.outputs[0], treated.inputs["Geometry"])
        link(cut, treated.inputs["Selection"])
    choose = new("GeometryNodeSwitch")
    choose.input_type = "GEOMETRY"
    link(inputs.outputs[SHOW_CUT_NAME], choose.inputs["Switch"])
    link(opened.outputs[0], choose.inputs["False"])
    link(hiding.outputs[0], choose.inputs["True"])
    link(choose.outputs[0], output.inputs[0])
    lay_out(group)
    return group


class MeshBuilder:
    """Builds the mesh data in slices of a few milliseconds, one `step` after the other.

    Between two steps the artist may undo, which replaces or removes every data-block. So a step looks its mesh up by
    name and derives from the mesh itself what is still missing.
    """

    def __init__(self, arrays: DisplayArrays, name: str):
        self.arrays = arrays
        self._wanted_name = name
        self._name = None
        self.frames_done = 0

    def step(self):
        """Do the next slice; return the finished mesh, or None while there is more to do."""
        mesh = bpy.data.meshes.get(self._name) if self._name else None
        if mesh is None or len(mesh.vertices) != len(self.arrays.rays):
            self._name = self._new_mesh().name
            return None
        done = sum(attribute.name.startswith("cut_") for attribute in mesh.attributes)
        self.frames_done = done
        if done == self.arrays.frame_count:
            return mesh
        depth, cut = f"depth_{done + 1}", f"cut_{done + 1}"
        if depth not in mesh.attributes:
            mesh.attributes.new(depth, "FLOAT", "POINT").data.foreach_set("value", self.arrays.depth[done])
        mesh.attributes.new(cut, "BOOLEAN", "FACE").data.foreach_set("value", self.arrays.cut[done])
        return None

    def _new_mesh(self):
        arrays = self.arrays
        # Attributes take whole arrays at once: 50 times faster than setting loops or UVs through their own collections.
        mesh = bpy.data.meshes.new(self._wanted_name)
        mesh.vertices.add(len(arrays.rays))
        mesh.attributes["position"].data.foreach_set("vector", arrays.rays.ravel())
        mesh.loops.add(arrays.quads.size)
        mesh.attributes[".corner_vert"].data.foreach_set("value", arrays.quads.ravel())
        mesh.polygons.add(len(arrays.quads))
        mesh.polygons.foreach_set("loop_start", np.arange(0, arrays.quads.size, 4, dtype=np.int32))
        mesh.uv_layers.new(name=UV_NAME, do_init=False)
        mesh.uv_layers[UV_NAME].uv.foreach_set("vector", arrays.corner_uv.ravel())
        flat = mesh.attributes.new("sharp_face", "BOOLEAN", "FACE")  # smooth normals cost 30 ms and more per frame
        flat.data.foreach_set("value", np.ones(len(arrays.quads), dtype=bool))
        mesh.update(calc_edges=True)
        return mesh


def put_on_object(mesh_object, mesh, image, plate_start, arrays: DisplayArrays):
    """Give an object a finished mesh with its nodes and materials, and drop what it had of an earlier build."""
    old_mesh = mesh_object.data
    name = mesh_object.name
    pixel_rad = 1 / float(arrays.intrinsics[0, 0])
    mesh.materials.append(plate_material(f"{name} plate", image, plate_start, arrays.frame_count))
    old_hiding = _hiding_material_of(old_mesh)
    colour = unseen_colour(old_hiding) if old_hiding is not None else BLACK
    mesh.materials.append(hiding_material(f"{name} hiding", image, plate_start, arrays.frame_count, pixel_rad, colour))
    mesh_object.data = mesh
    modifier = mesh_object.modifiers.get(MODIFIER_NAME)
    if modifier is None:
        modifier = mesh_object.modifiers.new(MODIFIER_NAME, "NODES")
    old_group = modifier.node_group
    modifier.node_group = depth_node_group(name, plate_start, arrays.frame_count)
    if old_group is not None and old_group.users == 0:
        bpy.data.node_groups.remove(old_group)
    if old_mesh is not None and old_mesh.users == 0:
        old_materials = [material for material in old_mesh.materials if material is not None]
        bpy.data.meshes.remove(old_mesh)
        for material in old_materials:
            if material.users == 0:
                bpy.data.materials.remove(material)


def follow(mesh_object, driven):
    """Let the mesh show the frame that a property says.

    Args:
        mesh_object: None where there is no mesh.
        driven: (data-block, its property, expression of p); None for the scene's frame.
    """
    modifier = mesh_object.modifiers.get(MODIFIER_NAME) if mesh_object is not None else None
    if modifier is None or modifier.node_group is None:
        return
    group = modifier.node_group
    # The only math node that is no SUBTRACT rounds the frame down.
    nodes = {node.bl_idname: node for node in group.nodes if getattr(node, "operation", "FLOOR") == "FLOOR"}
    frame, time = nodes["ShaderNodeMath"], nodes["GeometryNodeInputSceneTime"]
    path = f'nodes["{frame.name}"].inputs[0].default_value'
    group.driver_remove(path)
    for link in list(frame.inputs[0].links):
        group.links.remove(link)
    if driven is None:
        group.links.new(time.outputs["Frame"], frame.inputs[0])
    else:
        compat.drive(group, path, -1, *driven)


def show_unseen(mesh_object, colour):
    """Draw the faces that only hide in a colour, or let the view through where they are.

    Args:
        mesh_object: None where there is no mesh.
        colour: linear RGB; None to see through.
    """
    modifier = mesh_object.modifiers.get(MODIFIER_NAME) if mesh_object is not None else None
    socket = modifier.node_group.interface.items_tree.get(SHOW_CUT_NAME) if modifier and modifier.node_group else None
    if socket is not None:
        compat.set_modifier_input(modifier, socket.identifier, colour is not None)
    material = _hiding_material_of(mesh_object.data) if mesh_object is not None else None
    if colour is not None and material is not None:
        colour_unseen(material, colour)


def _hiding_material_of(mesh):
    material = mesh.materials[HIDING_SLOT] if mesh is not None and len(mesh.materials) > HIDING_SLOT else None
    return material if material is not None and material.node_tree is not None else None


def unlit(mesh_object):
    """The plate already holds its light: let the mesh neither light nor shadow a CG scene around it."""
    mesh_object.visible_diffuse = False
    mesh_object.visible_glossy = False
    mesh_object.visible_transmission = False
    mesh_object.visible_volume_scatter = False
    mesh_object.visible_shadow = False
