# SPDX-License-Identifier: Apache-2.0
"""One picture of a plate, whatever its format, as 8-bit RGB that can be shown.

Whole numbers (PNG, JPEG, TIFF) are taken as what a screen shows (sRGB) and 16 bits are rounded to 8. Floats (EXR, float
TIFF) are scene-linear light of Rec. 709 primaries and get the sRGB curve; what is brighter than 1 becomes white.
Blender shows such files alike with its view transform Standard.
"""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

from ex4d.errors import VideoError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr")
COLOUR_LAYERS = {"combined", "beauty", "rgba", "rgb"}  # of a multi-layer EXR: the picture itself (Blender, renderers)
REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)  # x, y of red, green, blue, white: ITU-R BT.709
SAME_PRIMARIES = 2e-3  # headers round them to three digits

ROUNDED = "The pictures have 16 bits per channel. They were reduced to 8."
LINEAR = "The pictures are scene-linear. They were given the sRGB curve; what is brighter than white became white."
TRANSPARENT = "The pictures have an alpha channel. They were put over black."
OTHER_PRIMARIES = (
    "The pictures say that their primaries are not Rec. 709. They were taken as if they were: convert ACES and the "
    "like to linear Rec. 709 first for true colours."
)
STRETCHED = (
    "The pictures' pixels are not square. They are used as if they were; rescale them for a picture without distortion."
)


def read_picture(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read one picture.

    Args:
        path: one of SUFFIXES.

    Returns:
        RGB [H, W, 3]; what was changed to get there, as notices for the artist.

    Raises:
        VideoError: it cannot be read, is damaged, or shows nothing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VideoError(f"'{path}' cannot be read: {error.strerror}. Check the drive.") from error
    if path.suffix.lower() == ".exr":
        return _read_exr(path)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if picture is None:
        raise VideoError(f"'{path}' is damaged or no picture. Export it again.")
    if picture.ndim == 2:
        picture = picture[..., None]
    channels = picture.shape[2]
    colour = picture[..., 2::-1] if channels >= 3 else np.repeat(picture[..., :1], 3, axis=2)
    alpha = picture[..., -1] if channels in {2, 4} else None
    if picture.dtype == np.uint8:
        full, notices = 255, []
    elif picture.dtype == np.uint16:
        full, notices = 65535, [ROUNDED]
    elif np.issubdtype(picture.dtype, np.floating):
        full, notices = 1, [LINEAR]
    else:
        raise VideoError(f"'{path}' has pixels of type {picture.dtype}. Save it with 8, 16 or float bits.")
    if alpha is not None and alpha.min() < full:
        colour = colour * (alpha[..., None] / full)
        notices.append(TRANSPARENT)
    if full == 1:
        return display_from_linear(colour), tuple(notices)
    if colour.dtype == np.uint8:
        return np.ascontiguousarray(colour), tuple(notices)
    return np.rint(colour * (255 / full)).astype(np.uint8), tuple(notices)


def display_from_linear(colour: NDArray[Any]) -> NDArray[np.uint8]:
    """Scene-linear light as 8-bit sRGB (IEC 61966-2-1); not a number counts as black.

    Args:
        colour: 1 is diffuse white. [...]
    """
    if colour.dtype == np.float16:
        return _display_of_halves()[np.ascontiguousarray(colour).view(np.uint16)]
    light = np.clip(np.nan_to_num(colour.astype(np.float32), posinf=1.0), 0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    display: NDArray[np.uint8] = np.rint(255 * curve).astype(np.uint8)
    return display


@functools.cache
def _display_of_halves() -> NDArray[np.uint8]:
    """What each of the half floats there are is shown as: ten times faster than the curve for each pixel."""
    return display_from_linear(np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32))


def _read_exr(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    try:
        parts = OpenEXR.File(str(path), separate_channels=True).parts
    except (RuntimeError, OSError, ValueError) as error:
        raise VideoError(f"'{path}' cannot be read as EXR: {error}. Render or export it again.") from error
    held: dict[str, tuple[Any, str]] = {}
    for part in parts:
        for name in part.channels:
            held[f"{part.name()}.{name}" if part.name() and "." not in name else name] = part, name
    chosen = _colour_channels(path, list(held))
    part = held[chosen[0]][0]
    planes = [held[name][0].channels[held[name][1]].pixels for name in chosen]
    if any(plane is None or not np.issubdtype(plane.dtype, np.floating) for plane in planes):
        raise VideoError(f"'{path}' is deep or holds whole numbers. Save it as a flat EXR of half or float.")
    if any(plane.shape != planes[0].shape for plane in planes):
        raise VideoError(f"'{path}' holds colour at less than full size. Save it as RGB.")
    notices = [LINEAR]
    alpha_name = chosen[0].rpartition(".")[0] + ".A" if "." in chosen[0] else "A"
    if alpha_name in held and held[alpha_name][0].channels[held[alpha_name][1]].pixels.min() < 1:
        notices.append(TRANSPARENT)  # EXR's colour is premultiplied: over black it is what it is
    header = part.header
    primaries = header.get("chromaticities")
    if primaries is not None and np.abs(np.subtract(np.ravel(primaries), REC709)).max() > SAME_PRIMARIES:
        notices.append(OTHER_PRIMARIES)
    if abs(float(header.get("pixelAspectRatio", 1.0)) - 1) > 1e-4:
        notices.append(STRETCHED)
    return display_from_linear(_in_display_window(np.stack(planes, axis=-1), header)), tuple(notices)


def _colour_channels(path: Path, held: list[str]) -> list[str]:
    """Which channels of an EXR are red, green and blue of the picture."""
    if "Y" in held and ("RY" in held or "BY" in held):
        raise VideoError(f"'{path}' holds luminance and chroma. Save it as RGB.")
    layers = sorted({name.rpartition(".")[0] for name in held if name.rpartition(".")[2] == "R"})
    layers = [one for one in layers if {_joined(one, c) for c in "RGB"} <= set(held)]
    if "" in layers:
        layers = [""]
    elif len(layers) > 1:
        named = [one for one in layers if one.rpartition(".")[2].lower() in COLOUR_LAYERS]
        layers = named or layers
    if len(layers) == 1:
        return [_joined(layers[0], channel) for channel in "RGB"]
    if not layers and ("Y" in held or len(held) == 1):
        return ["Y" if "Y" in held else held[0]] * 3
    what = f"several pictures: {', '.join(layers)}" if layers else f"no picture, only {', '.join(held) or 'nothing'}"
    raise VideoError(f"'{path}' holds {what}. Save the plate as an EXR with the channels R, G and B.")


def _joined(layer: str, channel: str) -> str:
    return f"{layer}.{channel}" if layer else channel


def _in_display_window(pixels: NDArray[Any], header: dict[str, Any]) -> NDArray[Any]:
    """The part of the stored pixels that is the picture; black where nothing is stored."""
    (left, top), (right, bottom) = header["displayWindow"]
    (first_x, first_y), _ = header["dataWindow"]
    height, width = pixels.shape[:2]
    if (left, top) == (first_x, first_y) and (right - left + 1, bottom - top + 1) == (width, height):
        return pixels
    picture = np.zeros((bottom - top + 1, right - left + 1, 3), pixels.dtype)
    x0, y0 = max(left, first_x), max(top, first_y)
    x1, y1 = min(right + 1, first_x + width), min(bottom + 1, first_y + height)
    if x0 < x1 and y0 < y1:
        picture[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[
            y0 - first_y : y1 - first_y, x0 - first_x : x1 - first_x
        ]
    return picture
