# SPDX-License-Identifier: Apache-2.0
"""A fill without any model: what other frames saw, then a guessed backdrop, then classical inpainting.

Good enough to judge a camera move and its holes in seconds; it invents no new things.
"""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.generation.background import Layer, backdrop, clean_plate, moments_of, stands_still
from ex4d.generation.engine import Painted, check_conditioning
from ex4d.generation.inpaint import inpaint
from ex4d.generation.options import GenerateOptions
from ex4d.mesh import DWMesh, watertight_mesh
from ex4d.progress import ProgressCallback, track
from ex4d.raster import Render, rasteriser
from ex4d.shot import Shot
from ex4d.source_camera import seen_from_the_plate

BEHIND = 0.97  # a borrowed surface lies behind what hides it: at least this share of the occluder's depth
LIKENESS_SHARE = 1 / 16  # colours are compared around a hole within this share of the picture's longer side
SLIVER_SHARE = 1 / 64  # of that side too: what is thinner is left to inpainting, for small islands sparkle
SAME_DEPTH = 0.03  # only surfaces as near to each other as this share of their depth are compared
LIKENESS = 32.0  # mean difference in grey levels above which a frame no longer shows the same place

NOTICE = (
    "The unseen parts are a preview fill: borrowed from other frames, mirrored or smeared from around the hole. "
    "No generative model was used."
)

Surface = tuple[DWMesh, NDArray[np.uint8]]  # and the picture on it


class PreviewFill:
    """Fills holes from the shot's background, then by push-pull inpainting, with the plate's own grain on top."""

    name = "preview"
    label = "preview fill: no generative model"
    licence = "Apache-2.0"
    commercial_use: bool | None = True

    def need(self, options: GenerateOptions) -> None:
        """Nothing that is not here already."""

    def generate(
        self,
        shot: Shot,
        cameras: CameraPath,
        conditioning: Conditioning,
        options: GenerateOptions,
        progress: ProgressCallback | None = None,
    ) -> Painted:
        """See `Engine.generate`. Pixels that the plate shows pass through untouched; of the options the seed counts."""
        check_conditioning(cameras, conditioning)
        count, height, width = conditioning.mask.shape
        color, known, depth = conditioning.color.copy(), conditioning.mask.copy(), conditioning.depth.copy()
        cameras = seen_from_the_plate(cameras, shot.source_camera_to_world)
        background = _Background(shot)
        for n in track(range(count), "Looking behind things", progress):
            background.fill(cameras, n, color[n], known[n], depth[n])
        red, green, blue = (float(level) for level in shot.frames.mean(axis=(0, 1, 2)))
        filled = inpaint(color, known, depth, (red, green, blue), progress)
        strength = grain_strength(shot.frames)
        random = np.random.default_rng(options.seed)
        for n in range(count):
            grain = random.normal(0, strength, (height, width, 1)).astype(np.float32)
            painted = ~conditioning.mask[n]
            filled[n][painted] = np.clip(np.rint(filled[n] + grain), 0, 255).astype(np.uint8)[painted]
        return Painted(filled, (NOTICE,))


def grain_strength(frames: NDArray[np.uint8]) -> float:
    """Standard deviation of the plate's grain in grey levels, from the finest detail of its calm parts.

    Args:
        frames: RGB. [T, H, W, 3]
    """
    green = frames[len(frames) // 2, ..., 1].astype(np.float32)
    detail = np.abs(cv2.Laplacian(green, cv2.CV_32F, ksize=1))
    # The 4-neighbour Laplacian of white noise has sqrt(20) times its deviation; a calm part is the lower third.
    return min(4.0, float(np.percentile(detail, 33)) / (0.43 * 20**0.5))  # 0.43: that percentile of |normal|


class _Background:
    """Copies into a frame's holes what lies behind: seen at another time, or guessed."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.backend = rasteriser("auto")
        moments = moments_of(len(shot.frames))
        self.still = shot.source_camera_to_world is None and stands_still(shot.frames[moments])
        self.plate: Surface | None = None
        self.backdrop: Surface | None = None
        self.source: int | None = None  # of the surfaces, when the plate's camera moves
        if self.still:
            plate = clean_plate(shot.frames[moments], shot.depth[moments], shot.intrinsics)
            self.plate, self.backdrop = _surface(plate), _seamless(_surface(backdrop(plate)))

    def fill(
        self,
        cameras: CameraPath,
        n: int,
        color: NDArray[np.uint8],
        known: NDArray[np.bool_],
        depth: NDArray[np.float32],
    ) -> None:
        """Fill holes of output frame n in place: color [h, w, 3], known [h, w], depth [h, w]."""
        source = round(float(cameras.source_frame[n]))
        if not self.still and source != self.source:
            frame = Layer(self.shot.frames[source], self.shot.depth[source], self.shot.intrinsics)
            self.backdrop, self.source = _seamless(_surface(backdrop(frame))), source
        occluder = np.where(np.isfinite(depth) & ~known, depth, 0)
        for surface in (self.plate, self.backdrop):
            if surface is None or known.all() or not known.any():
                continue
            mesh, texture = surface
            pose, intrinsics = cameras.world_to_camera[n], cameras.intrinsics[n]
            view = self.backend.render(mesh, texture, pose, intrinsics, cameras.width, cameras.height)
            # The outermost pixels of a surface mix its colour with what lies behind it.
            inner = cv2.erode(view.mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
            fits = ~known & inner
            fits[fits] = (view.depth[fits] > BEHIND * occluder[fits]) | self._beyond_the_plate(
                cameras, n, view.depth, fits
            )
            if surface is self.plate:  # it was seen at other times: is it still there?
                fits &= _difference(color, known, depth, view) < LIKENESS
            fits &= _without_slivers(fits | known)
            color[fits], depth[fits], known[fits] = view.color[fits], view.depth[fits], True

    def _beyond_the_plate(
        self, cameras: CameraPath, n: int, depth: NDArray[np.float32], where: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which of the chosen pixels show a place outside of the plate's picture, so that nothing there was ever seen.

        Args:
            depth: of output frame n. [h, w]
            where: the chosen pixels. [h, w]

        Returns:
            One answer per chosen pixel.
        """
        rows, columns = np.nonzero(where)
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        seen = np.linalg.inv(cameras.intrinsics[n]) @ pixels * depth[where]
        pose = cameras.world_to_camera[n]
        x, y, z = self.shot.intrinsics @ (pose[:3, :3].T @ (seen - pose[:3, 3:]))
        height, width = self.shot.depth.shape[1:]
        outside = (x < 0) | (y < 0) | (x > width * z) | (y > height * z) | (z <= 0)
        return np.asarray(outside, np.bool_)


def _surface(layer: Layer) -> Surface:
    return watertight_mesh(layer.depth, layer.intrinsics, "exact"), layer.color


def _seamless(surface: Surface) -> Surface:
    """Show all faces within the picture, also those at steps of depth: a guess may stretch but should not tear."""
    mesh, texture = surface
    inside = np.pad(np.ones_like(mesh.visible[1:-1, 1:-1]), ((1, 1), (1, 1), (0, 0)))
    return dataclasses.replace(mesh, visible=inside, vertex_alpha=np.ones_like(mesh.vertex_alpha)), texture


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
    both[both] = np.abs(view.depth[both] - depth[both]) < SAME_DEPTH * depth[both]
    error = np.abs(color.astype(np.float32) - view.color).mean(axis=2)
    side = max(3, int(max(known.shape) * LIKENESS_SHARE)) | 1
    share = cv2.blur(both.astype(np.float32), (side, side))
    total = cv2.blur(np.where(both, error, 0).astype(np.float32), (side, side))
    # Far from anything comparable, doubt: the picture's mean counts like a hundredth of a full window.
    overall = float(error[both].mean()) if both.any() else 255.0
    return np.asarray((total + 0.01 * overall) / (share + 0.01), np.float32)
