# SPDX-License-Identifier: Apache-2.0
"""A take of any size, length and start becomes what the model can paint.

The take's own colour and mask are scaled to the working size, an artist's changes in them included: measured on the
sample that is as near to the truth as drawing the mesh anew at that size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.errors import InputError
from ex4d.generation.engine import check_conditioning
from ex4d.generation.inpaint import inpaint
from ex4d.generation.room import MESH_PIXEL, make_room
from ex4d.generation.wan.framing import RELEASE_SIZE, TUNED_PIXELS, Framing, framing, into_working, release_framing
from ex4d.generation.wan.lead_in import lead_in, plate_view
from ex4d.generation.wan.memory_plan import Window
from ex4d.generation.wan.modes import Mode
from ex4d.generation.wan.windows import MOST_FRAMES, OVERLAP, TUNED_FRAMES, Span, spans
from ex4d.progress import ProgressCallback, track
from ex4d.shot import Shot

Frame = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # colour and mask


@dataclass(frozen=True)
class Limits:
    """What the model can do; tiny in tests."""

    pixels: int = TUNED_PIXELS
    release_size: tuple[int, int] = RELEASE_SIZE
    shortest: int = TUNED_FRAMES  # frames of a window
    longest: int = MOST_FRAMES
    overlap: int = OVERLAP


@dataclass(frozen=True, eq=False)
class Work:
    """A take as the model will see it, lead-in included."""

    color: NDArray[np.uint8]  # RGB at the working size. [lead + N, h, w, 3]
    mask: NDArray[np.bool_]
    lead: int  # frames before the take's first one
    layout: Framing
    parts: list[Span]
    notices: tuple[str, ...]

    @property
    def window(self) -> Window:
        """What the network paints at once."""
        return Window(*self.layout.working, frames=self.parts[0].count)


def prepared(
    shot: Shot,
    cameras: CameraPath,
    conditioning: Conditioning,
    mode: Mode,
    limits: Limits,
    progress: ProgressCallback | None = None,
) -> Work:
    """Bring a take to what the model can paint.

    Raises:
        InputError: the camera never sees the plate.
        ShapeError: the conditioning is of another path.
    """
    _check(cameras, conditioning)
    release = mode.precision == "reference"
    width, height = cameras.width, cameras.height
    layout = release_framing(width, height, limits.release_size) if release else framing(width, height, limits.pixels)
    frames = list(zip(conditioning.color, conditioning.mask, strict=True))
    notices = _size_notices(layout, release)
    lead = 0
    if release and not conditioning.mask[0].all():
        notices += ("The first frame has holes. Quality reference paints on from it as it is, as the release would.",)
    elif not conditioning.mask[0].all():
        frames, said = _from_a_whole_frame(shot, cameras, conditioning, progress)
        lead = len(frames) - len(cameras)
        notices += said
    parts = spans(len(frames), limits.shortest, limits.longest, limits.overlap)
    scaled = [into_working(layout, *frame) for frame in track(frames, "Preparing the picture", progress)]
    return Work(
        np.stack([color for color, _ in scaled]),
        np.stack([mask for _, mask in scaled]),
        lead,
        layout,
        parts,
        (*notices, *_length_notices(len(frames), parts, release)),
    )


def _from_a_whole_frame(
    shot: Shot, cameras: CameraPath, conditioning: Conditioning, progress: ProgressCallback | None
) -> tuple[list[Frame], tuple[str, ...]]:
    """A take with what has to come before it, so that its first frame has no holes; and what was done."""
    frames = list(zip(conditioning.color, conditioning.mask, strict=True))
    notices: tuple[str, ...] = ()
    path = lead_in(shot, cameras)
    if path is not None:
        make_room(MESH_PIXEL * shot.depth.size)
        way = render_conditioning(
            shot.frames, shot.depth, shot.intrinsics, shot.convention, path, "auto", progress, shot.sky
        )
        frames = [*zip(way.color, way.mask, strict=True), *frames]
        plate = plate_view(shot.frames[int(path.source_frame[0])], cameras.width, cameras.height)
        frames[0] = plate, np.ones_like(frames[0][1])
        notices += (f"The camera starts beside the plate's view: {len(path)} frames lead in to it and are cut off.",)
    else:  # an artist's holes, or cracks at tears in a picture of another size than the plate
        color, mask = frames[0]
        red, green, blue = (float(level) for level in shot.frames.mean(axis=(0, 1, 2)))
        filled = inpaint(color[None], mask[None], conditioning.depth[:1], (red, green, blue))[0]
        frames[0] = filled, np.ones_like(mask)
        share = f"{1 - mask.mean():.1%} of the first frame"
        notices += (f"Holes, {share}, were filled before the model painted on from there.",)
    return frames, notices


def _check(cameras: CameraPath, conditioning: Conditioning) -> None:
    check_conditioning(cameras, conditioning)
    if not conditioning.mask.any():
        raise InputError("The camera never sees the plate: there is nothing to paint on from. Turn it to the scene.")


def _size_notices(layout: Framing, release: bool) -> tuple[str, ...]:
    if layout.take == layout.working:
        return ()
    (width, height), (to_width, to_height) = layout.working, layout.take
    how = ", whatever its shape, as the release does" if release else ""
    return (f"The model painted {width} x {height} pixels{how}; the result was scaled to {to_width} x {to_height}.",)


def _length_notices(count: int, parts: list[Span], release: bool) -> tuple[str, ...]:
    notices: tuple[str, ...] = ()
    if len(parts) > 1:
        windows = f"{len(parts)} windows of {parts[0].count}"
        notices += (f"{count} frames were painted in {windows}, each going on from the last.",)
    if release and (len(parts) > 1 or parts[0].count != count or count != TUNED_FRAMES):
        notices += (f"The release would have taken {TUNED_FRAMES} frames; all {count} were painted.",)
    return notices
