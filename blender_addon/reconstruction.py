# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction: sent, and its files as the DW-Mesh in the scene."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bpy
import numpy as np

from . import cameras, coverage_strip, display_mesh, motion, plate_time, scene_match, session, shots, solve
from .display_arrays import STRIDES, DisplayArrays, read_display
from .errors import DAMAGED, ShotDataError
from .job_files import PACKED
from .properties.reconstruct import DEPTH_KIND_ITEMS, RESEARCH_ONLY
from .reconstruct_job import frames_to_use, job_of, uses_solve

# Relative difference of focal lengths that counts as the same lens: Blender keeps them as float32.
SAME_LENS = 1e-5

LICENCE_REFUSED = "licence"  # the code of ex4d's LicenceError


@dataclass(frozen=True)
class ShotOnDisk:
    """What the background thread read of a reconstruction."""

    folder: Path
    record: dict  # shot.json
    arrays: DisplayArrays


def start(scene):
    """Send the scene's plate to be reconstructed.

    Raises:
        CameraPathError: the source camera is not the simple camera that a reconstruction takes.
        ShotDataError: the plate or the chosen depth file is missing.
        SolveError: the solved camera cannot be used.
    """
    state = scene.ex4d
    folder = shots.shot_folder(scene)
    frames = frames_to_use(scene)
    solved = solve.read_solve(state.plate_clip, frames) if uses_solve(state) else None
    params, files = job_of(scene, frames, solved)
    state.asked_frames = len(frames)
    state.plate_fps = scene_match.plate_rate(scene)
    send = partial(_send, state.shot_id, params, folder)
    if files.is_slow:
        session.call("Gathering the plate's files", files.gather, on_done=send)
    else:
        send(files.gather())


def _send(shot_id, params, folder, inputs):
    on_done = partial(arrived, shot_id, folder)
    session.start_job("Reconstruction", "reconstruct", params, inputs, folder, on_done)


def asks_for_licence(state):
    """Tell whether the artist has to see the licence's tick: it may be needed, was missing, or is set."""
    was_missing = session.current.step is session.Step.RECONSTRUCT and session.current.failed_code == LICENCE_REFUSED
    used = {state.depth_source, state.tracked_prior if state.depth_source == "tracked" else ""}
    return bool(used & RESEARCH_ONLY) or was_missing or state.accept_licence


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
    (folder / PACKED).unlink(missing_ok=True)  # it was for the server only
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
    notices = _take_range(scene, shot)
    image = _plate_image(state, shot.folder / "plate.mkv")
    item = state.mesh
    if not shots.in_scene(scene, item):
        item = bpy.data.objects.new(mesh.name, mesh)
        scene.collection.objects.link(item)
        item.parent = state.root
        display_mesh.unlit(item)
    display_mesh.put_on_object(item, mesh, image, state.plate_start, arrays)
    state.mesh, state.shot_image, state.is_reconstructed = item, image, True
    state.subject_distance = arrays.subject
    state.is_undistorted = bool(shot.record.get("plate", {}).get("lens_distortion"))
    _place_as_filmed(scene, arrays.source_camera_to_world)
    plate_time.follow(state)
    coverage_strip.forget()
    if shots.in_scene(scene, state.plate_plane):
        state.plate_plane.hide_viewport = state.plate_plane.hide_render = True
    _remember(scene, shot, notices)


def _take_range(scene, shot):
    """Let the scene know which of the file's frames the shot has, and say where Blender had counted others."""
    state, count = scene.ex4d, shot.arrays.frame_count
    first = shot.record.get("plate", {}).get("first_frame", 0)
    state.plate_start, state.plate_frames = state.film_start + first, count
    if count == state.asked_frames:
        return []
    scene.frame_end = state.plate_start + count - 1
    return [f"The plate has {count} frames, not {state.asked_frames} as Blender read."]


def _place_as_filmed(scene, camera_to_world):
    """Put each frame's mesh and the source camera where the plate's camera was; leave both alone if it never moved."""
    state = scene.ex4d
    items = [(state.mesh, cameras.mesh_to_shot), (state.source_camera, _source_pose)]
    for item, pose_of in items:
        if not shots.in_scene(scene, item):
            continue
        if camera_to_world is not None:
            motion.place(item, np.array([pose_of(pose) for pose in camera_to_world]), state.plate_start)
        elif motion.moves(item):  # it did in the reconstruction before
            motion.place(item, pose_of(np.eye(4))[None], state.plate_start)


def _source_pose(camera_to_world):
    return cameras.camera_to_shot(np.linalg.inv(camera_to_world))


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


def _remember(scene, shot, notices):
    """Write what the artist should know about the reconstruction, and correct what Blender had read differently."""
    state, arrays = scene.ex4d, shot.arrays
    notices = [*shot.record.get("notices", ()), *notices]
    if (arrays.width, arrays.height) != (state.plate_width, state.plate_height):
        notices.append(f"The plate is {arrays.width} x {arrays.height} upright; the scene now has that size.")
        state.plate_width, state.plate_height = arrays.width, arrays.height
        scene.render.resolution_x, scene.render.resolution_y = arrays.width, arrays.height
    notices += _source_lens_as_reconstructed(state, arrays)
    if solve.is_solved(state.plate_clip) and arrays.source_camera_to_world is not None:
        notices += solve.notices(state.plate_clip)
    depth = shot.record["depth"]
    kind = depth.get("parameters", {}).get("kind")
    if state.depth_source == "file" and kind in {identifier for identifier, *_ in DEPTH_KIND_ITEMS}:
        state.depth_kind = kind  # the file knew better
    is_solved = arrays.source_camera_to_world is not None
    state.depth_notice = depth_facts(depth, arrays.nearest, arrays.farthest, is_solved)
    state.licence_notice = depth["licence"] + (", not for paid work" if depth["commercial_use"] is False else "")
    state.shot_notice = "\n".join(notices)


def depth_facts(depth, nearest, farthest, is_solved=False):
    """Return where the depth came from, how its numbers were read, and how far it reaches.

    Args:
        depth: of shot.json.
        nearest, farthest: shot units; metres when the depth is metric and nobody solved the plate in another unit.
        is_solved: the plate's camera gave the unit.
    """
    used = depth.get("parameters", {})
    kind = next((label for identifier, label, _ in DEPTH_KIND_ITEMS if identifier == used.get("kind")), None)
    known = " in the solve's unit" if is_solved else " m"
    unit = known if depth.get("kind") == "metric" else ", scale unknown"
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
    data.shift_x, data.shift_y = lens.shift_x, lens.shift_y  # 0 unless a solve found the principal point elsewhere
    if abs(data.lens - lens.lens_mm) < SAME_LENS * lens.lens_mm:
        return []
    data.lens = lens.lens_mm
    how = "as solved" if arrays.source_camera_to_world is not None else "again, as when the shot was reconstructed"
    return [f"The source lens is {lens.lens_mm:.4g} mm {how}."]
