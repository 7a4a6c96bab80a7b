# SPDX-License-Identifier: GPL-3.0-or-later
"""From the scene to a reconstruct job, and from its files to the DW-Mesh in the scene."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bpy

from . import cameras, display_mesh, session, shots
from .compat import fcurves_of
from .depth_files import depth_inputs
from .display_arrays import STRIDES, DisplayArrays, read_display
from .errors import DAMAGED, CameraPathError, ShotDataError
from .path_sampling import lens_of_camera
from .properties import DEPTH_KIND_ITEMS, RESEARCH_ONLY

# Relative difference of focal lengths that counts as the same lens: Blender keeps them as float32.
SAME_LENS = 1e-5

LICENCE_REFUSED = "licence"  # the code of ex4d's LicenceError


@dataclass(frozen=True)
class ShotOnDisk:
    """What the background thread read of a reconstruction."""

    folder: Path
    record: dict  # shot.json
    arrays: DisplayArrays


def job_of(scene):
    """Return (params, inputs) of the scene's reconstruct job.

    Raises:
        CameraPathError: the source camera is not the simple camera that a reconstruction takes.
        ShotDataError: the plate or the chosen depth file is missing.
    """
    state = scene.ex4d
    plate = shots.absolute(state.plate_clip.filepath)
    if not plate.is_file():
        raise ShotDataError(f"The plate {plate} is gone. Put it back or import it again.")
    params = {
        "depth": state.depth_source,
        "accept_licence": state.accept_licence,
        "convention": "exact",
        "focal_px": source_focal_px(state),
        "plate_path": str(plate),  # for whoever looks for the plate later: the server sees a copy
    }
    inputs = {"plate": plate}
    if state.depth_source == "file":
        depth = shots.absolute(state.depth_file)
        if not state.depth_file or not depth.is_file():
            raise ShotDataError("Choose a depth file, or another depth source.")
        inputs |= depth_inputs(depth, state.plate_frames)
        params["depth_kind"] = state.depth_kind
    return params, inputs


def asks_for_licence(state):
    """Tell whether the artist has to see the licence's tick: it may be needed, was missing, or is set."""
    was_missing = session.current.step is session.Step.RECONSTRUCT and session.current.failed_code == LICENCE_REFUSED
    return state.depth_source in RESEARCH_ONLY or was_missing or state.accept_licence


def source_focal_px(state):
    """Return the focal length of the source camera in pixels of the plate."""
    camera = state.source_camera
    if camera is None or camera.data.type != "PERSP":
        raise CameraPathError("The source camera must be a perspective camera.")
    if camera.data.shift_x or camera.data.shift_y:
        raise CameraPathError(f"Set the lens shift of '{camera.name}' to 0: a shifted source lens is not supported.")
    if fcurves_of(camera.data):
        raise CameraPathError(f"Remove the animation of the lens of '{camera.name}': a zooming plate is not supported.")
    picture = cameras.Picture(state.plate_width, state.plate_height)
    return float(cameras.intrinsics_of(lens_of_camera(camera), picture)[0, 0])


def arrived(shot_id, folder, files):
    """Show a finished reconstruction."""
    scene = shots.scene_of(shot_id)
    if scene is None:
        session.current.notice = f"The reconstruction lies in {folder}; its scene is not open any more."
        return
    scene.ex4d.property_unset("coverage_check")  # it was of the mesh before
    show(scene, folder)


def show(scene, folder):
    """Read the shot's mesh in the background, then build it slice by slice."""
    stride = STRIDES[scene.ex4d.mesh_stride]
    session.call("Reading the mesh", read_shot, folder, stride, on_done=partial(_build, scene.ex4d.shot_id))


def read_shot(folder, stride):
    """Runs in the background thread."""
    try:
        record = shots.read_record(folder / "shot.json")
    except DAMAGED as error:
        raise ShotDataError(f"{folder} holds no shot ({error}). Reconstruct the shot again.") from error
    return ShotOnDisk(folder, record, read_display(folder / "display.npz", stride))


def _build(shot_id, shot):
    session.start_work("Building the mesh", _slices(shot_id, shot))


def _slices(shot_id, shot):
    builder = None
    while (scene := shots.scene_of(shot_id)) is not None:  # None: another file was opened meanwhile
        builder = builder or display_mesh.MeshBuilder(shot.arrays, f"{scene.ex4d.shot_name} DW-Mesh")
        mesh = builder.step()
        if mesh is not None:
            with session.undo_step("Show DW-Mesh"):
                _place(scene, mesh, shot)
            return
        yield builder.frames_done, shot.arrays.frame_count


def _place(scene, mesh, shot):
    """Put the finished mesh under the shot's Empty and tell the scene what the reconstruction found."""
    state, arrays = scene.ex4d, shot.arrays
    if not shots.in_scene(scene, state.root):
        raise ShotDataError(f"The Empty of shot {state.shot_name} was deleted. Import the plate again.")
    image = _plate_image(state, shot.folder / "plate.mkv")
    item = state.mesh
    if not shots.in_scene(scene, item):
        item = bpy.data.objects.new(mesh.name, mesh)
        scene.collection.objects.link(item)
        item.parent = state.root
        display_mesh.unlit(item)
    display_mesh.put_on_object(item, mesh, image, state.plate_start, arrays)
    state.mesh, state.shot_image, state.is_reconstructed = item, image, True
    if shots.in_scene(scene, state.plate_plane):
        state.plate_plane.hide_viewport = state.plate_plane.hide_render = True
    _remember(scene, shot)


def _plate_image(state, path):
    """Return the shot's own plate as a movie image: the frames used, at the size used."""
    image = state.shot_image
    if image is None or shots.absolute(image.filepath) != path:
        image = bpy.data.images.load(str(path))
        image.name = f"{state.shot_name} plate"
        image.filepath = shots.stored(path)
    else:
        image.reload()
    return image


def _remember(scene, shot):
    """Write what the artist should know about the reconstruction, and correct what Blender had read differently."""
    state, arrays = scene.ex4d, shot.arrays
    notices = list(shot.record.get("notices", ()))
    if arrays.frame_count != state.plate_frames:
        notices.append(f"The plate has {arrays.frame_count} frames, not {state.plate_frames} as Blender read.")
        state.plate_frames = arrays.frame_count
        scene.frame_end = state.plate_start + arrays.frame_count - 1
    if (arrays.width, arrays.height) != (state.plate_width, state.plate_height):
        notices.append(f"The plate is {arrays.width} x {arrays.height} upright; the scene now has that size.")
        state.plate_width, state.plate_height = arrays.width, arrays.height
        scene.render.resolution_x, scene.render.resolution_y = arrays.width, arrays.height
    notices += _source_lens_as_reconstructed(state, arrays)
    depth = shot.record["depth"]
    kind = depth.get("parameters", {}).get("kind")
    if state.depth_source == "file" and kind in {identifier for identifier, *_ in DEPTH_KIND_ITEMS}:
        state.depth_kind = kind  # the file knew better
    state.depth_notice = depth_facts(depth, arrays.nearest, arrays.farthest)
    state.licence_notice = depth["licence"] + (", not for paid work" if depth["commercial_use"] is False else "")
    state.shot_notice = "\n".join(notices)


def depth_facts(depth, nearest, farthest):
    """Return where the depth came from, how its numbers were read, and how far it reaches.

    Args:
        depth: of shot.json.
        nearest, farthest: shot units; metres when the depth is metric.
    """
    used = depth.get("parameters", {})
    kind = next((label for identifier, label, _ in DEPTH_KIND_ITEMS if identifier == used.get("kind")), None)
    unit = " m" if depth.get("kind") == "metric" else ", scale unknown"
    reach = f"{_distance(nearest)} to {_distance(farthest)}{unit}"
    return ", ".join(part for part in (used.get("file", depth["source"]), kind, reach) if part)


def _distance(value):
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _source_lens_as_reconstructed(state, arrays):
    """Let the source camera see the plate back: the mesh holds the lens of its reconstruction."""
    if state.source_camera is None:
        return []
    data = state.source_camera.data
    lens = cameras.lens_of(arrays.intrinsics, arrays.width, arrays.height, data.sensor_width)
    if abs(data.lens - lens.lens_mm) < SAME_LENS * lens.lens_mm:
        return []
    data.lens = lens.lens_mm
    return [f"The source lens is {lens.lens_mm:.4g} mm again, as when the shot was reconstructed."]
