# SPDX-License-Identifier: Apache-2.0
"""Drawing a DW-Mesh from a new camera: one small interface, and the rules that every backend follows.

A pixel shows the nearest surface at its centre. Triangles that cross the near plane are clipped.

exact: the plate's colour comes from the texture, bilinear. A pixel is in the mask when its face shows the plate and
turns the side to the camera that the source camera saw. A face that only hides is drawn as far away as it reaches
within SLACK_PX of the sample and a plate face reaches SLACK_PX past its edges, so that rounding never decides between
the two where they meet.
A torn face (it only hides, but all its corners are the plate's: neither skirt nor closing quad) that turns its front
shows its corners' pixels as what they are: squares before the source camera. The sample's ray is followed to a corner's
depth; when it comes out inside that corner's own pixel of the source picture (rows j to j + 1, columns i to i + 1), the
output is that pixel's colour, unfiltered, and the depth there. Of several the nearest counts. So no crack opens along a
depth edge while a camera turns or zooms, silhouettes keep their half pixel, and what a tear uncovers stays unseen.
A lone corner, around which no face shows the plate, counts only where the ray comes out inside its pixel at the
depths of all three corners, that is without parallax: noise in the depth must not sparkle in what a tear uncovers.
reference: the release's RGBA per vertex, interpolated; nothing beyond FAR_DEPTH. What covers what is decided with the
vertices on the sub-pixel grid of the release's rasteriser, of what is left of a face where the picture ends
(frustum.py), and edges are antialiased as it does (antialias.py); in the mask where alpha is then above 125 of 255;
colour truncated.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ex4d.camera import MAX_SIDE_PX, Array, CameraPath, Convention, check_intrinsics, check_world_to_camera
from ex4d.errors import CameraError, InputError, MachineError, ShapeError
from ex4d.mesh import DWMesh
from ex4d.progress import ProgressCallback

NEAR_DEPTH = 1e-3  # EX-4D release, recon.py
FAR_DEPTH = 1e3  # EX-4D release, recon.py; reference convention only
ALPHA_THRESHOLD = 125 / 255  # EX-4D release, recon.py; reference convention only
SLACK_PX = 1 / 256  # the sub-pixel step of common graphics hardware

# What nvdiffrast, with which the release draws, decides by; reference convention only.
SUBPIXELS = 16  # steps per pixel of the grid on which it is decided what covers what
# Half of the smallest edge function above 0 between vertices on that grid. Where a sample lies on an edge, one of two
# faces has it: with the face to its right, an edge that runs down, or level to the left, leaves its samples out.
HALF_STEP = 0.5 / SUBPIXELS**2
EDGE_REACH_PX = 1 / 16  # how far past two pixels' centres an edge may pass that blends them
CLIP_SCALE = (FAR_DEPTH + NEAR_DEPTH) / (FAR_DEPTH - NEAR_DEPTH)  # its depth is scale - shift / z
CLIP_SHIFT = 2 * FAR_DEPTH * NEAR_DEPTH / (FAR_DEPTH - NEAR_DEPTH)


@dataclass(frozen=True)
class Render:
    """One frame as a camera sees it."""

    color: Array  # uint8 [h, w, 3], black where the mask is False
    mask: Array  # bool [h, w], True where the plate shows
    depth: Array  # float32 [h, w], z-depth of whatever is nearest, occluders too; inf where nothing is


@runtime_checkable
class Rasteriser(Protocol):
    """A backend. It may keep buffers between frames; two threads may share it."""

    name: str
    licence: str
    commercial_use: bool  # whether that licence allows paid work

    def render(
        self, mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
    ) -> Render:
        """Draw the mesh with the plate on it.

        Args:
            mesh: the mesh of one frame; its source camera's frame is the world.
            texture: the plate's frame. uint8 [H, W, 3]
            world_to_camera: OpenCV, rigid. [4, 4]
            intrinsics: of the new camera, pixels. [3, 3]
            width, height: size of the picture to draw.
        """
        ...


@runtime_checkable
class ClipRasteriser(Protocol):
    """A backend that also builds the meshes and draws a whole path at once, on its own device."""

    name: str

    def render_clip(
        self,
        frames: Array,
        depth: Array,
        intrinsics: Array,
        convention: Convention,
        cameras: CameraPath,
        far: float,
        sky: Array | None = None,
        progress: ProgressCallback | None = None,
    ) -> Render:
        """What `Rasteriser.render` draws, with the path's frames as first axis.

        Args:
            frames: the plate. uint8 [T, H, W, 3]
            depth: z-depth of the plate, shot units, finite and > 0. float [T, H, W]
            intrinsics: the plate camera's, pixels. [3, 3]
            cameras: the take's; `source_frame` is rounded to the nearest frame of the plate.
            far, sky: see `watertight_mesh`; sky bool [T, H, W]
        """
        ...


RASTERISERS = ("native", "nvdiffrast", "cpu", "reference")


def rasteriser(name: str = "auto") -> Rasteriser:
    """Pick a backend by name; auto is the fastest that this machine has and any work may use.

    Raises:
        MachineError: the machine lacks what the backend needs; the message tells what to install.
    """
    if name == "auto":
        try:
            return rasteriser("native")
        except MachineError:
            return rasteriser("cpu")
    if name == "native":
        from ex4d.raster.native import NativeRasteriser

        return NativeRasteriser()
    if name == "nvdiffrast":
        from ex4d.raster.nvdiffrast import NvdiffrastRasteriser

        return NvdiffrastRasteriser()
    if name == "cpu":
        from ex4d.raster.cpu import CpuRasteriser

        return CpuRasteriser()
    if name == "reference":
        from ex4d.raster.reference import ReferenceRasteriser

        return ReferenceRasteriser()
    known = f"{', '.join(RASTERISERS[:-1])} or {RASTERISERS[-1]}"
    raise InputError(f"There is no rasteriser {name!r}. Choose auto, {known}.")


def source_pixels(mesh: DWMesh, world_to_camera: Array, intrinsics: Array) -> Array:
    """The way back into the source picture: (u d, v d, d) = result @ (x z, y z, z, 1). float64 [3, 4]

    x, y: the new camera's pixels, z its depth; u, v: the source picture's pixels, d the depth there.
    """
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    turned = mesh.intrinsics @ rotation.T
    return np.column_stack([turned @ np.linalg.inv(intrinsics), -turned @ translation]).astype(np.float64)


def check_render_input(
    mesh: DWMesh, texture: Array, world_to_camera: Array, intrinsics: Array, width: int, height: int
) -> None:
    """Refuse what no backend can draw, naming the argument."""
    check_world_to_camera(world_to_camera)
    check_intrinsics(intrinsics)
    padding = 4 if mesh.convention == "exact" else 0
    plate = [side - padding for side in mesh.depth.shape]
    if texture.dtype != np.uint8 or list(texture.shape) != [*plate, 3]:
        raise ShapeError(
            f"texture must be uint8 {[*plate, 3]} like the mesh, got {texture.dtype} {list(texture.shape)}."
        )
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE_PX:
            raise CameraError(f"{name} must be from 1 to {MAX_SIDE_PX} pixels, got {side}.")
