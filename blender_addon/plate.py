# SPDX-License-Identifier: GPL-3.0-or-later
"""A filmed plate in the scene: the Empty, the camera that filmed it, and the picture in front of that camera."""

import uuid
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import cameras, shots, solve
from .errors import PlateError
from .materials import UV_NAME, plate_material
from .picture_files import Pictures, is_picture, number_of, pattern_of

# The border of a DW-Mesh lies at depth 100, and the startup file's camera ends there.
CLIP_END = 10_000.0

# How far in front of the camera the flat picture stands until the shot has depth, in shot units.
PLANE_DISTANCE = 10.0

# The plate's camera is the shot's origin: at a standing person's eyes it films over a startup file's cube and floor.
EYE_HEIGHT = 1.6

# A common prime on full frame, until the artist says what was used.
LENS_MM, SENSOR_WIDTH_MM = 35.0, 36.0

# Of the scene's state, what another plate does not change.
KEPT_SETTINGS = {"rna_type", "name", "depth_source", "mesh_stride", "engine", "quality"}

# Where on the plate plane to look for obstacles, from -0.5 to 0.5 in both directions.
LOOK_AT = (-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45)


@dataclass(frozen=True)
class Plate:
    """What Blender found in the file, or in the pictures."""

    clip: bpy.types.MovieClip
    width: int
    height: int
    fps: float | None  # None: pictures, which have the scene's
    frame_count: int

    @property
    def first_number(self) -> int | None:
        """Of pictures: the number of the first one."""
        return None if self.fps is not None else number_of(shots.absolute(self.clip.filepath))


def open_plate(path: Path, pictures: Pictures | None = None) -> Plate:
    """Load a movie, or pictures that were looked for before, as a movie clip.

    Raises:
        PlateError: no such file, or Blender cannot show it.
    """
    if path.is_dir():  # no file was picked in the browser
        raise PlateError("Choose a movie file, or pictures.")
    if not path.is_file():
        raise PlateError(f"There is no file {path}. Choose a movie file.")
    known = set(bpy.data.movieclips)
    try:
        clip = bpy.data.movieclips.load(str(path))
    except RuntimeError as error:
        raise PlateError(f"Blender cannot read {path.name}: {error}. Choose a movie file, or pictures.") from error
    try:
        return plate_of(clip, pictures)
    except PlateError:
        if clip not in known:
            bpy.data.movieclips.remove(clip)
        raise


def plate_of(clip, pictures: Pictures | None = None) -> Plate:
    """Return a movie clip of this file as a plate.

    Args:
        pictures: those of an image sequence.

    Raises:
        PlateError: it has no frames that Blender can show, or its file is gone.
    """
    path = shots.absolute(clip.filepath)
    if not path.is_file():
        raise PlateError(f"The file of the movie clip {clip.name}, {path}, is gone. Put it back.")
    if clip.frame_offset:
        raise PlateError(f"Set the Frame Offset of the clip '{clip.name}' to 0; if it is solved, solve it again.")
    width, height = solve.straight_size(clip)
    if pictures is not None:
        if clip.source != "SEQUENCE":
            raise PlateError(f"Blender cannot read {path.name}. Export that frame again, or choose other pictures.")
        return Plate(clip, width, height, None, pictures.count)
    if clip.source != "MOVIE" or clip.frame_duration < 1 or clip.fps <= 0:
        raise PlateError(
            f"{path.name} is no movie that Blender can read, or has no frames. Choose a movie file (mp4, mov, mkv) or "
            "pictures (PNG, JPEG, TIFF, EXR)."
        )
    return Plate(clip, width, height, clip.fps, clip.frame_duration)


def lens_notices(scene) -> list[str]:
    """Return what is known of the plate's lens, as sentences."""
    clip = scene.ex4d.plate_clip
    said = solve.distortion_notice(clip)
    if not solve.is_solved(clip):
        if said:
            return ["The clip's lens settings give the lens; the plate's camera is taken to stand still.", *said]
        return ["The lens is a guess: set Source Lens and Film Back for true parallax."]
    lens = scene.ex4d.source_camera.data.lens
    said = [
        f"The clip's solved camera gives the lens ({lens:.4g} mm) and, once reconstructed, the plate's motion.",
        *said,
    ]
    if solve.tracked_scene_matrix(scene, clip) is not None:
        said.append("The shot stands where the scene's tracked camera was oriented.")
    return said + solve.notices(clip)


def take_lens(scene, clip):
    """Let the source camera have the clip's lens.

    Of a clip that was not solved the reconstruction brings the principal point to the picture's middle.
    """
    state = scene.ex4d
    width, height = solve.straight_size(clip)
    intrinsics = solve.intrinsics_of(clip)
    if not solve.is_solved(clip):
        intrinsics[:2, 2] = width / 2, height / 2
    data = state.source_camera.data
    lens = cameras.lens_of(intrinsics, width, height, clip.tracking.camera.sensor_width)
    data.lens, data.sensor_width = lens.lens_mm, lens.sensor_width_mm
    data.shift_x, data.shift_y = lens.shift_x, lens.shift_y
    width_there = PLANE_DISTANCE * lens.sensor_width_mm / lens.lens_mm  # of what the camera sees, in shot units
    state.plate_plane.location = (lens.shift_x * width_there, lens.shift_y * width_there, -PLANE_DISTANCE)


def take_place(scene, clip):
    """Let the shot stand where the artist oriented the clip's solve."""
    oriented = solve.tracked_scene_matrix(scene, clip)
    if oriented is not None:
        scene.ex4d.root.matrix_basis = oriented


def obstacles(context) -> list[str]:
    """Return a sentence about what stands between the source camera and the plate; nothing when the view is free."""
    context.view_layer.update()
    graph = context.evaluated_depsgraph_get()
    state = context.scene.ex4d
    eye = state.source_camera.matrix_world.translation
    to_world = state.plate_plane.evaluated_get(graph).matrix_world
    names = set()
    for x, y in product(LOOK_AT, LOOK_AT):
        ray = to_world @ Vector((x, y, 0)) - eye
        hit, *_, item, _ = context.scene.ray_cast(graph, eye, ray.normalized(), distance=0.999 * ray.length)
        if hit:
            names.add(item.name)
    if not names:
        return []
    return [f"Before the plate: {', '.join(sorted(names))}. Hide or move what should not be in the picture."]


def _link(scene, item, parent=None):
    scene.collection.objects.link(item)
    item.parent = parent
    return item


def _driven_by_lens(plane, axis, camera, expression):
    """Scale the plane with the camera's lens and film back, so that it always fills the picture."""
    driver = plane.driver_add("scale", axis).driver
    driver.type = "SCRIPTED"
    for name in ("lens", "sensor_width"):
        variable = driver.variables.new()
        variable.name = name
        variable.targets[0].id_type = "CAMERA"
        variable.targets[0].id = camera.data
        variable.targets[0].data_path = name
    driver.expression = expression  # simple enough for Blender to evaluate without running Python


def _plate_plane(scene, name, camera, plate: Plate, frame_start):
    """Return a unit quad with the movie on it, filling the source camera's picture."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0.5, 0.5, 0), (-0.5, 0.5, 0)], [], [(0, 1, 2, 3)])
    mesh.uv_layers.new(name=UV_NAME).data.foreach_set("uv", [0, 0, 1, 0, 1, 1, 0, 1])
    image = bpy.data.images.load(bpy.path.abspath(plate.clip.filepath), check_existing=True)
    image.filepath = plate.clip.filepath
    material = plate_material(name, image, frame_start, plate.frame_count)
    if plate.first_number is not None:
        image.source = "SEQUENCE"
        texture = next(node for node in material.node_tree.nodes if node.bl_idname == "ShaderNodeTexImage")
        texture.image_user.frame_offset = plate.first_number - 1  # Blender counts the files' own numbers
    mesh.materials.append(material)
    plane = _link(scene, bpy.data.objects.new(name, mesh), camera)
    plane.location = (0, 0, -PLANE_DISTANCE)
    plane.hide_select = True
    _driven_by_lens(plane, 0, camera, f"{PLANE_DISTANCE} * sensor_width / lens")
    _driven_by_lens(plane, 1, camera, f"{PLANE_DISTANCE * plate.height / plate.width} * sensor_width / lens")
    return plane


def _source_camera(scene, name, root, plate: Plate, frame_start):
    """Return the camera that filmed the plate, with the plate as its background."""
    data = bpy.data.cameras.new(name)
    data.sensor_fit = "HORIZONTAL"
    data.lens, data.sensor_width = LENS_MM, SENSOR_WIDTH_MM
    data.clip_end = CLIP_END
    plate.clip.frame_start = frame_start
    background = data.background_images.new()
    background.source = "MOVIE_CLIP"
    background.clip = plate.clip
    background.frame_method = "FIT"
    background.alpha = 1.0
    data.show_background_images = True
    camera = _link(scene, bpy.data.objects.new(name, data), root)
    camera.matrix_basis = Matrix(cameras.camera_to_shot(np.eye(4)).tolist())
    return camera


def name_of(path: Path) -> str:
    """Return what a plate is called: its file's name, of pictures without number and padding."""
    stem = pattern_of(path).stem.replace("####", "") if is_picture(path) else path.stem
    return stem.strip("._- ") or path.parent.name


def import_plate(scene, plate: Plate, frame_start: int):
    """Build the shot's Empty, source camera and plate plane, and remember them on the scene."""
    state = scene.ex4d
    path = Path(bpy.path.abspath(plate.clip.filepath))
    name = shots.unused_shot_name(name_of(path))
    plate.clip.filepath = shots.stored(bpy.path.abspath(plate.clip.filepath))
    root = _link(scene, bpy.data.objects.new(f"EX-4D {name}", None))
    root.empty_display_type = "PLAIN_AXES"
    root.location.z = EYE_HEIGHT
    camera = _source_camera(scene, f"{name} source", root, plate, frame_start)

    for remembered in list(state.bl_rna.properties.keys()):
        if remembered not in KEPT_SETTINGS:
            state.property_unset(remembered)
    state.shot_name, state.shot_id = name, uuid.uuid4().hex
    state.root, state.source_camera = root, camera
    state.plate_plane = _plate_plane(scene, f"{name} plate", camera, plate, frame_start)
    state.plate_clip = plate.clip
    state.plate_width, state.plate_height = plate.width, plate.height
    state.plate_fps = plate.fps or scene.render.fps / scene.render.fps_base
    state.film_frames, state.film_start = plate.frame_count, frame_start
    state.plate_frames, state.plate_start = plate.frame_count, frame_start
    scene.camera = camera
    if solve.is_solved(plate.clip) or solve.lens_distortion(plate.clip):
        take_lens(scene, plate.clip)
    if solve.is_solved(plate.clip):
        take_place(scene, plate.clip)
    return root
