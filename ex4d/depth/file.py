# SPDX-License-Identifier: Apache-2.0
"""Depth from a file: what a renderer, a scanner or somebody else's model made. Exact, and checked before use."""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ex4d.depth.clip import DEPTH_KINDS, DepthClip, DepthKind, DisparityClip, SourceOptions, check_size, check_values
from ex4d.errors import DepthError, VideoError
from ex4d.progress import Progress, ProgressCallback, track
from ex4d.video import Clip
from ex4d.video_decode import decoded_frames, read_timeline

GREY16_MAX = 65535
# Without a side file a 16-bit value is the distance itself (millimetres, say), or a share of the largest disparity.
GREY16_SCALES: dict[DepthKind, float] = {"z": GREY16_MAX, "ray": GREY16_MAX, "disparity": 1.0, "inverse": 1.0}


@dataclass(frozen=True)
class StoredDepth:
    """Numbers as they are in a file."""

    values: NDArray[Any]  # [T, H, W]
    kind: DepthKind
    scale: float = 1.0  # the file's own: 16-bit values are value / 65535 * scale
    sky: NDArray[np.bool_] | None = None
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class FileDepth:
    """Reads .npz (`depth` or `inverse_depth`), .npy, and 16-bit grey video or stills (with a .json beside them).

    The side file of a 16-bit video or still `NAME.mkv` is `NAME.json`: {"kind": "inverse", "scale": S} says that the
    value v means inverse depth v / 65535 * S.
    """

    path: Path
    kind: DepthKind = "z"  # what the file holds, unless it says so itself
    focal_px: float | None = None  # only kind "ray" needs it

    name = "file"
    label = "Depth file"
    licence = "as the file's maker says"
    commercial_use = None
    cache_key = None

    @classmethod
    def made_of(cls, options: SourceOptions) -> "FileDepth":
        assert options.depth_file is not None
        return cls(options.depth_file, options.depth_kind, options.focal_px)

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip | DisparityClip:
        """Read the depth of every frame of the clip.

        Raises:
            DepthError: the file is missing or damaged, its size is not the plate's, or its values are no depth.
        """
        if not self.path.is_file():
            raise DepthError(f"There is no depth file '{self.path}'. Check the path.")
        stored = read_depth_file(self.path, self.kind, progress)
        check_size(stored.values.shape, clip.frames.shape, self.path.name)
        check_values(stored.values, self.path.name, positive=stored.kind != "disparity")
        if progress is not None:
            progress(Progress("Reading the depth", len(stored.values), len(stored.values)))
        origin: dict[str, Any] = {
            "source": f"file {self.path.name}",
            "licence": self.licence,
            "commercial_use": self.commercial_use,
            "focal_px": self.focal_px,
            "sky": stored.sky,
            "valid": stored.valid,
            "parameters": {"file": self.path.name, "kind": stored.kind, "scale": stored.scale},
        }
        if stored.kind == "disparity":
            return DisparityClip(disparity=stored.values.astype(np.float32), **origin)
        depth = z_depth(stored.values, stored.kind, self.focal_px, self.path.name)
        check_values(depth, self.path.name)  # 1/z of a tiny number is no depth either
        return DepthClip(depth=depth, kind="metric", **origin)


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


def read_depth_file(path: Path, kind: DepthKind, progress: ProgressCallback | None = None) -> StoredDepth:
    """Read the numbers of a depth file, whatever its format.

    Raises:
        DepthError: it cannot be read as depth.
    """
    if path.suffix.lower() in {".npz", ".npy"}:
        return _read_numpy(path, kind)
    return _read_grey16(path, kind, progress)


def _read_numpy(path: Path, kind: DepthKind) -> StoredDepth:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = dict(content) if isinstance(content, np.lib.npyio.NpzFile) else {"depth": content}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DepthError(
            f"'{path}' cannot be read as numpy arrays: {error}. Save it again with numpy.savez."
        ) from error
    keys = {"depth", "inverse_depth"} & arrays.keys()
    if len(keys) != 1:
        raise DepthError(
            f"'{path}' must hold one array named depth or inverse_depth, it holds {', '.join(arrays) or 'none'}."
        )
    (key,) = keys
    values = arrays[key]
    if not np.issubdtype(values.dtype, np.floating) and not np.issubdtype(values.dtype, np.integer):
        raise DepthError(f"'{path}' must hold numbers, {key} is {values.dtype}.")
    if values.ndim == 2:  # one still
        values = values[None]
    layers = {name: arrays[name] for name in ("sky", "valid") if name in arrays}
    for name, layer in layers.items():
        if layer.dtype != np.bool_ or layer.shape != values.shape:
            raise DepthError(
                f"'{path}': {name} must be bool {list(values.shape)}, got {layer.dtype} {list(layer.shape)}."
            )
    return StoredDepth(
        values, "inverse" if key == "inverse_depth" else kind, 1.0, layers.get("sky"), layers.get("valid")
    )


def _read_grey16(path: Path, kind: DepthKind, progress: ProgressCallback | None) -> StoredDepth:
    side_file = path.with_suffix(".json")
    kind, scale = _read_side_file(side_file) if side_file.is_file() else (kind, GREY16_SCALES[kind])
    try:
        timeline = read_timeline(path, progress)
        if timeline.damage is not None:
            raise DepthError(f"'{path}' is cut off ({timeline.damage}). Copy or export it again.")
        pictures = []
        stored = range(timeline.stored_count)
        for frame in track(decoded_frames(path, timeline, stored), "Reading the depth", progress, len(stored)):
            if frame.format.name not in {"gray16le", "gray16be"}:
                raise DepthError(
                    f"'{path}' holds {frame.format.name} pictures; depth needs 16-bit grey ones (FFV1 gray16le, or a "
                    "16-bit grey PNG). 8 bits are too coarse: they would become steps."
                )
            pictures.append(cast(NDArray[np.uint16], frame.to_ndarray()).astype(np.uint16))
    except VideoError as error:
        raise DepthError(f"The depth file cannot be used. {error}") from error
    values = np.stack(pictures).astype(np.float32)
    values *= np.float32(scale / GREY16_MAX)
    return StoredDepth(values, kind, scale)


def _read_side_file(path: Path) -> tuple[DepthKind, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, scale = content["kind"], content["scale"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DepthError(f"'{path}' must hold a kind and a scale, it cannot be read: {error!r}.") from error
    if kind not in DEPTH_KINDS:
        raise DepthError(f"'{path}': kind must be one of {', '.join(DEPTH_KINDS)}, got {kind!r}.")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise DepthError(f"'{path}': scale must be a number above zero, got {scale!r}.")
    return kind, float(scale)
