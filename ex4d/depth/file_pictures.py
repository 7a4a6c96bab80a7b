# SPDX-License-Identifier: Apache-2.0
"""Depth as pictures: EXR and 16-bit PNG, and which files of a numbered sequence belong to a clip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from ex4d.errors import DepthError, StorageError
from ex4d.numbered_files import PATTERN, is_pattern, numbered_files, shared_name
from ex4d.progress import ProgressCallback, track
from ex4d.storage import replacing

PICTURE_SUFFIXES = {".exr", ".png"}
HALF_MAX = 65504.0  # where a half-float EXR clips Blender's 1e10
BEYOND = 1e10  # Blender's own number for a ray that meets nothing


def pictures_of_clip(
    path: Path, first_frame: int, count: int, start: int | None, first_number: int | None = None
) -> tuple[list[Path], Path]:
    """Find the pictures of a clip's frames.

    Of a plate of numbered pictures, those with its numbers. Else a sequence with as many files as the clip has frames
    belongs to them in order, and a longer one covers the plate from its beginning, or from the file numbered `start`.

    Args:
        path: one picture, one of a numbered sequence, or a pattern such as depth.####.exr.
        first_frame: of the clip in its plate, 0-based.
        count: frames of the clip.
        start: number of the file that shows the plate's first frame; None: the lowest one.
        first_number: of the clip's first frame, when the plate is numbered pictures.

    Returns:
        the files, in order; where their side file would be

    Raises:
        DepthError: no such files, or some are missing between others.
    """
    numbered = numbered_files(path)
    if not numbered and is_pattern(path):
        raise DepthError(f"There are no files '{path}'. Check the folder and the pattern.")
    one_still = count == 1 and first_frame == 0 and start is None and path.is_file()
    if not numbered or one_still:
        if not path.is_file():
            raise DepthError(f"There is no depth file '{path}'. Check the path.")
        return [path], path.with_suffix(".json")
    side_file = path.with_suffix(".json")
    if not side_file.is_file():
        side_file = path.with_name(f"{shared_name(path) or 'depth'}.json")
    numbers = sorted(numbered)
    alike = [] if first_number is None or start is not None else list(range(first_number, first_number + count))
    if alike and numbered.keys() >= set(alike):
        wanted = alike
    elif start is None and len(numbers) == count:
        wanted = numbers
    else:
        begin = (numbers[0] if start is None else start) + first_frame
        wanted = list(range(begin, begin + count))
    missing = [n for n in wanted if n not in numbered]
    if missing:
        raise DepthError(
            f"'{path.name}' has {len(numbers)} files, {numbers[0]} to {numbers[-1]}, but the clip's {count} frames "
            f"need {wanted[0]} to {wanted[-1]}: {len(missing)} are missing, the first is {missing[0]}. Render "
            "them, choose the frames with --frames, or name the plate's first file (--depth-option start=N)."
        )
    return [numbered[n] for n in wanted], side_file


def read_picture(path: Path, layer: str | None = None) -> NDArray[Any]:
    """The numbers of one picture: an EXR's floats, or a PNG's 16 bits.

    Args:
        path: .exr or .png.
        layer: channel or layer of an EXR; None finds the one that holds depth.

    Returns:
        float32 or uint16 [H, W]

    Raises:
        DepthError: damaged, 8-bit, or without a channel of depth.
    """
    if path.suffix.lower() == ".exr":
        return _read_exr(path, layer)
    if layer is not None:
        raise DepthError(f"layer is for EXR, '{path.name}' is a PNG.")
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DepthError(f"'{path}' cannot be read: {error.strerror}.") from error
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None:
        raise DepthError(f"'{path}' is damaged: it cannot be read as a PNG. Export it again.")
    if picture.dtype != np.uint16:
        raise DepthError(f"'{path}' has 8 bits; depth needs 16. 8 bits are too coarse: they would become steps.")
    if picture.ndim == 3:  # grey saved as colour, as many programs do
        colours = picture[..., : 3 if picture.shape[2] >= 3 else 1]
        if (colours != colours[..., :1]).any():
            raise DepthError(f"'{path}' is a colour picture; depth needs a grey one. Save it as 16-bit grey.")
        picture = colours[..., 0]
    return np.ascontiguousarray(picture, np.uint16)


def write_depth_exr(path: Path, depth: NDArray[np.float32], part: str = "depth") -> None:
    """Write one frame of z-depth as compositors expect it: channel depth.Z, 32-bit float, ZIP.

    Args:
        path: the file to write.
        depth: z-depth, shot units. [H, W]

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    write_exr(path, {f"{part}.Z": depth})


def write_exr(path: Path, channels: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a picture as 32-bit float OpenEXR, ZIP.

    Args:
        path: the file to write.
        channels: by name. [H, W] each

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    planes = {name: np.ascontiguousarray(plane, np.float32) for name, plane in channels.items()}
    with replacing(path) as temporary:
        try:
            OpenEXR.File(header, planes).write(str(temporary))
        except RuntimeError as error:
            raise StorageError(f"'{path}' cannot be written: {error}. Check the folder and its free space.") from error


def write_depth_sequence(
    pattern: Path, depth: NDArray[np.float32], first: int = 0, progress: ProgressCallback | None = None
) -> list[Path]:
    """Write a clip's z-depth as numbered EXR files, to be looked at or corrected and read back.

    Args:
        pattern: such as depth.####.exr.
        depth: z-depth, shot units. [T, H, W]
        first: number of the first file.
        progress: told after each frame.

    Raises:
        DepthError: the pattern has no place for a number, or is no EXR.
        StorageError: the disk is full or refuses to be written.
    """
    place = PATTERN.search(pattern.name)
    if place is None or pattern.suffix.lower() != ".exr":
        raise DepthError(f"'{pattern.name}' must be an EXR with a place for the number, such as depth.####.exr.")
    mark = place[0]
    digits = len(mark) if mark.startswith("#") else int(mark[1:-1] or 1)
    before, after = pattern.name[: place.start()], pattern.name[place.end() :]
    files = [pattern.with_name(f"{before}{first + n:0{digits}}{after}") for n in range(len(depth))]
    for file, plane in track(list(zip(files, depth, strict=True)), "Writing the depth", progress):
        write_depth_exr(file, plane)
    return files


def _read_exr(path: Path, layer: str | None) -> NDArray[np.float32]:
    try:
        parts = OpenEXR.File(str(path), separate_channels=True).parts
    except (RuntimeError, OSError, ValueError) as error:
        raise DepthError(f"'{path}' cannot be read as EXR: {error}. Render or export it again.") from error
    channels: dict[str, NDArray[Any]] = {}
    for part in parts:
        own = part.name()
        for name, channel in part.channels.items():
            full = f"{own}.{name}" if own and "." not in name else name
            channels[full] = channel.pixels
    if not channels:
        raise DepthError(f"'{path}' is damaged or deep: no flat picture in it can be read. Render it again.")
    pixels = channels[depth_channel(channels, path, layer)]
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DepthError(f"'{path}': depth must be float or half, got {pixels.dtype}. Render it as 32-bit float.")
    plane = pixels.astype(np.float32)
    nothing = np.isposinf(plane)
    if pixels.dtype == np.float16:
        nothing |= plane >= HALF_MAX
    plane[nothing] = BEYOND
    return plane


def depth_channel(channels: dict[str, NDArray[Any]], path: Path, layer: str | None) -> str:
    """Which channel of an EXR holds depth.

    A channel named Z; else Z or V of a layer whose name says depth (Blender's ViewLayer.Depth.Z); else the only
    channel; else R, when green and blue say the same.

    Raises:
        DepthError: none, or several; the message lists them.
    """
    held = ", ".join(sorted(channels))
    if layer is not None:
        fitting = [name for name in channels if name == layer or name.rpartition(".")[0] == layer]
        if len(fitting) > 1:  # a layer of several channels, of which one is Z
            fitting = [name for name in fitting if name.rpartition(".")[2] in {"Z", "V", "R"}]
        if len(fitting) != 1:
            raise DepthError(f"'{path.name}' has no single depth in the layer '{layer}'. It holds {held}.")
        return fitting[0]
    for wanted in (_is_plain_z, _is_depth_layer):
        fitting = [name for name in channels if wanted(name)]
        if len(fitting) > 1:
            raise DepthError(
                f"'{path.name}' holds several depths: {', '.join(sorted(fitting))}. Choose one with --depth-option "
                "layer=NAME."
            )
        if fitting:
            return fitting[0]
    if len(channels) == 1:
        return next(iter(channels))
    colours = [channels.get(name) for name in ("R", "G", "B")]
    if colours[0] is not None and all(c is None or np.array_equal(c, colours[0]) for c in colours):
        return "R"
    raise DepthError(
        f"'{path.name}' has no channel of depth. It holds {held}. Render with the Z pass on, or choose one with "
        "--depth-option layer=NAME."
    )


def _is_plain_z(name: str) -> bool:
    return name == "Z"


def _is_depth_layer(name: str) -> bool:
    layer, _, channel = name.rpartition(".")
    return (channel in {"Z", "V", "R"} and "depth" in layer.lower()) or name.lower() == "depth"
