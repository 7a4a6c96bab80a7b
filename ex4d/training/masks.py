# SPDX-License-Identifier: Apache-2.0
"""Rendering masks: what a new camera cannot see, brought back to the source view.

The paper trains on ordinary videos: holes of the kind that a new view has are cut into the source's own frames, which
then are the ground truth (arXiv 2506.05554, abstract: "a simulated masking strategy that generates effective training
data only from monocular videos"). Its rendering masks come from the DW-Mesh; reviewers of its later version (EX-NVS,
OpenReview TAjEC2tHpa) describe them as visibility maps and liken them to TrajectoryCrafter's double reprojection. How
the paper computes and cleans them is not published in what we could read, so the test and its numbers are ours:

A source pixel is seen when its point on the mesh lies in the new camera's picture and no other part of the watertight
mesh, torn faces and skirt included, stands before it. So the volume behind a silhouette, of which the plate knows
nothing, hides what lies beyond it, and a surface seen from behind is not seen, exactly as when a take is rendered.
"""

import cv2
import numpy as np

from ex4d.camera import Array, CameraPath
from ex4d.compiled import compiled
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.mesh import far_depth, surface_depth
from ex4d.progress import ProgressCallback, track
from ex4d.raster import NEAR_DEPTH, Rasteriser

# A point is on the surface that was drawn when it lies at most this share behind it: the rasteriser's depths are
# float32 and real surfaces are not flat within a pixel. Half of what separates two surfaces for ex4d.evaluation.
SAME_SURFACE = 0.01


def rendering_masks(
    frames: Array,
    depth: Array,
    intrinsics: Array,
    cameras: CameraPath,
    backend: Rasteriser,
    sky: Array | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Array, Conditioning]:
    """Find what each camera of a path sees of its own source frame.

    Args:
        frames: the plate. uint8 [T, H, W, 3]
        depth: its z-depth, shot units. float32 [T, H, W]
        intrinsics: the plate camera's, pixels. [3, 3]
        cameras: one for each frame.
        backend: what draws the mesh, exact convention.
        sky: where the plate shows the sky. bool [T, H, W]

    Returns:
        True where the camera sees the source pixel, bool [T, H, W]; the new views themselves.
    """
    views = render_conditioning(frames, depth, intrinsics, "exact", cameras, backend, progress, sky)
    far = far_depth(depth, sky)
    seen = np.empty(depth.shape, np.bool_)
    for n in track(range(len(depth)), "Finding what the new camera sees", progress):
        surface = surface_depth(depth[n].astype(np.float32), intrinsics, far, None if sky is None else sky[n])
        shown = np.where(views.mask[n], views.depth[n], np.float32(0))
        # Source pixels and depth to the new camera's pixels and depth.
        turn = cameras.world_to_camera[n]
        to_view = cameras.intrinsics[n] @ np.column_stack([turn[:3, :3] @ np.linalg.inv(intrinsics), turn[:3, 3]])
        mark_seen(surface, np.ascontiguousarray(to_view), shown, seen[n])
    return seen, views


@compiled
def mark_seen(surface: Array, to_view: Array, shown: Array, seen: Array) -> None:
    """Mark the source pixels whose point a new view shows.

    A point between four pixel centres of the view is compared with the farthest of them that shows the plate: on any
    plane, at any angle, one of the four is at least as far, so that no surface hides itself.

    Args:
        surface: depth of each source pixel. float32 [H, W]
        to_view: (u z, v z, z) of the new view = to_view @ (x z', y z', z', 1) of source pixel (x, y) at z'. [3, 4]
        shown: depth of what the new view shows of the plate, 0 where it is a hole. float32 [h, w]
        seen: filled. bool [H, W]
    """
    rows, columns = shown.shape
    for j in range(surface.shape[0]):
        for i in range(surface.shape[1]):
            d = np.float64(surface[j, i])
            x, y = (i + 0.5) * d, (j + 0.5) * d
            z = to_view[2, 0] * x + to_view[2, 1] * y + to_view[2, 2] * d + to_view[2, 3]
            seen[j, i] = False
            if z < NEAR_DEPTH:
                continue
            u = (to_view[0, 0] * x + to_view[0, 1] * y + to_view[0, 2] * d + to_view[0, 3]) / z
            v = (to_view[1, 0] * x + to_view[1, 1] * y + to_view[1, 2] * d + to_view[1, 3]) / z
            if not (0.0 <= u <= columns and 0.0 <= v <= rows):
                continue
            column, row = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
            nearest_allowed = z * (1.0 - SAME_SURFACE)
            for dj in range(2):
                for di in range(2):
                    k, m = min(max(row + dj, 0), rows - 1), min(max(column + di, 0), columns - 1)
                    if shown[k, m] >= nearest_allowed:
                        seen[j, i] = True


def cleaned(seen: Array, size_px: int) -> Array:
    """Without holes and islands narrower than `size_px`: noise in the depth tears specks that no take shows.

    seen, result: bool [T, H, W]
    """
    if size_px < 2:
        return seen
    block = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size_px, size_px))
    result = np.empty_like(seen)
    for n, plane in enumerate(seen):
        # The picture's border goes on as it is, so that holes at the border neither grow nor shrink there.
        wide = cv2.copyMakeBorder(plane.view(np.uint8), size_px, size_px, size_px, size_px, cv2.BORDER_REPLICATE)
        cleaner = cv2.morphologyEx(cv2.morphologyEx(wide, cv2.MORPH_CLOSE, block), cv2.MORPH_OPEN, block)
        result[n] = cleaner[size_px:-size_px, size_px:-size_px] > 0
    return result
