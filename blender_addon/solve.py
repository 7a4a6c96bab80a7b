# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera that filmed the plate, as Blender's motion tracking solved it.

Blender keeps a camera's pose as camera to world in its own axes, for clip frames that begin at 1. A shot's world is
that of its earliest camera; its unit is the solve's.
"""

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from .cameras import camera_to_shot, shot_from_solved
from .errors import SolveError
from .path_sampling import SampledPath, write_camera_npz

# Of the solve's points, by their distances: what lies outside is a wrong track more often than a thing.
NEAR_PERCENT, FAR_PERCENT = 1.0, 99.0

ROUGH_PX = 0.5  # of a solve: with tracks off by one pixel, depth from a small plate was a third off

# Which numbers bend the picture, by the clip's distortion model, under the names that ex4d/distortion.py has for them.
BENDING = {
    "POLYNOMIAL": {"k1": "k1", "k2": "k2", "k3": "k3"},
    "DIVISION": {"division_k1": "k1", "division_k2": "k2"},
    "NUKE": {"nuke_k1": "k1", "nuke_k2": "k2"},
    "BROWN": {f"brown_{name}": name for name in ("k1", "k2", "k3", "k4", "p1", "p2")},
}


@dataclass(frozen=True)
class Solve:
    """A solved plate in the shot's world, OpenCV axes."""

    cameras: SampledPath  # one per frame of the plate
    points: np.ndarray  # the solved tracks. float64 [P, 3]

    @property
    def reach(self) -> tuple[float, float] | None:
        """How near and how far the tracked things are, in the solve's unit; None where nothing was solved."""
        matrices = self.cameras.world_to_camera
        depths = (self.points @ matrices[:, 2, :3].T + matrices[:, 2, 3]).ravel()
        depths = depths[depths > 0]
        if not depths.size:
            return None
        near, far = np.percentile(depths, [NEAR_PERCENT, FAR_PERCENT])
        return float(near), float(far)


def _camera_object(clip):
    return next(item for item in clip.tracking.objects if item.is_camera)


def is_solved(clip) -> bool:
    """Tell whether a movie clip has a solved camera."""
    return clip is not None and _camera_object(clip).reconstruction.is_valid


def facts(clip) -> str:
    """Return what the panel says about a solved clip."""
    found = _camera_object(clip)
    frames, points = len(found.reconstruction.cameras), sum(track.has_bundle for track in found.tracks)
    return f"{frames} frames, {points} points, error {found.reconstruction.average_error:.2f} px"


def read_solve(clip, frames: range) -> Solve:
    """Return the solve of a plate.

    Args:
        clip: the plate's movie clip.
        frames: those used, counted from 0 at the clip's first frame.

    Raises:
        SolveError: it does not cover the plate, or the clip is not the one that a reconstruction sees.
    """
    found = _camera_object(clip)
    if clip.frame_offset:
        raise SolveError(f"Set the Frame Offset of the clip '{clip.name}' to 0 and solve it again.")
    poses = {camera.frame - 1: np.array(camera.matrix, dtype=np.float64) for camera in found.reconstruction.cameras}
    missing = [frame for frame in frames if frame not in poses]
    if missing:
        raise SolveError(
            f"The solve of '{clip.name}' has no camera for {len(missing)} of the {len(frames)} frames used, the first "
            f"at clip frame {missing[0] + 1}. Track more points there and solve again, or reconstruct the scene's "
            "range only."
        )
    solved = np.stack([poses[frame] for frame in frames])
    bundles = np.array([track.bundle[:] for track in found.tracks if track.has_bundle], dtype=np.float64)
    world_to_camera, points = shot_from_solved(solved, bundles.reshape(-1, 3), poses[min(poses)])
    width, height = straight_size(clip)
    cameras = SampledPath(
        world_to_camera,
        np.tile(intrinsics_of(clip), (len(frames), 1, 1)),
        width,
        height,
        np.arange(len(frames), dtype=np.float64),
    )
    return Solve(cameras, points)


def straight_size(clip) -> tuple[int, int]:
    """Return the size of a clip's picture in square pixels, as it is reconstructed: the solver squeezes the rows."""
    width, height = clip.size
    return width, max(1, round(height / clip.tracking.camera.pixel_aspect))


def intrinsics_of(clip) -> np.ndarray:
    """Return the pinhole matrix of a clip's lens, square pixels from the picture's top left edge. [3, 3]"""
    lens = clip.tracking.camera
    center_x, center_y = lens.principal_point_pixels  # from the bottom left
    focal_px, center_y = lens.focal_length_pixels, (clip.size[1] - center_y) / lens.pixel_aspect
    return np.array([[focal_px, 0, center_x], [0, focal_px, center_y], [0, 0, 1]], dtype=np.float64)


def lens_distortion(clip) -> str:
    """Return a clip's lens as a job's lens_distortion says it; empty where there is nothing to undo.

    For example polynomial:focal=1200,x=960,y=540,k1=-0.1: see ex4d/distortion.py.
    """
    lens = clip.tracking.camera
    names = BENDING.get(lens.distortion_model, {})
    told = {short: getattr(lens, name) for name, short in names.items() if getattr(lens, name)}
    is_stretched = abs(lens.pixel_aspect - 1) > 1e-4
    if not told and not is_stretched:
        return ""
    center_x, center_y = lens.principal_point_pixels
    place = {"focal": lens.focal_length_pixels, "x": center_x, "y": clip.size[1] - center_y}
    place |= {"aspect": lens.pixel_aspect} if is_stretched else {}
    return f"{lens.distortion_model.lower()}:" + ",".join(f"{name}={value!r}" for name, value in (place | told).items())


def notices(clip) -> list[str]:
    """Return what the artist should know about a solve before trusting it, as sentences."""
    error_px = _camera_object(clip).reconstruction.average_error
    if error_px <= ROUGH_PX:
        return []
    said = (
        f"The solve misses its tracks by {error_px:.1f} pixels on average: distances from it are rough. Take out the "
        "worst tracks and solve again."
    )
    return [said]


def distortion_notice(clip) -> list[str]:
    """Return a sentence about the lens distortion that a reconstruction will undo; nothing where there is none."""
    if not lens_distortion(clip):
        return []
    lens = clip.tracking.camera
    bends = any(getattr(lens, name) for name in BENDING.get(lens.distortion_model, {}))
    width, height = straight_size(clip)
    what = [f"the clip's lens distortion ({lens.distortion_model.lower()})"] if bends else []
    if height != clip.size[1]:
        what.append(f"the stretch of its pixels ({clip.size[0]} x {clip.size[1]} becomes {width} x {height})")
    said = (
        f"The reconstruction undoes {' and '.join(what)}: its plate, mesh and takes are undistorted. To keep the plate "
        "as it is, set the coefficients in the clip's lens settings to 0."
    )
    return [said]


def write_solve(folder: Path, solved: Solve, with_points: bool) -> dict[str, Path]:
    """Write what a reconstruct job takes of a solve; return the files by role. For the background thread."""
    files = {"source_camera": write_camera_npz(folder / "source_camera.npz", solved.cameras)}
    if with_points and len(solved.points):
        files["depth_points"] = folder / "depth_points.npz"
        with files["depth_points"].open("wb") as file:
            np.savez(file, world_points=solved.points)
    return files


def tracked_scene_matrix(scene, clip):
    """Return where the shot's Empty must stand so that the shot lies where the artist oriented the solve; or None.

    An artist sets floor, origin and scale on the scene's camera that has a Camera Solver constraint for the clip.
    """
    for item in scene.objects:
        for constraint in item.constraints:
            if constraint.type != "CAMERA_SOLVER" or constraint.mute:
                continue
            if clip == (scene.active_clip if constraint.use_active_clip else constraint.clip):
                first = min(_camera_object(clip).reconstruction.cameras, key=lambda camera: camera.frame).matrix
                return (
                    _without_constraints(item) @ Matrix(first) @ Matrix(camera_to_shot(np.eye(4)).tolist()).inverted()
                )
    return None


def _without_constraints(item):
    """The pose of an object before its constraints move it."""
    bpy.context.view_layer.update()
    if item.parent is None:
        return item.matrix_basis.copy()
    return item.parent.matrix_world @ item.matrix_parent_inverse @ item.matrix_basis
