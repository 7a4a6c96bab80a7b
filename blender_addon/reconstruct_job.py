# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruct job is asked: the plate, its frames and lens, where its depth comes from, what is known of it."""

from fractions import Fraction

from . import cameras, scene_match, shots, solve
from .compat import fcurves_of
from .errors import CameraPathError, ShotDataError
from .job_files import JobFiles
from .path_sampling import lens_of_camera
from .picture_files import number_of, pattern_of
from .properties.reconstruct import READ_FROM_FILE


def frames_to_use(scene) -> range:
    """Return which of the file's frames are to be reconstructed, counted from 0: all, or the scene's and handles.

    Raises:
        ShotDataError: the scene's range is to be used, and leaves the plate.
    """
    state = scene.ex4d
    if not state.use_scene_range:
        return range(state.film_frames)
    frames = range(scene.frame_start - state.film_start, scene.frame_end + 1 - state.film_start)
    if not frames or frames[0] < 0 or frames[-1] >= state.film_frames:
        raise ShotDataError(
            f"The plate's file covers frames {state.film_start} to {state.film_start + state.film_frames - 1}, the "
            f"scene {scene.frame_start} to {scene.frame_end}. Set the scene's start and end inside the plate."
        )
    return range(max(frames.start - state.handles, 0), min(frames.stop + state.handles, state.film_frames))


def job_of(scene, frames, solved):
    """Return (params, files to gather) of a shot's reconstruct job.

    Args:
        scene: with the plate.
        frames: of `frames_to_use`.
        solved: the plate's camera motion; None when it is not used.

    Raises:
        CameraPathError, ShotDataError: as in `start`.
    """
    state = scene.ex4d
    plate = shots.absolute(state.plate_clip.filepath)
    if not plate.is_file():
        raise ShotDataError(f"The plate {plate} is gone. Put it back or import it again.")
    params = {
        "depth": state.depth_source,
        "accept_licence": state.accept_licence,
        "convention": "exact",
        "plate_path": str(plate),  # for whoever looks for the plate later: the server sees a copy
    }
    numbers = None
    if scene_match.is_sequence(state):  # of which only the pictures used are sent
        first = number_of(plate) or 0
        numbers = range(first + frames.start, first + frames.stop)
        params |= {"fps": frame_rate(scene), "number_start": first, "plate_path": str(pattern_of(plate))}
    if len(frames) != state.film_frames:
        params |= {"frame_start": frames.start, "frame_count": len(frames)}
    if solved is None:
        params["focal_px"] = source_focal_px(state)  # a solve brings its own lens
    if distortion := solve.lens_distortion(state.plate_clip):
        params["lens_distortion"] = distortion
    if options := depth_options(state, solved):
        params["depth_options"] = options
    depth = None
    if state.depth_source in READ_FROM_FILE:
        depth = shots.absolute(state.depth_file)
        if not state.depth_file or not depth.is_file():
            raise ShotDataError("Choose a depth file, or another depth source.")
    if state.depth_source == "file":
        params["depth_kind"] = state.depth_kind
    with_points = takes_distances(state)
    return params, JobFiles(shots.shot_folder(scene), plate, numbers, len(frames), depth, solved, with_points)


def frame_rate(scene) -> str:
    """Return a scene's frame rate as an exact fraction: 24000/1001."""
    rate = Fraction(scene.render.fps) / Fraction(scene.render.fps_base).limit_denominator(10_000)
    return f"{rate.numerator}/{rate.denominator}"


def uses_solve(state):
    """Tell whether the plate's solved camera decides lens and place."""
    return solve.is_solved(state.plate_clip) and (state.use_solve or state.depth_source == "tracked")


def takes_distances(state):
    """Tell whether a depth source knows near from far but not how far, so that measured distances can scale it."""
    is_disparity = state.depth_source == "file" and state.depth_kind == "disparity"
    return is_disparity or state.depth_source in {"transformers", "depthcrafter"}


def takes_near_and_far(state):
    """Tell whether a depth source can be told how near and how far the plate goes."""
    return takes_distances(state) or state.depth_source in {"auto", "preview"}


def depth_options(state, solved):
    """Return what the artist, or else the solve, knows about the plate's distances, as a job's depth_options."""
    options = {}
    if state.depth_source == "tracked" and state.tracked_prior != "NONE":
        options["prior"] = state.tracked_prior
    if solved is not None:  # its points scale what takes distances; what takes none is told how far they reach
        near_far = solved.reach if takes_near_and_far(state) and not takes_distances(state) else None
    else:
        near_far = (state.depth_near, state.depth_far) if takes_near_and_far(state) else None
    if near_far is not None:
        options |= {name: f"{value:.6g}" for name, value in zip(("near", "far"), near_far, strict=True) if value}
    if takes_distances(state) and solved is None and state.known_distance:
        x, y = state.known_at[0] * state.plate_width, (1 - state.known_at[1]) * state.plate_height
        options["distances"] = f"{x:.1f},{y:.1f},{state.known_distance:.6g}"
    return options


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
