# SPDX-License-Identifier: Apache-2.0
"""Reading a filmed plate: what is in the file, and its frames as an array at a constant rate."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ex4d.errors import VideoError
from ex4d.progress import ProgressCallback, track
from ex4d.storage import file_sha256
from ex4d.video_colour import HDR_TRANSFERS, RgbConverter, bit_depth, has_alpha, orientation
from ex4d.video_decode import FALLBACK_RATE, Timeline, decoded_frames, opened, read_timeline
from ex4d.video_write import Codec, write_video

__all__ = ["Clip", "Codec", "VideoInfo", "probe_video", "read_video", "write_video"]

# What one pixel of one frame costs later: RGB 3, depth 4, and a rendered RGB 3, mask 1 and depth 4.
BYTES_PER_PIXEL = 15


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself."""

    path: Path
    width: int  # as shown: rotation applied
    height: int
    fps: Fraction
    frame_count: int | None  # None when the header does not say
    bit_depth: int
    has_alpha: bool
    timecode: str | None
    codec: str


@dataclass(frozen=True)
class Clip:
    """A run of frames in memory."""

    frames: NDArray[np.uint8]  # RGB as shown. [T, H, W, 3]
    fps: Fraction  # constant
    first_frame: int  # index of frames[0] in the file's frames, 0-based
    path: Path
    sha256: str  # of the whole file
    timecode: str | None  # of the file's first frame, as the file says it
    notices: tuple[str, ...]  # what was changed to get here, for the artist
    first_number: int | None = None  # of frames[0] among numbered pictures; None for a video
    lens_distortion: str | None = None  # what was undone, as ex4d.distortion reads it

    @property
    def is_pictures(self) -> bool:
        """Whether it was read from pictures: without sound and notes."""
        return self.first_number is not None


def probe_video(path: Path) -> VideoInfo:
    """Look at a video without reading all of it. Its first frame is decoded, so what is returned can be played.

    Raises:
        VideoError: no such file, not a video, no picture, no frame, not decodable.
    """
    with opened(path) as (container, stream):
        frame = _first_frame(path, container, stream)
        width, height = _shown_size(frame)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=stream.average_rate or stream.guessed_rate or FALLBACK_RATE,
            frame_count=stream.frames or None,
            bit_depth=bit_depth(frame.format),
            has_alpha=has_alpha(frame.format),
            timecode=_timecode(container),
            codec=stream.codec_context.name,
        )


def read_video(
    path: Path, frame_start: int = 0, frame_count: int | None = None, progress: ProgressCallback | None = None
) -> Clip:
    """Read frames of a video as 8-bit RGB at a constant rate, rotated as shown. Sound is ignored.

    Args:
        path: any file that FFmpeg decodes.
        frame_start: first frame, 0-based, counted at the constant rate.
        frame_count: how many frames; None for all that follow.
        progress: told after each frame.

    Raises:
        VideoError: the file is no whole video, the range is outside of it, or it does not fit into memory.
    """
    timeline = read_timeline(path, progress)
    with opened(path) as (container, stream):
        first = _first_frame(path, container, stream)
        timecode = _timecode(container)
        aspect = stream.sample_aspect_ratio
        hdr = HDR_TRANSFERS.get(stream.codec_context.color_trc)
    count = _checked_count(path, timeline, frame_start, frame_count)
    width, height = _shown_size(first)
    check_memory(path, width, height, frame_start, count)

    picks = timeline.picks[frame_start : frame_start + count]
    stored = sorted(set(picks))
    convert = RgbConverter()
    frames = np.empty((count, height, width, 3), np.uint8)
    decoded = track(decoded_frames(path, timeline, stored), "Reading the clip", progress, len(stored))
    for number, frame in zip(stored, decoded, strict=True):
        picture = convert(frame)
        if picture.shape != (height, width, 3):
            raise VideoError(
                f"Frame {number} of '{path}' is {picture.shape[1]} x {picture.shape[0]} pixels, the first one is "
                f"{width} x {height}. A clip must keep its size: split it where it changes."
            )
        frames[np.equal(picks, number)] = picture

    notices = []
    if timeline.resampled:
        notices.append(
            f"The clip has a variable frame rate. It was brought to {float(timeline.fps):.3f} frames per second by "
            "showing, at each moment, the frame nearest in time."
        )
    if bit_depth(first.format) > 8:
        notices.append(f"The clip has {bit_depth(first.format)} bits per channel. They were reduced to 8.")
    if convert.transparent:
        notices.append("The clip has an alpha channel. Its picture was put over black.")
    if aspect is not None and aspect not in (0, 1):
        notices.append(
            f"The clip's pixels are not square ({aspect.numerator}:{aspect.denominator}). They are used as if they "
            "were; rescale the clip for a picture without distortion."
        )
    if convert.interlaced:
        notices.append("The clip is interlaced. Both fields stay in each frame; deinterlace it for clean edges.")
    if hdr is not None:
        notices.append(f"The clip is HDR ({hdr}). Its values were taken as they are, so it looks flat and grey.")
    return Clip(
        frames=frames,
        fps=timeline.fps,
        first_frame=frame_start,
        path=path,
        sha256=file_sha256(path, "Hashing the clip", progress),
        timecode=timecode,
        notices=tuple(notices),
    )


def _first_frame(path: Path, container: InputContainer, stream: VideoStream) -> VideoFrame:
    for frame in container.decode(stream):
        return frame
    raise VideoError(f"'{path}' has a video track without a single frame. Export it again.")


def _shown_size(frame: VideoFrame) -> tuple[int, int]:
    transposed = orientation(frame)[0, 0] == 0
    return (frame.height, frame.width) if transposed else (frame.width, frame.height)


def _timecode(container: InputContainer) -> str | None:
    for metadata in (container.metadata, *(stream.metadata for stream in container.streams)):
        for key, value in metadata.items():
            if key.lower() == "timecode":
                return value
    return None


def _checked_count(path: Path, timeline: Timeline, frame_start: int, frame_count: int | None) -> int:
    """Number of frames to read, once the range is known to lie inside the clip and before any damage."""
    total = len(timeline.picks)
    count = total - frame_start if frame_count is None else frame_count
    if timeline.damage is not None and (frame_count is None or frame_start + count > total):
        raise VideoError(
            f"'{path}' is cut off ({timeline.damage}); {total} frames can be read. "
            f"Copy or export it again, or use the readable part with --frames 0:{total}."
        )
    if frame_start < 0 or count < 1 or frame_start + count > total:
        asked = f"{count} frames from frame {frame_start}" if frame_count is not None else f"frames from {frame_start}"
        raise VideoError(
            f"'{path}' has {total} frames (0 to {total - 1}), but {asked} were asked for. "
            "Choose a range inside the clip."
        )
    return count


def check_memory(path: Path, width: int, height: int, frame_start: int, count: int) -> None:
    """Refuse a clip that does not fit into the memory with what is made of it.

    Raises:
        VideoError: it does not; the message says how many frames would.
    """
    needed = count * width * height * BYTES_PER_PIXEL
    available = psutil.virtual_memory().available
    if needed > available:
        fitting = available // (width * height * BYTES_PER_PIXEL)
        advice = (
            f"Use fewer frames, for example --frames {frame_start}:{frame_start + fitting}, or a smaller copy."
            if fitting > 0
            else "Use a smaller copy of the clip."
        )
        raise VideoError(
            f"{count} frames of '{path}' at {width} x {height} pixels need about {needed / 2**30:.1f} GiB of memory, "
            f"{available / 2**30:.1f} GiB are free. {advice}"
        )
