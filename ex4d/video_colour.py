# SPDX-License-Identifier: Apache-2.0
"""From a decoded frame, whatever its pixel format, to 8-bit RGB as it is meant to be shown."""

from collections.abc import Iterable
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

# AVColorSpace (ITU-T H.273 matrix coefficients) to swscale's tables.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
UNTAGGED_HD_HEIGHT = 720  # untagged video of at least this height is BT.709, below it BT.601: the players' convention
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # H.273 transfer characteristics

SCALER = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def bit_depth(pixel_format: VideoFormat) -> int:
    """Bits per component."""
    return max((component.bits for component in pixel_format.components), default=8)


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Whether the pixel format can be transparent."""
    return pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components)


def orientation(frame: VideoFrame) -> NDArray[np.int64]:
    """How the stored picture is turned for showing.

    Returns:
        (x, y) stored -> (x, y) shown, entries -1, 0, 1. Identity when untagged or not a multiple of 90 degrees. [2, 2]
    """
    for side_data in cast(Iterable[SideData], frame.side_data):
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(bytes(side_data), dtype="<i4") / 65536
            matrix: NDArray[np.int64] = np.rint(np.array([[a, c], [b, d]])).astype(np.int64)
            if np.array_equal(np.abs(matrix).sum(axis=0), [1, 1]) and np.array_equal(
                np.abs(matrix).sum(axis=1), [1, 1]
            ):
                return matrix
    return np.eye(2, dtype=np.int64)


def turned(picture: NDArray[np.uint8], matrix: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn and mirror a stored picture [H, W, ...] as `orientation` says."""
    if matrix[0, 0] == 0:
        picture = picture.swapaxes(0, 1)
    if matrix[0].sum() < 0:
        picture = picture[:, ::-1]
    if matrix[1].sum() < 0:
        picture = picture[::-1]
    return picture


class RgbConverter:
    """Converts the frames of one clip to RGB and remembers what was lost on the way."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self.transparent = False  # some pixel was not opaque
        self.interlaced = False

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert one frame with the matrix and the range of its tags; transparent parts go over black.

        Returns:
            RGB as shown, rotation applied. uint8 [H, W, 3]
        """
        self.interlaced = self.interlaced or frame.interlaced_frame
        alpha = has_alpha(frame.format)
        converted = self._reformatter.reformat(
            frame,
            format="rgba" if alpha else "rgb24",
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALER,
        )
        picture = cast(NDArray[np.uint8], converted.to_ndarray())
        if alpha:
            opacity = picture[..., 3:].astype(np.uint16)
            if opacity.min() < 255:
                self.transparent = True
            picture = ((picture[..., :3] * opacity + 127) // 255).astype(np.uint8)
        return turned(picture, orientation(frame))


def _matrix(frame: VideoFrame) -> Colorspace | None:
    if _is_full_range(frame.format):
        return None
    untagged = Colorspace.ITU709 if frame.height >= UNTAGGED_HD_HEIGHT else Colorspace.ITU601
    return MATRICES.get(frame.colorspace, untagged)


def _range(frame: VideoFrame) -> ColorRange:
    if frame.color_range in {ColorRange.MPEG, ColorRange.JPEG}:
        return ColorRange(frame.color_range)
    full = _is_full_range(frame.format) or frame.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


def _is_full_range(pixel_format: VideoFormat) -> bool:
    """RGB, palettes and plain grey: no matrix applies, and black is 0 unless the file says otherwise."""
    return pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith(("gray", "ya8", "ya16"))
