# SPDX-License-Identifier: Apache-2.0
"""Writing clips: FFV1 for everything that is read again, H.264 for looking at."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ex4d.audio import Audio, AudioTrack
from ex4d.errors import ShapeError, VideoError
from ex4d.progress import ProgressCallback, track
from ex4d.storage import replacing

Codec = Literal["ffv1", "h264"]
Picture = NDArray[np.uint8] | NDArray[np.uint16]

CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}
H264_CRF = "15"  # visually lossless for review; x264's own default is 23
H264_THREADS = 8  # the bytes depend on it, so it may not be the number of the machine's cores
BT709, FULL_RANGE, LIMITED_RANGE = 1, 2, 1  # H.273 code for primaries, transfer and matrix; FFmpeg's AVColorRange
RGB_MATRIX = 0  # H.273: identity

# (dimensions of a frame, dtype) -> what PyAV calls it, what FFV1 stores it as bit for bit
LOSSLESS_FORMATS = {(3, "uint8"): ("rgb24", "bgr0"), (2, "uint8"): ("gray", "gray"), (2, "uint16"): ("gray16le",) * 2}


def write_video(
    path: Path,
    frames: Sequence[Picture] | Picture,
    fps: Fraction,
    codec: Codec,
    progress: ProgressCallback | None = None,
    comment: str | None = None,
    audio: Audio | None = None,
    timecode: str | None = None,
) -> None:
    """Write a clip; an unfinished file never appears under its name.

    Args:
        path: .mkv for ffv1; .mp4, .mov or .mkv for h264.
        frames: RGB uint8 [T, H, W, 3] or grey uint8 [T, H, W]; ffv1 also takes grey uint16 [T, H, W].
        fps: frames per second, exact.
        codec: "ffv1" is lossless (bgr0, gray, gray16le). "h264" is BT.709 4:2:0, or 4:4:4 when a side is odd.
        progress: told after each frame.
        comment: a note that travels with the file, shown by players and editors.
        audio: their sound; lossless beside ffv1, AAC beside h264.
        timecode: of the first frame, for editors.

    Raises:
        ShapeError: the frames are not a clip.
        VideoError: the file's suffix does not fit the codec.
        StorageError: the disk is full or refuses to be written.
    """
    if len(frames) == 0:
        raise ShapeError(f"'{path.name}' needs at least one frame, got none.")
    kind = (frames[0].ndim, str(frames[0].dtype))
    if kind not in LOSSLESS_FORMATS or (kind[0] == 3 and frames[0].shape[2] != 3):
        raise ShapeError(
            "Frames must be uint8 [T, H, W, 3], uint8 [T, H, W] or, for ffv1, uint16 [T, H, W]; "
            f"got {kind[1]} {[len(frames), *frames[0].shape]}."
        )
    container_format = CONTAINERS.get(path.suffix.lower())
    if container_format is None or (codec == "ffv1" and container_format != "matroska"):
        fitting = ".mkv" if codec == "ffv1" else ", ".join(CONTAINERS)
        raise VideoError(f"'{path.name}' cannot hold {codec}: name it with {fitting}.")
    if codec == "h264" and kind[1] != "uint8":
        raise ShapeError(f"h264 takes 8-bit frames, got {kind[1]}; write 16-bit depth with ffv1.")
    # Bit exact: no random identifiers and no encoder versions, so that the same frames give the same file.
    exact = {"fflags": "+bitexact"}
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format=container_format, options=exact) as container,
    ):
        if comment is not None:
            container.metadata["comment"] = comment
        stream = _ffv1_stream(container, frames[0], fps) if codec == "ffv1" else _h264_stream(container, frames[0], fps)
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        sound = AudioTrack(container, audio, codec == "ffv1") if audio is not None else None
        reformatter = VideoReformatter()
        for number, frame in enumerate(track(frames, f"Writing {path.name}", progress, len(frames))):
            container.mux(stream.encode(_video_frame(frame, stream, reformatter, number)))
            if sound is not None:
                container.mux(sound.until((number + 1) / fps))
        container.mux(stream.encode())
        if sound is not None:
            container.mux(sound.end())


def _ffv1_stream(container: OutputContainer, first: Picture, fps: Fraction) -> VideoStream:
    stored = LOSSLESS_FORMATS[(first.ndim, str(first.dtype))][1]
    # Level 3 with a checksum per slice: damage is noticed when reading. The number of slices is fixed so that the bytes
    # do not depend on the machine's cores; tiny pictures cannot be cut in four.
    slices = "4" if min(first.shape[:2]) >= 16 else "1"
    stream = container.add_stream("ffv1", rate=fps, options={"level": "3", "slicecrc": "1", "slices": slices})
    _describe(stream, first, stored, fps)
    stream.codec_context.color_range = FULL_RANGE
    if stored == "bgr0":
        stream.codec_context.colorspace = RGB_MATRIX
    return stream


def _h264_stream(container: OutputContainer, first: Picture, fps: Fraction) -> VideoStream:
    even = first.shape[0] % 2 == 0 and first.shape[1] % 2 == 0
    # mbtree reads memory that nobody has written at widths such as 854: the same frames gave other bytes each time.
    options = {"crf": H264_CRF, "preset": "medium", "x264-params": "no-mbtree=1"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.codec_context.thread_count = H264_THREADS
    _describe(stream, first, "yuv420p" if even else "yuv444p", fps)
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    return stream


def _describe(stream: VideoStream, first: Picture, pixel_format: str, fps: Fraction) -> None:
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = pixel_format
    stream.codec_context.time_base = 1 / fps


def _video_frame(picture: Picture, stream: VideoStream, reformatter: VideoReformatter, number: int) -> VideoFrame:
    source_format, _ = LOSSLESS_FORMATS[(picture.ndim, str(picture.dtype))]
    frame = VideoFrame.from_ndarray(cast(NDArray[np.uint8], np.ascontiguousarray(picture)), format=source_format)
    frame.color_range = FULL_RANGE
    if stream.pix_fmt != source_format:
        limited = stream.codec_context.color_range == LIMITED_RANGE
        frame = reformatter.reformat(
            frame,
            format=stream.pix_fmt,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG if limited else ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709 if limited else None,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        )
    frame.pts = number
    frame.time_base = stream.codec_context.time_base
    return frame
