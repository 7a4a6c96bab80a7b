# SPDX-License-Identifier: Apache-2.0
"""Does a generated frame show the camera that was asked for? Find it again on the mesh that it was made from.

Features of the mesh, drawn from the asked camera, have a place in space. Where the generated frame shows them tells
where its camera stands. The mesh is that of the same moment, so that what moves in the scene does not matter.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ex4d.camera import Array, CameraPath
from ex4d.conditioning import Conditioning
from ex4d.errors import ShapeError
from ex4d.progress import ProgressCallback, track

MOST_FEATURES = 3000
CONTRAST = 0.02  # of SIFT: half of its default, for soft generated pictures
SECOND_BEST = 0.8  # Lowe 2004, "Distinctive image features": a match counts when it is this much nearer than the next
EDGE_PX = 4  # features nearer to an edge of what shows belong to the edge, which the painting continues
FLAT = 0.03  # a point whose neighbours' depths differ by more than this share lies on a silhouette
INLIER_PX = 2.0
FEWEST_INLIERS = 12  # a camera has 6 unknowns, a match tells 2: four times what is needed
RANSAC_TRIES, RANSAC_CONFIDENCE = 2000, 0.9999


@dataclass(frozen=True)
class CameraError:
    """How far a frame's camera is from the one asked for."""

    rotation_deg: float
    translation: float  # distance of the two cameras, as a share of the median depth that shows
    shift_px: float  # how far what shows stands from where it was asked for, median
    inliers: int  # matches that agree


def camera_errors(
    result: Array, drawn: Conditioning, cameras: CameraPath, progress: ProgressCallback | None = None
) -> list[CameraError | None]:
    """Find every generated frame's camera again; None where too little of the mesh is recognised.

    Args:
        result: the generated frames. uint8 [N, h, w, 3]
        drawn: the mesh from the asked cameras.
        cameras: those.
    """
    if result.shape != drawn.color.shape or len(result) != len(cameras):
        raise ShapeError(f"The result must be {list(drawn.color.shape)} like the mesh, got {list(result.shape)}.")
    return [
        camera_error(result[n], drawn.color[n], drawn.depth[n], drawn.mask[n], cameras.intrinsics[n])
        for n in track(range(len(result)), "Finding the camera again", progress)
    ]


def camera_error(picture: Array, color: Array, depth: Array, mask: Array, intrinsics: Array) -> CameraError | None:
    """Find one frame's camera again.

    Args:
        picture: the generated frame. uint8 [h, w, 3]
        color, depth, mask: the mesh from the asked camera. uint8 [h, w, 3], float [h, w], bool [h, w]
        intrinsics: of that camera, pixels. [3, 3]
    """
    points, asked, pixels = _matches(picture, color, depth, mask, intrinsics)
    if len(points) < FEWEST_INLIERS:
        return None
    scene_depth = float(np.median(depth[mask]))
    cv2.setRNGSeed(0)  # the same figures every time
    points = points / scene_depth
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        intrinsics,
        None,
        iterationsCount=RANSAC_TRIES,
        reprojectionError=INLIER_PX,
        confidence=RANSAC_CONFIDENCE,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not found or inliers is None or len(inliers) < FEWEST_INLIERS:
        return None
    agreed = inliers[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[agreed], pixels[agreed], intrinsics, None, turn, shift)
    # The points are in the asked camera's frame: what is found is the way from there.
    if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    moved_px = float(np.median(np.linalg.norm(pixels[agreed] - asked[agreed], axis=-1)))
    return CameraError(float(np.degrees(np.linalg.norm(turn))), float(np.linalg.norm(shift)), moved_px, len(agreed))


def _matches(picture: Array, color: Array, depth: Array, mask: Array, intrinsics: Array) -> tuple[Array, Array, Array]:
    """Features that mesh and picture share.

    Returns:
        their places on the mesh, in the asked camera's frame [P, 3]; where that camera shows them, pixels [P, 2]; and
        where the picture does [P, 2].
    """
    nothing = np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 2))
    detector = cv2.SIFT.create(nfeatures=MOST_FEATURES, contrastThreshold=CONTRAST)
    steady = _steady(depth, mask)
    known, describes_known = detector.detectAndCompute(_grey(color), steady.astype(np.uint8))
    shown, describes_shown = detector.detectAndCompute(_grey(picture), None)
    if len(known) < 2 or len(shown) < 2:
        return nothing
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(describes_known, describes_shown, k=2)
    good = [one for one, other in pairs if one.distance < SECOND_BEST * other.distance]
    if not good:
        return nothing
    # OpenCV counts from the centre of the first pixel, cameras from the picture's edge.
    at_mesh = np.array([known[match.queryIdx].pt for match in good]) + 0.5
    at_picture = np.array([shown[match.trainIdx].pt for match in good]) + 0.5
    column, row = np.floor(at_mesh.T).astype(np.intp)
    inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    at_mesh, at_picture, row, column = at_mesh[inside], at_picture[inside], row[inside], column[inside]
    kept = steady[row, column]
    at_mesh, at_picture, z = at_mesh[kept], at_picture[kept], depth[row[kept], column[kept]].astype(np.float64)
    rays = np.column_stack([at_mesh, np.ones(len(z))]) @ np.linalg.inv(intrinsics).T
    return z[:, None] * rays, at_mesh, at_picture


def _steady(depth: Array, mask: Array) -> Array:
    """Where a feature's depth is its surface's: inside of what shows and off silhouettes. bool [h, w]"""
    inside = cv2.erode(mask.astype(np.uint8), np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)) > 0
    finite = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    near, far = (change(finite, np.ones((3, 3), np.uint8)) for change in (cv2.erode, cv2.dilate))
    return np.asarray(inside & (near > 0) & (far - near <= FLAT * near))


def _grey(picture: Array) -> Array:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
