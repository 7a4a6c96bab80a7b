# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between Blender 4.2 and 5.2, behind one name each."""

import bpy
import numpy as np

# Since 4.5 a path property has to say that it understands paths beginning with //.
BLEND_RELATIVE_PATH = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()

OLDER_STRIP_NAMES = ("frame_start", "animation_offset_start")  # until 5.0


def sequencer_strips(scene):
    """Return the collection of top-level strips, making the edit if there is none."""
    editor = scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences  # `sequences` until 4.3


def all_strips(scene):
    """Return the scene's strips, those in meta strips too; without making an edit."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return list(editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all)


def strips_in(meta):
    """Return the collection of strips in a meta strip."""
    return meta.strips if hasattr(meta, "strips") else meta.sequences


def set_strip_range(strip, begin, count):
    """Let a strip show these scene frames; 5.1 deprecated the older names."""
    if hasattr(strip, "left_handle"):
        strip.right_handle, strip.left_handle = begin + count, begin
    else:
        strip.frame_final_end, strip.frame_final_start = begin + count, begin


def new_wipe(strips, name, channel, first, second):
    """Add a wipe from one strip to another, over the frames that both show."""
    known = strips.bl_rna.functions["new_effect"].parameters.keys()
    inputs = ("input1", "input2") if "input1" in known else ("seq1", "seq2")  # until 4.4
    begin, count = strip_range(first)
    length = {"length": count} if "length" in known else {"frame_end": begin + count}  # until 4.5
    settings = {**length, **dict(zip(inputs, (first, second), strict=True))}
    return strips.new_effect(name=name, type="WIPE", channel=channel, frame_start=begin, **settings)


def show_in_sequencers(scene):
    """Let the sequencers that show no scene yet show this one: 5.0 and later no longer follow the window's scene."""
    for workspace in bpy.data.workspaces:
        if hasattr(workspace, "sequencer_scene") and workspace.sequencer_scene is None:
            workspace.sequencer_scene = scene


def needs_sequencer():
    """Tell whether no workspace has a sequencer yet: one added later shows no scene until somebody sets it (5.0)."""
    if "sequencer_scene" not in bpy.types.WorkSpace.bl_rna.properties:
        return False
    screens = (screen for workspace in bpy.data.workspaces for screen in workspace.screens)
    return not any(area.type == "SEQUENCE_EDITOR" for screen in screens for area in screen.areas)


def fcurves_of(datablock):
    """Return the animation curves of a data-block."""
    animation = datablock.animation_data
    if animation is None or animation.action is None or getattr(animation, "action_slot", True) is None:
        return []
    if not hasattr(animation, "action_slot"):  # 4.2, 4.3
        return list(animation.action.fcurves)
    bags = (strip.channelbag(animation.action_slot) for layer in animation.action.layers for strip in layer.strips)
    return [curve for bag in bags if bag for curve in bag.fcurves]


def ensure_fcurve(datablock, path, index=0):
    """Return the animation curve of a property of an object or of data, making it if there is none."""
    animation = datablock.animation_data_create()
    if animation.action is None:
        animation.action = bpy.data.actions.new(datablock.name)
    action = animation.action
    if hasattr(action, "fcurve_ensure_for_datablock"):  # 4.4 and later
        return action.fcurve_ensure_for_datablock(datablock, path, index=index)
    return action.fcurves.find(path, index=index) or action.fcurves.new(path, index=index)


def remove_fcurve(datablock, path):
    """Take the keyframes of a property away."""
    animation = datablock.animation_data
    if not fcurves_of(datablock):
        return
    if not hasattr(animation, "action_slot"):  # 4.2, 4.3
        owners = [animation.action]
    else:
        bags = (strip.channelbag(animation.action_slot) for layer in animation.action.layers for strip in layer.strips)
        owners = [bag for bag in bags if bag]
    for owner in owners:
        for curve in [curve for curve in owner.fcurves if curve.data_path == path]:
            owner.fcurves.remove(curve)


def drive(owner, path, index, source, source_path, expression):
    """Let a property follow one of another data-block; return the driver's curve.

    Args:
        index: of the number, -1 for a single one.
        expression: calls the source `p`; simple enough for Blender to evaluate without running Python.
    """
    owner.driver_remove(path, index)
    curve = owner.driver_add(path, index)
    driver = curve.driver
    driver.type = "SCRIPTED"
    variable = driver.variables.new()
    variable.name = "p"
    variable.targets[0].id, variable.targets[0].data_path = source, source_path
    driver.expression = expression
    return curve


def set_keys(curve, frames, values, interpolation):
    """Replace a curve's keys.

    Args:
        frames, values: one each per key. [K]
        interpolation: Blender's number of it: 0 constant, 1 linear, 2 Bezier.
    """
    points = curve.keyframe_points
    points.clear()
    points.add(len(frames))
    points.foreach_set("co", np.column_stack([frames, values]).astype(np.float32).ravel())
    points.foreach_set("interpolation", np.full(len(frames), interpolation, dtype=np.int32))
    curve.update()


def use_nodes(material):
    """Give a material a node tree; from 5.0 on it has one at once and the switch is deprecated."""
    if material.node_tree is None:
        material.use_nodes = True
    return material.node_tree


def compositor_tree(scene):
    """Return the nodes that composite the scene's renders; where there are none, ones that pass the render on."""
    if not hasattr(scene, "compositing_node_group"):  # until 4.5
        if scene.node_tree is None or not scene.use_nodes:
            scene.use_nodes = True
        return scene.node_tree
    if scene.compositing_node_group is None:
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        layers, output = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("NodeGroupOutput")
        output.location.x = 400
        tree.links.new(layers.outputs["Image"], output.inputs[0])
        scene.compositing_node_group = tree
    return scene.compositing_node_group


def strip_range(strip):
    """Return (first scene frame, frames) that a strip shows; 5.1 deprecated the older names."""
    if hasattr(strip, "left_handle"):
        return int(strip.left_handle), int(strip.duration)
    return int(strip.frame_final_start), int(strip.frame_final_duration)


def strip_start(strip):
    """Return the scene frame of the first picture of a strip's file or files, whether the strip shows it or not."""
    names = ("content_start", "content_trim_start") if hasattr(strip, "content_start") else OLDER_STRIP_NAMES
    begin, trimmed = (int(getattr(strip, name)) for name in names)
    return begin - trimmed


def set_modifier_input(modifier, identifier, value):
    """Set an input of a geometry-nodes modifier."""
    if hasattr(modifier, "properties"):  # 5.2 and later
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value
    modifier.id_data.update_tag()
