# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera and mesh for other programs, through Blender's own exporters, with a page of what they cannot hold."""

import json
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from . import baked_camera, path_sampling
from .baked_camera import BakedCamera
from .errors import DAMAGED, ShotDataError
from .path_sampling import SCENE_FILE, SampledPath

SCHEMA = 1
FORMAT_ITEMS = [
    ("USD", "USD", "Camera and animated mesh"),
    ("ABC", "Alembic", "Camera and animated mesh"),
    ("FBX", "FBX", "Camera"),
    ("CHAN", "Nuke .chan", "Camera; lens shift is only in the .json beside it"),
]
EXPORTERS = {"USD": ("wm", "usd_export"), "ABC": ("wm", "alembic_export"), "FBX": ("export_scene", "fbx")}


def read_path(folder: Path, plate_start: int) -> tuple[SampledPath, int]:
    """Return a take's path and the scene frame of its first camera."""
    try:
        with (folder / "camera.npz").open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            width, height = (int(side) for side in file["size"])
            path = SampledPath(file["world_to_camera"], file["intrinsics"], width, height, file["source_frame"])
        scene_file = folder / SCENE_FILE
        if scene_file.exists():
            return path, json.loads(scene_file.read_text(encoding="utf-8"))["frame_start"]
    except DAMAGED as error:
        raise ShotDataError(f"{folder} holds no take ({error}). Choose another one, or the scene's camera.") from error
    return path, plate_start + int(path.source_frame[0])


def scene_path(context) -> tuple[SampledPath, int]:
    """Return the path of the scene's camera over the scene's range, and its first frame."""
    scene, state = context.scene, context.scene.ex4d
    frames = range(scene.frame_start, scene.frame_end + 1)
    args = state.root, frames, state.plate_start, state.plate_frames
    return path_sampling.sample_camera_path(context, *args, hide=[state.mesh]), scene.frame_start


def export(context, path: SampledPath, frame_start: int, folder: Path, name: str, formats, take_record=None):
    """Write a camera path, the shot's mesh and what belongs to them.

    Args:
        path, frame_start: of `read_path` or `scene_path`.
        folder: where the files go; made if it is not there.
        name: of the files and of the camera in them.
        formats: of `FORMAT_ITEMS`.
        take_record: take.json of the take, for the page.

    Returns:
        The files written.

    Raises:
        ShotDataError: the folder cannot be written, or this Blender lacks a format.
    """
    scene = context.scene
    missing = [label for identifier, label, _ in FORMAT_ITEMS if identifier in formats and not has_format(identifier)]
    if missing:
        raise ShotDataError(
            f"This Blender cannot write {', '.join(missing)}. Untick it, or use Blender from blender.org."
        )
    film_back = scene.camera.data.sensor_width if scene.camera is not None and scene.camera.type == "CAMERA" else 36.0
    baked = baked_camera.bake(scene, path, frame_start, film_back)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_selected(context, baked, name) as camera:
            for identifier in ("USD", "ABC", "FBX"):
                if identifier in formats:
                    written.append(_export_one(scene, identifier, folder, name, camera))
        if "CHAN" in formats:
            written.append(folder / f"{name}.chan")
            written[-1].write_text(baked_camera.chan(baked), encoding="utf-8")
        written.append(folder / f"{name}.json")
        page = json.dumps(page_of(scene, baked, name, take_record), indent=1)
        written[-1].write_text(page, encoding="utf-8")
    except (OSError, RuntimeError) as error:  # the latter: an exporter's own words
        raise ShotDataError(f"{folder} cannot be written: {error}. Choose another folder.") from error
    return written


def has_format(identifier: str) -> bool:
    """Tell whether this Blender can write a format: some builds leave exporters out."""
    if identifier not in EXPORTERS:
        return True
    module, name = EXPORTERS[identifier]
    return name in dir(getattr(bpy.ops, module))


def page_of(scene, baked: BakedCamera, name: str, take_record) -> dict:
    """Return what the other files cannot say, as plain data."""
    lenses, path, state = baked.lenses, baked.path, scene.ex4d
    return {
        "schema": SCHEMA,
        "shot": state.shot_name,
        "name": name,
        "frame_start": baked.frame_start,
        "frame_end": baked.frames[-1],
        "fps": scene.render.fps / scene.render.fps_base,
        "size": [path.width, path.height],
        "film_back_mm": list(baked.film_back_mm),
        "lens_mm": [lens.lens_mm for lens in lenses],
        "principal_point_px": path.intrinsics[:, :2, 2].tolist(),
        "plate_frame": (path.source_frame + state.plate_start).tolist(),
        "chan": {"rotation_order": baked_camera.CHAN_ORDER, "up": "Y", "unit": "scene units"},
        "take": take_record,
    }


@contextmanager
def _only_selected(context, baked: BakedCamera, name: str):
    """Put a baked camera into the scene and select it with the mesh, over the path's frames; undo all that after."""
    scene, mesh = context.scene, context.scene.ex4d.mesh
    camera = baked_camera.camera_object(baked, name)
    data = camera.data
    actions = {item.animation_data.action for item in (camera, data) if item.animation_data is not None}
    scene.collection.objects.link(camera)
    selected, active = context.selected_objects, context.view_layer.objects.active
    frames = scene.frame_start, scene.frame_end
    hidden = mesh.hide_viewport, mesh.hide_get()
    try:
        scene.frame_start, scene.frame_end = baked.frames[0], baked.frames[-1]
        mesh.hide_viewport = False
        mesh.hide_set(False)
        for item in selected:
            item.select_set(False)
        for item in (camera, mesh):
            item.select_set(True)
        with path_sampling.frame_restored(scene):
            yield camera
    finally:
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)
        for action in actions:
            bpy.data.actions.remove(action)
        mesh.select_set(mesh in selected)
        mesh.hide_viewport = hidden[0]
        mesh.hide_set(hidden[1])
        for item in selected:
            item.select_set(True)
        context.view_layer.objects.active = active
        scene.frame_start, scene.frame_end = frames


def _export_one(scene, identifier, folder, name, camera):
    """Run one of Blender's exporters on what is selected."""
    if identifier == "USD":
        file = folder / f"{name}.usdc"
        bpy.ops.wm.usd_export(
            filepath=str(file), selected_objects_only=True, export_animation=True, export_materials=False
        )
    elif identifier == "ABC":
        file = folder / f"{name}.abc"
        frames = {"start": scene.frame_start, "end": scene.frame_end}
        bpy.ops.wm.alembic_export(filepath=str(file), selected=True, as_background_job=False, **frames)
    else:
        file = folder / f"{name}.fbx"
        bpy.ops.export_scene.fbx(
            filepath=str(file),
            use_selection=True,
            object_types={"CAMERA"},
            bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0,
        )
    return file
