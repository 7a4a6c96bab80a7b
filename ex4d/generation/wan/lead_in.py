# SPDX-License-Identifier: Apache-2.0
"""The way from the plate's own view to where a take's camera starts.

EX-4D's adapter paints on from a first frame that is whole: the plate as it was filmed. A take that starts elsewhere
gets a short camera move from there to its first pose, while time stands still; it is painted too and then cut off.
"""

import math

import cv2
import numpy as np

from ex4d.camera import Array, CameraPath
from ex4d.shot import Shot
from ex4d.source_camera import seen_from_the_plate

FASTEST_DEG = 90 / 49  # the release's fastest move turns 90 degrees in 49 frames
SHORTEST, LONGEST = 8, 32  # frames
SAME_VIEW_DEG = 0.05  # less than a pixel at the sizes that the model paints


def lead_in(shot: Shot, cameras: CameraPath) -> CameraPath | None:
    """Plan the move from the source view to a take's first pose.

    Args:
        shot: the plate with its reconstruction.
        cameras: the take's path, in the shot's world.

    Returns:
        A path in the first frame's source camera, for `render_conditioning`; the take's first pose would be its next.
        None when the take starts at the source view.
    """
    first = seen_from_the_plate(cameras, shot.source_camera_to_world)
    end, end_lens = first.world_to_camera[0], first.intrinsics[0]
    source = float(np.rint(cameras.source_frame[0]))
    height, width = shot.frames.shape[1:3]
    start_lens = widest_view(shot.intrinsics, width, height, cameras.width, cameras.height)
    distance = float(np.median(shot.depth[int(source)]))
    change = view_change_deg(end, start_lens, end_lens, distance, cameras.width)
    if change < SAME_VIEW_DEG:
        return None
    # A multiple of 4: the take then begins with a latent frame of its own.
    count = 4 * math.ceil(min(max(change / FASTEST_DEG, SHORTEST), LONGEST) / 4)
    shares = np.arange(count) / count
    turn, eye = cv2.Rodrigues(end[:3, :3])[0], -end[:3, :3].T @ end[:3, 3]
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, share in zip(poses, shares, strict=True):
        pose[:3, :3] = cv2.Rodrigues(turn * share)[0]
        pose[:3, 3] = -pose[:3, :3] @ (eye * share)
    return CameraPath(
        poses, _between(start_lens, end_lens, shares), cameras.width, cameras.height, np.full(count, source)
    )


def widest_view(intrinsics: Array, plate_width: int, plate_height: int, width: int, height: int) -> Array:
    """The lens that shows as much of the plate as fits, and nothing beside it, in a picture of another shape.

    Args:
        intrinsics: of the plate, pixels. [3, 3]
        plate_width, plate_height, width, height: of the plate and of the picture, pixels.
    """
    scale = max(width / plate_width, height / plate_height)
    crop_x, crop_y = (scale * plate_width - width) / 2, (scale * plate_height - height) / 2
    return np.array([[1, 0, -crop_x], [0, 1, -crop_y], [0, 0, 1]]) @ np.diag([scale, scale, 1.0]) @ intrinsics


def plate_view(frame: Array, width: int, height: int) -> Array:
    """What `widest_view` shows, from the plate itself: drawn at another size, its mesh would have cracks at tears.

    Args:
        frame: RGB of the plate. [H, W, 3]
        width, height: of the picture, pixels.

    Returns:
        uint8 [height, width, 3]
    """
    plate_height, plate_width = frame.shape[:2]
    scale = max(width / plate_width, height / plate_height)
    size = max(width, round(plate_width * scale)), max(height, round(plate_height * scale))
    if size != (plate_width, plate_height):
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return frame[top : top + height, left : left + width]


def view_change_deg(pose: Array, start_lens: Array, end_lens: Array, distance: float, width: int) -> float:
    """How different two views are, as an angle: the largest of turn, parallax and change of the field of view.

    Args:
        pose: of the second camera in the first one's frame. [4, 4]
        start_lens, end_lens: pixels. [3, 3]
        distance: of what they look at, shot units.
        width: of the picture, pixels.
    """
    turn = np.linalg.norm(cv2.Rodrigues(pose[:3, :3])[0])
    parallax = np.arctan2(np.linalg.norm(pose[:3, 3]), distance)
    edges = [np.arctan((np.array([0, width]) - lens[0, 2]) / lens[0, 0]) for lens in (start_lens, end_lens)]
    return float(np.degrees(max(turn, parallax, np.abs(edges[1] - edges[0]).max())))


def _between(start: Array, end: Array, shares: Array) -> Array:
    """Lenses from one to the other, the focal length by equal factors. [N, 3, 3]"""
    share = shares[:, None, None]
    lenses: Array = start * (1 - share) + end * share
    for axis in (0, 1):
        lenses[:, axis, axis] = start[axis, axis] ** (1 - shares) * end[axis, axis] ** shares
    return lenses
