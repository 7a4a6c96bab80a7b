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

# Which numbers bend the picture, by the clip's distortion model.
BENDING = {
    "POLYNOMIAL": ("k1", "k2", "k3"),
    "DIVISION": ("division_k1", "division_k2"),
    "NUKE": ("nuke_k1", "nuke_k2"),
    "BROWN": ("brown_k1", "brown_k2", "brown_k3", "brown_k4", "brown_p1", "brown_p2"),
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
    found, lens = _camera_object(clip), clip.tracking.camera
    if clip.frame_offset:
        raise SolveError(f"Set the Frame Offset of the clip '{clip.name}' to 0 and solve it again.")
    if abs(lens.pixel_aspect - 1) > 1e-4:
        raise SolveError(
            f"The pixels of '{clip.name}' are not square (aspect {lens.pixel_aspect:g}). Use a desqueezed plate, with "
            "Pixel Aspect 1 in the clip's lens settings."
        )
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
    width, height = clip.size
    cameras = SampledPath(
        world_to_camera,
        np.tile(intrinsics_of(lens, width, height), (len(frames), 1, 1)),
        width,
        height,
        np.arange(len(frames), dtype=np.float64),
    )
    return Solve(cameras, points)


def intrinsics_of(lens, width: int, height: int) -> np.ndarray:
    """Return the pinhole matrix of a clip's solved lens, pixels from the picture's top left edge. [3, 3]"""
    center_x, center_y = lens.principal_point_pixels  # from the bottom left
    focal_px = lens.focal_length_pixels
    return np.array([[focal_px, 0, center_x], [0, focal_px, height - center_y], [0, 0, 1]], dtype=np.float64)


def notices(clip) -> list[str]:
    """Return what the artist should know about a solve before trusting it, as sentences."""
    error_px = _camera_object(clip).reconstruction.average_error
    said = []
    if error_px > ROUGH_PX:
        said.append(
            f"The solve misses its tracks by {error_px:.1f} pixels on average: distances from it are rough. Take out "
            "the worst tracks and solve again."
        )
    return said + distortion_notice(clip)


def distortion_notice(clip) -> list[str]:
    """Return a sentence about the lens distortion that a solve corrects; nothing where there is none."""
    lens = clip.tracking.camera
    if not any(getattr(lens, name, 0) for name in BENDING.get(lens.distortion_model, ())):
        return []
    how_far = ""
    if lens.distortion_model == "POLYNOMIAL":
        how_far = f" (by {_polynomial_px(lens, *clip.size):.1f} pixels in the corners)"
    said = (
        f"The solve corrects the lens's distortion{how_far}, the plate shows it: towards the edges, still things may "
        "slide by that much. For an exact fit render the clip undistorted (compositor, Movie Distortion), solve that "
        "and take it as plate."
    )
    return [said]


def _polynomial_px(lens, width, height):
    """How far the distortion moves the picture's corner."""
    center_x, center_y = lens.principal_point_pixels
    corner = np.hypot(max(center_x, width - center_x), max(center_y, height - center_y))
    square = (corner / lens.focal_length_pixels) ** 2
    return abs(corner * square * (lens.k1 + square * (lens.k2 + square * lens.k3)))


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
