# SPDX-License-Identifier: Apache-2.0
"""Undoing a lens's distortion, so that a pinhole camera sees the plate as it was filmed.

The four models of Blender's motion tracker. A pinhole with focal length f and principal point c sees a point at
(x, y) = ((u - cu) / f, (cv - v) / f), x to the right and y up, in units of the focal length; r is its distance from
the axis. The lens puts it at (xd, yd) instead:

polynomial  xd = x (1 + k1 r^2 + k2 r^4 + k3 r^6), and y alike
division    xd = x / (1 + k1 r^2 + k2 r^4)
brown       xd = x (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) + 2 p2 x y + p1 (r^2 + 2 x^2)
            yd = y (1 + ...)                               + 2 p1 x y + p2 (r^2 + 2 y^2)
nuke        x = xd / (1 + k1 rd^2 + k2 rd^4), in units of half the picture's longer side instead of f

Sources: Blender's manual (Movie Clip Editor, Lens) names the models; their terms and signs were found by measuring what
its compositor and its solver do with each coefficient, and are tested against them (tests/blender/test_distortion.py).
All of it happens in square pixels: stored rows are squeezed by the pixel's aspect first, as Blender's solver does.
"""

import dataclasses
from dataclasses import dataclass, fields
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.errors import InputError
from ex4d.progress import ProgressCallback, track
from ex4d.video import Clip

Model = Literal["polynomial", "division", "nuke", "brown"]
COEFFICIENTS: dict[str, tuple[str, ...]] = {
    "polynomial": ("k1", "k2", "k3"),
    "division": ("k1", "k2"),
    "nuke": ("k1", "k2"),
    "brown": ("k1", "k2", "k3", "k4", "p1", "p2"),
}
LITTLE, LITTLE_PX = 1e-3, 0.05  # share of a picture, and movement, that are not worth a word
STEPS = 20_000  # of the table of radii: between two of them a straight line misses by less than 1e-4 pixels


@dataclass(frozen=True)
class LensDistortion:
    """How a lens bends the pictures that it takes."""

    model: Model
    focal: float  # pixels of the width
    x: float  # principal point, stored pixels from the top left edge
    y: float
    aspect: float = 1.0  # a pixel's width by its height
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def __str__(self) -> str:
        """As `lens_distortion` reads it."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        told = {name: value for name, value in numbers.items() if value != (1.0 if name == "aspect" else 0.0)}
        return f"{self.model}:" + ",".join(f"{name}={value!r}" for name, value in told.items())

    def height(self, stored: int) -> int:
        """Rows of the undistorted picture, whose pixels are square."""
        return max(1, round(stored / self.aspect))


@dataclass(frozen=True)
class Bending:
    """Where each pixel of the undistorted picture lies in the stored one."""

    source: NDArray[np.float32]  # (x, y), stored pixels from the top left edge. [H', W, 2]
    most_px: float  # how far the lens moved a point of the stored picture, at most
    unfilmed: float  # share of the undistorted picture that lies outside the stored one
    rows: int  # of `source` for each row of the picture: squeezed ones are averaged


def lens_distortion(text: str) -> LensDistortion:
    """Read a lens distortion: polynomial:focal=1200,x=960,y=540,k1=-0.1,k2=0.02.

    Args:
        text: the model, then focal length, principal point, if needed the pixels' aspect, and coefficients.

    Raises:
        InputError: it is none; the message says what is wrong.
    """
    model, _, listed = text.partition(":")
    if model not in get_args(Model):
        raise InputError(f"A lens distortion begins with its model ({', '.join(COEFFICIENTS)}), got '{text}'.")
    numbers: dict[str, float] = {}
    for pair in filter(None, listed.split(",")):
        name, _, value = pair.partition("=")
        if name not in ("focal", "x", "y", "aspect", *COEFFICIENTS[model]):
            raise InputError(f"'{name}' is nothing of a {model} lens: it has {', '.join(COEFFICIENTS[model])}.")
        try:
            numbers[name] = float(value)
        except ValueError as error:
            raise InputError(f"A lens distortion's {name} must be a number, got '{value}'.") from error
    missing = [name for name in ("focal", "x", "y") if name not in numbers]
    if missing or not all(np.isfinite(number) for number in numbers.values()):
        raise InputError(f"A lens distortion needs focal, x and y in pixels, and finite numbers, got '{text}'.")
    lens = LensDistortion(model, **numbers)  # type: ignore[arg-type]  # checked above
    if lens.focal <= 0 or not 0.1 <= lens.aspect <= 10:
        raise InputError(f"A lens's focal length and pixel aspect (0.1 to 10) must be above zero, got '{text}'.")
    return lens


def distorted(lens: LensDistortion, points: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Where a lens puts what a pinhole would see.

    Args:
        lens: the lens.
        points: (x, y) as a pinhole with the lens's focal length and principal point sees them, square pixels from the
            top left edge. [..., 2]
        width, height: of the stored picture.

    Returns:
        stored pixels from the top left edge. [..., 2]
    """
    center = np.array([lens.x, lens.y / lens.aspect])
    x, y = np.moveaxis((points - center) / lens.focal * (1, -1), -1, 0)
    radius = np.hypot(x, y)
    bent = _bent_radius(lens, radius, width, height)
    share = np.divide(bent, radius, out=np.ones_like(radius), where=radius > 0)
    xd, yd = x * share, y * share
    if lens.model == "brown":
        xd = xd + 2 * lens.p2 * x * y + lens.p1 * (radius**2 + 2 * x**2)
        yd = yd + 2 * lens.p1 * x * y + lens.p2 * (radius**2 + 2 * y**2)
    square: NDArray[np.float64] = np.stack([xd, -yd], axis=-1) * lens.focal + center
    return square * (1, lens.aspect)


def _bent_radius(lens: LensDistortion, radius: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """How far from the axis the lens puts what lies at a radius; both in units of the focal length.

    Models turn back far outside: from there on the last radius before is taken, which lies outside the picture.
    """
    known = np.linspace(0, max(float(radius.max(initial=0)), 1e-6), STEPS)
    if lens.model == "nuke":  # which says it the other way round
        unit = max(width, height / lens.aspect) / 2 / lens.focal
        known = 2 * known  # what the lens moves outwards
        squares = (known / unit) ** 2
        ideal = known / (1 + lens.k1 * squares + lens.k2 * squares**2)
        last = _turns_back(ideal)
        return np.interp(radius, ideal[:last], known[:last])
    squares = known**2
    if lens.model == "division":
        bent = known / (1 + squares * (lens.k1 + squares * lens.k2))
    else:
        bent = known * (1 + squares * (lens.k1 + squares * (lens.k2 + squares * (lens.k3 + squares * lens.k4))))
    last = _turns_back(bent)
    return np.interp(radius, known[:last], bent[:last])


def _turns_back(radii: NDArray[np.float64]) -> int:
    """How many radii ascend."""
    falls = np.flatnonzero(~(np.diff(radii) > 0))
    return int(falls[0]) + 1 if falls.size else len(radii)


def bending(lens: LensDistortion, width: int, height: int, center: tuple[float, float] | None = None) -> Bending:
    """Look up where the undistorted picture's pixels come from.

    Args:
        lens: the lens.
        width, height: of the stored picture.
        center: where the undistorted picture's principal point is to be, its pixels; None: where the lens has it.
    """
    rows = max(1, round(lens.aspect))
    own = np.array([lens.x, lens.y / lens.aspect])
    shift = np.zeros(2) if center is None else own - center
    x = np.arange(width) + 0.5
    y = (np.arange(rows * lens.height(height)) + 0.5) / rows
    ideal = np.stack(np.meshgrid(x, y), axis=-1) + shift
    source = distorted(lens, ideal, width, height)
    is_filmed = ((source > 0) & (source < (width, height))).all(axis=-1)
    moved = np.hypot(*np.moveaxis((source - ideal * (1, lens.aspect)) / (1, lens.aspect), -1, 0))
    return Bending(source.astype(np.float32), float(moved[is_filmed].max(initial=0)), 1 - float(is_filmed.mean()), rows)


def undistorted(
    frames: NDArray[np.uint8], bend: Bending, progress: ProgressCallback | None = None
) -> NDArray[np.uint8]:
    """The frames as a pinhole would have filmed them; what was not filmed repeats the picture's edge.

    Args:
        frames: RGB. [T, H, W, 3]
        bend: of `bending`.
        progress: told after each frame.
    """
    height, width = bend.source.shape[0] // bend.rows, bend.source.shape[1]
    straight = np.empty((len(frames), height, width, 3), np.uint8)
    from_x, from_y = np.ascontiguousarray(np.moveaxis(bend.source - np.float32(0.5), -1, 0))  # OpenCV counts centres
    for number in track(range(len(frames)), "Undoing the lens distortion", progress):
        bent = cv2.remap(frames[number], from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        rows = bent.reshape(height, bend.rows, width, 3)
        straight[number] = bent if bend.rows == 1 else np.rint(rows.mean(axis=1, dtype=np.float32))
    return straight


def straightened(
    clip: Clip, lens: LensDistortion, keeps_center: bool, progress: ProgressCallback | None = None
) -> Clip:
    """A clip as a pinhole would have filmed it, in square pixels.

    Args:
        clip: as the lens filmed it.
        lens: the lens.
        keeps_center: the camera knows the lens's principal point; else it is brought to the picture's middle.
        progress: told after each frame.
    """
    height, width = clip.frames.shape[1:3]
    bend = bending(lens, width, height, None if keeps_center else (width / 2, lens.height(height) / 2))
    frames = undistorted(clip.frames, bend, progress)
    said = []
    if bend.most_px >= LITTLE_PX:
        said.append(
            f"The lens's distortion ({lens.model}) was undone, by up to {bend.most_px:.1f} pixels: plate, mesh and "
            "takes show what a lens without distortion would have."
        )
    if frames.shape[1] != height:
        said.append(f"Pixels were made square: {width} x {height} became {width} x {frames.shape[1]}.")
    if bend.unfilmed > LITTLE:
        said.append(
            f"{bend.unfilmed:.1%} of the undistorted picture, at its edges, was never filmed: there the edge repeats."
        )
    return dataclasses.replace(clip, frames=frames, notices=(*clip.notices, *said), lens_distortion=str(lens))
