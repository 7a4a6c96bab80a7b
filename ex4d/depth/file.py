# SPDX-License-Identifier: Apache-2.0
"""Depth from a file: what a renderer, a scanner or somebody else's model made. Exact, and checked before use.

Also the way back of a corrected depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ex4d.depth.clip import DepthClip, DepthKind, DisparityClip, SourceOptions, check_size, check_values
from ex4d.depth.file_formats import StoredDepth, read_depth_file
from ex4d.depth.known import number, switch
from ex4d.depth.resizing import resized_clip
from ex4d.errors import DepthError
from ex4d.progress import Progress, ProgressCallback
from ex4d.video import Clip

FILE_OPTIONS = ("scale", "shift", "invert", "near", "far", "layer", "start", "resize")
"""scale=S, shift=B: number * S + B. invert=yes: full scale minus number. near=Z, far=Z: what the ends of the full scale
mean. layer=NAME: of an EXR. start=N: number of the sequence's file that shows the plate's first frame. resize=yes:
another size is brought to the plate's."""

NO_SURFACE = 1e9  # Blender writes 1e10 where a ray meets nothing; nobody films that far
CARD = 4.0  # the sky stands at this many times the farthest surface


@dataclass(frozen=True)
class FileDepth:
    """Reads EXR and 16-bit PNG (single or numbered), .npz, .npy, and 16-bit grey video."""

    path: Path  # a file, one frame of a numbered sequence, or a pattern such as depth.####.exr
    kind: DepthKind = "z"  # what the file holds, unless it says so itself
    focal_px: float | None = None  # only kind "ray" needs it
    values: Mapping[str, str] = field(default_factory=dict)  # of FILE_OPTIONS

    name = "file"
    label = "Depth file"
    maker = "file"  # named in the shot, before the file
    licence = "as the file's maker says"
    commercial_use = None
    cache_key = None

    @classmethod
    def made_of(cls, options: SourceOptions) -> "FileDepth":
        assert options.depth_file is not None
        return cls(options.depth_file, options.depth_kind, options.focal_px, options.values)

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip | DisparityClip:
        """Read the depth of every frame of the clip.

        Raises:
            DepthError: the file is missing or damaged, its size is not the plate's, or its values are no depth.
        """
        start = number(self.values, "start", None)
        stored = read_depth_file(
            self.path,
            self.kind,
            clip.first_frame,
            len(clip.frames),
            self.values.get("layer"),
            None if start is None else int(start),
            progress,
            clip.first_number,
        )
        resize = switch(self.values, "resize") and stored.values.ndim == 3
        size = stored.values.shape[1:] if resize else clip.frames.shape[1:3]
        check_size(stored.values.shape, (len(clip.frames), *size), self.path.name)
        values, sky = without_sky(self._adjusted(stored), stored, self.path.name)
        check_values(values, self.path.name, positive=stored.kind != "disparity")
        if progress is not None:
            progress(Progress("Reading the depth", len(values), len(values)))
        notices = stored.notices
        if sky is not None and stored.sky is None:
            notices += (f"{sky.mean():.1%} of the depth shows no surface. It stands behind everything else, as sky.",)
        origin: dict[str, Any] = {
            "source": f"{self.maker} {self.path.name}",
            "licence": self.licence,
            "commercial_use": self.commercial_use,
            "focal_px": self.focal_px,
            "sky": sky,
            "valid": stored.valid,
            "parameters": {"file": self.path.name, "kind": stored.kind, "full": stored.full, **self.values},
            "notices": notices,
        }
        height, width = clip.frames.shape[1:3]
        found: DepthClip | DisparityClip
        if stored.kind == "disparity":
            found = DisparityClip(disparity=values.astype(np.float32), **origin)
        else:
            focal_px = None if self.focal_px is None else self.focal_px * values.shape[2] / width
            depth = z_depth(values, stored.kind, focal_px, self.path.name)
            check_values(depth, self.path.name)  # 1/z of a tiny number is no depth either
            found = DepthClip(depth=depth, kind="metric", **origin)
        return found if values.shape[1:] == (height, width) else resized_clip(found, width, height)

    def _adjusted(self, stored: StoredDepth) -> NDArray[Any]:
        """The numbers after invert, near and far, scale and shift. [T, H, W]"""
        values = stored.values
        near, far = (number(self.values, key, None) for key in ("near", "far"))
        scale, shift = (number(self.values, key, None) for key in ("scale", "shift"))
        if switch(self.values, "invert"):
            values = stored.full - values
        if stored.kind == "disparity":  # near and far are then what is known about the plate
            near = far = None
        if near is not None or far is not None:
            values = self._between(values, stored, near, far)
            if scale is not None or shift is not None:
                raise DepthError("Give near and far, or scale and shift, not both: they say the same in two ways.")
        if scale is not None or shift is not None:
            values = values * (1.0 if scale is None else scale) + (0.0 if shift is None else shift)
        return values

    def _between(
        self, values: NDArray[Any], stored: StoredDepth, near: float | None, far: float | None
    ) -> NDArray[np.float64]:
        if near is None or far is None or not 0 < near < far:
            raise DepthError(f"A depth file needs 0 < near < far together, got near {near} and far {far}.")
        share = values / stored.full
        low, high = float(share.min()), float(share.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # NaN too
            raise DepthError(
                f"near and far say what 0 and 1 mean, but '{self.path.name}' holds {low:g} to {high:g}. "
                "Leave them out, or use scale and shift."
            )
        if stored.kind == "inverse":
            return np.asarray(1 / far + share * (1 / near - 1 / far), np.float64)
        return np.asarray(near + share * (far - near), np.float64)


def without_sky(values: NDArray[Any], stored: StoredDepth, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Bring what shows no surface to a card behind everything else.

    Args:
        values: of the file, adjusted. [T, H, W]
        stored: what the file said; its own sky layer is kept.
        name: of the file, for the message.

    Returns:
        the numbers; where there is no surface, or None. [T, H, W]
    """
    if stored.kind in {"disparity", "inverse"}:
        return values, stored.sky
    nothing = (stored.values >= NO_SURFACE) & np.isfinite(stored.values)
    if not nothing.any():
        return values, stored.sky
    surfaces = values[~nothing & np.isfinite(values)]
    if not surfaces.size:
        raise DepthError(f"'{name}' shows no surface at all: every pixel is farther than {NO_SURFACE:g}.")
    values = np.where(nothing, CARD * float(surfaces.max()), values)
    return values, nothing if stored.sky is None else stored.sky | nothing


def z_depth(values: NDArray[Any], kind: DepthKind, focal_px: float | None, name: str) -> NDArray[np.float32]:
    """Turn what a file holds into z-depth.

    Args:
        values: of that kind, checked. [T, H, W]
        kind: see `DEPTH_KINDS`, not disparity.
        focal_px: focal length in pixels, the principal point in the middle; needed by kind "ray".
        name: of the file, for the message.

    Returns:
        z-depth, shot units. float32 [T, H, W]
    """
    if kind == "inverse":
        return (1 / values.astype(np.float64)).astype(np.float32)
    if kind == "z":
        return values.astype(np.float32)
    if focal_px is None:
        raise DepthError(f"'{name}' holds distances along the ray: they need the lens. Give --focal-px or --lens.")
    height, width = values.shape[1:]
    x = (np.arange(width) + 0.5 - width / 2) / focal_px
    y = (np.arange(height) + 0.5 - height / 2) / focal_px
    ray_length = np.sqrt(1 + x**2 + y[:, None] ** 2)
    return np.asarray(values / ray_length, np.float32)
