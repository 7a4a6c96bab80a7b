# SPDX-License-Identifier: Apache-2.0
"""The numbers in a depth file, whatever its format: arrays, video, one picture, or a numbered sequence of pictures."""

import dataclasses
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ex4d.depth.clip import DEPTH_KINDS, DepthKind
from ex4d.depth.file_pictures import PICTURE_SUFFIXES, pictures_of_clip, read_picture
from ex4d.errors import DepthError, VideoError
from ex4d.progress import ProgressCallback, track
from ex4d.video_decode import decoded_frames, read_timeline

GREY16_MAX = 65535
# Without a side file a 16-bit value is the distance itself (millimetres, say), or a share of the largest disparity.
GREY16_SCALES: dict[DepthKind, float] = {"z": GREY16_MAX, "ray": GREY16_MAX, "disparity": 1.0, "inverse": 1.0}


@dataclass(frozen=True)
class StoredDepth:
    """Numbers as they are in a file."""

    values: NDArray[Any]  # [T, H, W]
    kind: DepthKind
    full: float = 1.0  # the number at the upper end of the scale: of 16 bits, or 1
    sky: NDArray[np.bool_] | None = None
    valid: NDArray[np.bool_] | None = None
    notices: tuple[str, ...] = ()


def read_depth_file(
    path: Path,
    kind: DepthKind,
    first_frame: int,
    count: int,
    layer: str | None = None,
    start: int | None = None,
    progress: ProgressCallback | None = None,
    first_number: int | None = None,
) -> StoredDepth:
    """Read the depth of a clip.

    Args:
        path: a file, one frame of a numbered sequence, or a pattern such as depth.####.exr.
        kind: what it holds, unless it says so itself.
        first_frame: of the clip in its plate, 0-based. A file with more frames than the clip is taken to cover the
            plate from its beginning.
        count: frames of the clip.
        layer: of an EXR; None finds the one that holds depth.
        start: number of the file in a sequence that shows the plate's first frame; None: the lowest one.
        progress: told after each picture.
        first_number: of the clip's first frame, when the plate is numbered pictures: those of a sequence with its
            numbers are taken.

    Raises:
        DepthError: it cannot be read as depth.
    """
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        found = pictures_of_clip(path, first_frame, count, start, first_number)
        return _read_pictures(*found, kind, first_frame, layer, progress)
    if layer is not None or start is not None:
        raise DepthError(f"layer and start are for EXR and numbered pictures, '{path.name}' is neither.")
    if not path.is_file():
        raise DepthError(f"There is no depth file '{path}'. Check the path.")
    stored = _read_numpy(path, kind) if suffix in {".npz", ".npy"} else _read_grey16(path, kind, progress)
    return _part(stored, path, first_frame, count)


def _part(stored: StoredDepth, path: Path, first_frame: int, count: int) -> StoredDepth:
    """The clip's frames of a file that covers the whole plate."""
    total = len(stored.values)
    if stored.values.ndim != 3 or total == count or total < first_frame + count:
        return stored  # fits, or is refused with its numbers
    used = slice(first_frame, first_frame + count)
    notice = f"'{path.name}' has {total} frames; those of the plate's frames {first_frame} to {used.stop - 1} are used."
    layers = {name: layer[used] for name in ("sky", "valid") if (layer := getattr(stored, name)) is not None}
    return dataclasses.replace(stored, values=stored.values[used], notices=(notice,), **layers)


def _read_pictures(
    files: list[Path],
    side_file: Path,
    kind: DepthKind,
    first_frame: int,
    layer: str | None,
    progress: ProgressCallback | None,
) -> StoredDepth:
    kind, scale = _read_side_file(side_file) if side_file.is_file() else (kind, GREY16_SCALES[kind])
    planes: list[NDArray[Any]] = []
    for file in track(files, "Reading the depth", progress, len(files)):
        plane = read_picture(file, layer)
        if planes and (plane.shape != planes[0].shape or plane.dtype != planes[0].dtype):
            raise DepthError(
                f"'{file.name}' is {plane.dtype} of {plane.shape[1]} x {plane.shape[0]} pixels, '{files[0].name}' is "
                f"{planes[0].dtype} of {planes[0].shape[1]} x {planes[0].shape[0]}. Export them alike."
            )
        planes.append(plane)
    values = np.stack(planes)
    used = f"frames {first_frame} to {first_frame + len(files) - 1} comes from {files[0].name} to {files[-1].name}"
    notices = (f"The depth of the plate's {used}.",) if len(files) > 1 or first_frame > 0 else ()
    if values.dtype != np.uint16:
        return StoredDepth(values, kind, notices=notices)
    return StoredDepth(values.astype(np.float32) * np.float32(scale / GREY16_MAX), kind, scale, notices=notices)


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
                    f"'{path}' holds {frame.format.name} pictures; depth needs 16-bit grey ones (FFV1 gray16le). "
                    "8 bits are too coarse: they would become steps."
                )
            pictures.append(cast(NDArray[np.uint16], frame.to_ndarray()).astype(np.uint16))
    except VideoError as error:
        raise DepthError(f"The depth file cannot be used. {error}") from error
    values = np.stack(pictures).astype(np.float32)
    values *= np.float32(scale / GREY16_MAX)
    return StoredDepth(values, kind, scale)


def _read_side_file(path: Path) -> tuple[DepthKind, float]:
    """What 16-bit numbers mean: {"kind": "inverse", "scale": S} makes v an inverse depth of v / 65535 * S."""
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
