# SPDX-License-Identifier: Apache-2.0
"""A fill without any model: borrowed from other frames of the shot where they saw more, inpainted elsewhere.

Good enough to judge a camera move and its holes in seconds; it invents no new things.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.errors import ShapeError
from ex4d.generation.inpaint import far_side_depth, inpaint
from ex4d.mesh import DWMesh, far_depth, watertight_mesh
from ex4d.progress import ProgressCallback, track
from ex4d.raster import Render, rasteriser
from ex4d.shot import Shot

KEYFRAMES = 7  # frames of the shot to borrow from, evenly spread
LOOKS = 4  # of these, how many each output frame looks through: from the nearest in time to the farthest
BEHIND = 0.97  # a borrowed surface lies behind what hides it: at least this share of the occluder's depth
NOT_IN_FRONT = 0.8  # and not before the background: at least this share of the depth at the hole's far side
LIKENESS_SHARE = 1 / 16  # colours are compared around a hole within this share of the picture's longer side
SLIVER_SHARE = 1 / 64  # of that side too: what is thinner is left to inpainting, for small islands sparkle
LIKENESS = 24.0  # mean difference in grey levels above which a frame no longer shows the same place

NOTICE = (
    "The unseen parts are a preview fill, borrowed from other frames or smeared from around the hole. "
    "No generative model was used."
)


class PreviewFill:
    """Fills holes from other frames, then by push-pull inpainting, with the plate's own grain on top."""

    name = "preview"
    label = "preview fill: no generative model"
    licence = "Apache-2.0"
    commercial_use = True
    notices: tuple[str, ...] = (NOTICE,)

    def generate(
        self,
        shot: Shot,
        cameras: CameraPath,
        conditioning: Conditioning,
        seed: int = 0,
        progress: ProgressCallback | None = None,
    ) -> NDArray[np.uint8]:
        """See `Engine.generate`. Pixels that the plate shows pass through untouched."""
        count, height, width = conditioning.mask.shape
        expected = (len(cameras), cameras.height, cameras.width)
        if conditioning.mask.shape != expected or conditioning.color.shape != (*expected, 3):
            raise ShapeError(
                f"The conditioning is {list(conditioning.mask.shape)}, its cameras ask for {list(expected)}. "
                "Render the take again."
            )
        color, known, depth = conditioning.color.copy(), conditioning.mask.copy(), conditioning.depth.copy()
        borrow = _Borrower(shot)
        for n in track(range(count), "Looking through other frames", progress):
            borrow(cameras, n, color[n], known[n], depth[n])
        background = tuple(float(level) for level in shot.frames.mean(axis=(0, 1, 2)))
        filled = inpaint(color, known, depth, (background[0], background[1], background[2]), progress)
        strength = grain_strength(shot.frames)
        random = np.random.default_rng(seed)
        for n in range(count):
            grain = random.normal(0, strength, (height, width, 1)).astype(np.float32)
            painted = ~known[n]
            filled[n][painted] = np.clip(np.rint(filled[n] + grain), 0, 255).astype(np.uint8)[painted]
        return filled


def grain_strength(frames: NDArray[np.uint8]) -> float:
    """Standard deviation of the plate's grain in grey levels, from the finest detail of its calm parts.

    Args:
        frames: RGB. [T, H, W, 3]
    """
    green = frames[len(frames) // 2, ..., 1].astype(np.float32)
    detail = np.abs(cv2.Laplacian(green, cv2.CV_32F, ksize=1))
    # The 4-neighbour Laplacian of white noise has sqrt(20) times its deviation; a calm part is the lower third.
    return min(4.0, float(np.percentile(detail, 33)) / (0.43 * 20**0.5))  # 0.43: that percentile of |normal|


class _Borrower:
    """Copies into a frame's holes what other frames of the shot saw there."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.keys = np.unique(np.rint(np.linspace(0, len(shot.frames) - 1, KEYFRAMES)).astype(int))
        self.far = far_depth(shot.depth[self.keys])
        self.meshes: dict[int, DWMesh] = {}
        self.backend = rasteriser("auto")

    def __call__(
        self,
        cameras: CameraPath,
        n: int,
        color: NDArray[np.uint8],
        known: NDArray[np.bool_],
        depth: NDArray[np.float32],
    ) -> None:
        """Fill holes of output frame n in place: color [h, w, 3], known [h, w], depth [h, w]."""
        if known.all() or not known.any():
            return
        source = round(float(cameras.source_frame[n]))
        background = far_side_depth(known, depth)
        occluder = np.where(np.isfinite(depth) & ~known, depth, 0)
        for key in self._looks(source):
            view = self._seen_from(key, cameras, n)
            fits = ~known & view.mask & (view.depth > BEHIND * occluder) & (view.depth > NOT_IN_FRONT * background)
            if not fits.any():
                continue
            fits &= _difference(color, known, depth, view) < LIKENESS
            fits &= _without_slivers(fits | known)
            color[fits], depth[fits], known[fits] = view.color[fits], view.depth[fits], True
            if known.all():
                return

    def _looks(self, source: int) -> list[int]:
        """Frames to look through: what moves slowly clears its background only in frames far away in time."""
        others = sorted((int(key) for key in self.keys if key != source), key=lambda key: abs(key - source))
        chosen = np.unique(np.rint(np.linspace(0, len(others) - 1, min(LOOKS, len(others)))).astype(int))
        return [others[i] for i in chosen]

    def _seen_from(self, key: int, cameras: CameraPath, n: int) -> Render:
        if key not in self.meshes:
            self.meshes[key] = watertight_mesh(
                self.shot.depth[key], self.shot.intrinsics, self.shot.convention, self.far
            )
        view = self.backend.render(
            self.meshes[key],
            self.shot.frames[key],
            cameras.world_to_camera[n],
            cameras.intrinsics[n],
            cameras.width,
            cameras.height,
        )
        # The outermost pixels of a surface mix its colour with what lies behind it.
        inner = cv2.erode(view.mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
        return Render(view.color, inner, view.depth)


def _without_slivers(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = int(max(area.shape) * SLIVER_SHARE) | 1
    opened = cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    return np.asarray(opened, np.bool_)


def _difference(
    color: NDArray[np.uint8], known: NDArray[np.bool_], depth: NDArray[np.float32], view: Render
) -> NDArray[np.float32]:
    """Mean colour difference around each pixel, where both frames show surfaces of one depth. [h, w]

    A plate whose camera moved, or a thing that has moved on, shows other colours at the same place.
    """
    both = known & view.mask
    both[both] = np.abs(view.depth[both] - depth[both]) < 0.1 * depth[both]
    error = np.abs(color.astype(np.float32) - view.color).mean(axis=2)
    side = max(3, int(max(known.shape) * LIKENESS_SHARE)) | 1
    share = cv2.blur(both.astype(np.float32), (side, side))
    total = cv2.blur(np.where(both, error, 0).astype(np.float32), (side, side))
    # Far from anything comparable, doubt: the picture's mean counts like a hundredth of a full window.
    overall = float(error[both].mean()) if both.any() else 255.0
    return np.asarray((total + 0.01 * overall) / (share + 0.01), np.float32)
