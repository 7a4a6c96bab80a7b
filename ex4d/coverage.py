# SPDX-License-Identifier: Apache-2.0
"""What a camera path asks of the engine, before any GPU time is spent: how much to paint, seen from how far aside.

The verdict's limits are ours, from looking at takes of the sample: a frame of which a tenth is missing has gaps beside
silhouettes and at an edge, which their surroundings close; beyond two fifths an engine invents more than it continues;
from 30 degrees aside, surfaces that the plate saw at 66 degrees are stretched to twice their pixels.
"""

from dataclasses import dataclass

import numpy as np

from ex4d.camera import Array, CameraPath
from ex4d.errors import ShapeError

GOOD_WORST = 0.10  # share unseen in the worst frame
PAINTED_MEAN = 0.40  # share unseen over all frames
LOST_WORST = 0.95
WIDE_PARALLAX_DEG = 30.0  # mean of a frame
STRIDE_PX = 4  # parallax varies slowly: every fourth pixel of every fourth row tells


@dataclass(frozen=True)
class Coverage:
    """How much of the picture the plate does not show, and how far aside of the source camera it is seen from."""

    unseen: tuple[float, ...]  # of each frame: 0 nothing is missing, 1 everything
    parallax_deg: tuple[float, ...]  # of each frame: between the old and the new line of sight, mean of what shows

    @property
    def mean(self) -> float:
        """Share unseen over all frames."""
        return float(np.mean(self.unseen))

    @property
    def worst(self) -> float:
        """Share unseen in the frame that misses most."""
        return max(self.unseen)

    @property
    def worst_frame(self) -> int:
        """That frame, 0-based."""
        return self.unseen.index(self.worst)

    @property
    def mean_parallax_deg(self) -> float:
        """Over all frames."""
        return float(np.mean(self.parallax_deg))

    @property
    def verdict(self) -> str:
        """What an artist should know before paying for the take, as sentences."""
        share = f"{self.mean:.0%} of the picture, {self.worst:.0%} at worst"
        if self.worst >= LOST_WORST:
            text = f"Loses the plate: {share} is to paint. Shorten the move, or nothing ties the painting to the plate."
        elif self.mean > PAINTED_MEAN:
            text = f"Mostly painted: {share}. Stay nearer to the source view, or expect inventions."
        elif self.worst > GOOD_WORST:
            text = f"Needs painting of {share}."
        else:
            text = f"Good: {share} is to paint."
        widest = max(self.parallax_deg)
        if widest > WIDE_PARALLAX_DEG:
            text += f" Surfaces are seen from up to {widest:.0f} degrees aside and will look stretched."
        return text


def coverage(mask: Array, depth: Array, cameras: CameraPath) -> Coverage:
    """Measure the conditioning of a take.

    Args:
        mask: True where the plate shows. bool [N, h, w]
        depth: z-depth of what shows, shot units. float [N, h, w]
        cameras: the take's path; the source camera stands in the world's origin.
    """
    expected = (len(cameras), cameras.height, cameras.width)
    if mask.shape != expected or depth.shape != expected:
        found = f"mask {list(mask.shape)} and depth {list(depth.shape)}"
        raise ShapeError(f"mask and depth must be {list(expected)} like the camera path, got {found}.")
    unseen = 1 - mask.mean(axis=(1, 2), dtype=np.float64)
    parallax = [_parallax_deg(mask[n], depth[n], cameras, n) for n in range(len(cameras))]
    return Coverage(tuple(float(share) for share in unseen), tuple(parallax))


def _parallax_deg(mask: Array, depth: Array, cameras: CameraPath, frame: int) -> float:
    """Mean angle, at what shows, between the directions to the source camera and to this one; 0 if nothing shows."""
    rows, columns = np.nonzero(mask[::STRIDE_PX, ::STRIDE_PX])
    if not rows.size:
        return 0.0
    rows, columns = rows * STRIDE_PX, columns * STRIDE_PX
    z = depth[rows, columns].astype(np.float64)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=-1)
    to_points = z[:, None] * (pixels @ np.linalg.inv(cameras.intrinsics[frame]).T)  # from the new camera, in its axes
    pose = cameras.world_to_camera[frame]
    from_source = to_points - pose[:3, 3]  # from the source camera, in the new one's axes
    across = np.linalg.norm(np.cross(to_points, from_source), axis=-1)
    return float(np.degrees(np.arctan2(across, (to_points * from_source).sum(axis=-1))).mean())
