# SPDX-License-Identifier: GPL-3.0-or-later
"""A take's result in the scene itself: behind the camera, in the compositor, or on the shot's mesh.

All of it is Blender's own and stays when the add-on is gone.
"""

from functools import partial

import bpy

from . import baked_camera, compat, session, shots, take_files, takes
from .materials import show_movie_frame
from .node_layout import lay_out

TAKE_KEY = "ex4d_take"  # of images, nodes and cameras that are a take's
PROJECTION = "EX-4D Projection"  # the mesh's modifier and its texture coordinates
SENSOR_WIDTH_MM = 36.0


def use(scene, name, way):
    """Read the take in the background, then use it in the way that one of the functions below does."""
    folder = takes.take_folder(scene, name)
    on_done = partial(_use, scene.ex4d.shot_id, way)
    session.call("Reading the take", take_files.read_take, folder, "RESULT", on_done=on_done)


def _use(shot_id, way, take):
    scene = shots.scene_of(shot_id)
    if scene is None:
        return
    with session.undo_step(f"Use {take.folder.name}"):
        session.current.notice = WAYS[way](scene, take)


def movie(take, part):
    """Return a part of a take as an image of Blender's."""
    pictures = take.parts[part]
    path = take.folder / take_files.PASSES[part][1]
    path = path / pictures[0] if pictures else path
    stored = shots.stored(path)
    image = next((known for known in bpy.data.images if known.filepath == stored), None)
    if image is None:
        image = bpy.data.images.load(str(path))
        image.name = take.folder.name + take_files.PASSES[part][0]
        image.filepath = stored
        image[TAKE_KEY] = take.folder.name
    if pictures:
        image.source = "SEQUENCE"
        image.colorspace_settings.name = "Non-Color"
    return image


def as_background(scene, take):
    """Show the result behind what the scene's camera sees, in place of another take's."""
    data = scene.camera.data
    for shown in list(data.background_images):
        if shown.image is not None and TAKE_KEY in shown.image:
            data.background_images.remove(shown)
    background = data.background_images.new()
    background.source, background.image = "IMAGE", movie(take, "RESULT")
    background.frame_method, background.alpha = "FIT", 1.0
    show_movie_frame(background.image_user, take.begin(scene.ex4d), take.frame_count)
    data.show_background_images = True
    return f"{take.folder.name} stands behind what {scene.camera.name} sees."


def as_compositor_input(scene, take):
    """Add a frame of image nodes, one for the result and each pass; what is composited stays as it is."""
    tree = compat.compositor_tree(scene)
    name = take.folder.name
    for node in [node for node in tree.nodes if node.get(TAKE_KEY) == name]:
        tree.nodes.remove(node)
    frame = tree.nodes.new("NodeFrame")
    frame.label, frame[TAKE_KEY] = f"{scene.ex4d.shot_name}: {name}", name
    left = min((node.location.x for node in tree.nodes), default=0) - 300
    for row, part in enumerate(take.parts):
        node = tree.nodes.new("CompositorNodeImage")
        node.image, node.label = movie(take, part), (take_files.PASSES[part][0].strip() or "result").title()
        node.frame_start, node.frame_duration = take.begin(scene.ex4d), take.frame_count
        node.frame_offset, node.use_auto_refresh = 0, True
        node.parent, node.location, node[TAKE_KEY] = frame, (left, -320 * row), name
    return f"{name} lies in the compositor, {len(take.parts)} nodes, connected to nothing."


def as_texture(scene, take):
    """Project the result onto the shot's mesh from the camera that shot it; beyond its picture the plate shows."""
    state = scene.ex4d
    mesh_object, begin = state.mesh, take.begin(state)
    camera = _own_camera(scene, take, begin)
    if PROJECTION not in mesh_object.data.uv_layers:
        mesh_object.data.uv_layers.new(name=PROJECTION, do_init=False)
    modifier = mesh_object.modifiers.get(PROJECTION) or mesh_object.modifiers.new(PROJECTION, "UV_PROJECT")
    modifier.uv_layer, modifier.projector_count = PROJECTION, 1
    modifier.projectors[0].object = camera
    width_mm, height_mm = _film_back(take)
    modifier.aspect_x, modifier.aspect_y = width_mm, height_mm
    image = movie(take, "RESULT")
    for slot, own in zip(mesh_object.material_slots, mesh_object.data.materials, strict=True):
        old = slot.material if slot.link == "OBJECT" else None
        slot.link = "OBJECT"
        slot.material = _projected(own, image, take, begin)
        if old is not None and old.users == 0:
            bpy.data.materials.remove(old)
    return f"{take.folder.name} lies on the mesh, projected by {camera.name}."


def as_plate_again(scene, take):
    """Take a projected take off the mesh."""
    mesh_object = scene.ex4d.mesh
    for slot in mesh_object.material_slots:
        if slot.link == "OBJECT":
            old, slot.material = slot.material, None
            slot.link = "DATA"
            if old is not None and old.users == 0:
                bpy.data.materials.remove(old)
    modifier = mesh_object.modifiers.get(PROJECTION)
    if modifier is not None:
        mesh_object.modifiers.remove(modifier)
    return "The mesh shows the plate."


WAYS = {
    "BACKGROUND": as_background,
    "COMPOSITOR": as_compositor_input,
    "TEXTURE": as_texture,
    "PLATE": as_plate_again,
}


def _film_back(take):
    matrix = take.path.intrinsics[0]
    pixel_aspect = float(matrix[0, 0] / matrix[1, 1])
    return SENSOR_WIDTH_MM, SENSOR_WIDTH_MM * take.path.height * pixel_aspect / take.path.width


def _own_camera(scene, take, begin):
    """Return a camera that moves as the take's did, whatever became of the artist's; it is made once."""
    name = take.folder.name
    known = (item for item in scene.objects if item.get(TAKE_KEY) == name and item.type == "CAMERA")
    found = next(known, None)
    if found is None:
        baked = baked_camera.bake(scene, take.path, begin, SENSOR_WIDTH_MM)
        found = baked_camera.camera_object(baked, f"{name} camera")
        found[TAKE_KEY] = name
        scene.collection.objects.link(found)
        found.hide_render = True
    return found


def _projected(own, image, take, begin):
    """Return a copy of a material with the result over its colour, wherever the take's picture reaches."""
    material = own.copy()
    material.name = f"{own.name} {take.folder.name}"
    nodes, links = material.node_tree.nodes, material.node_tree.links
    output = next(node for node in nodes if node.bl_idname == "ShaderNodeOutputMaterial")
    below = output.inputs["Surface"].links[0].from_socket
    coordinates, texture = nodes.new("ShaderNodeUVMap"), nodes.new("ShaderNodeTexImage")
    light, mixed = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeMixShader")
    coordinates.uv_map = PROJECTION
    texture.image, texture.extension = image, "CLIP"
    show_movie_frame(texture.image_user, begin, take.frame_count)
    links.new(coordinates.outputs[0], texture.inputs["Vector"])
    links.new(texture.outputs["Color"], light.inputs["Color"])
    links.new(texture.outputs["Alpha"], mixed.inputs[0])  # nothing beyond the picture
    links.new(below, mixed.inputs[1])
    links.new(light.outputs[0], mixed.inputs[2])
    links.new(mixed.outputs[0], output.inputs["Surface"])
    nodes.active = texture  # what solid shading shows
    lay_out(material.node_tree)
    return material
