# SPDX-License-Identifier: Apache-2.0
"""The sound of a plate: read as samples for exactly the frames that are used, written beside pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from ex4d.errors import VideoError
from ex4d.video_decode import opened

GAP_S = 0.02  # stamps are rounded, in Matroska to milliseconds: less than this is no gap
SEEK_MARGIN_S = 2.0  # compressed sound needs some of what comes before
# Sample formats of 24 and 32 bits stay; all others fit into 16, lossy codecs' floats included.
WIDE_FORMATS = {"s32", "s32p", "dbl", "dblp"}
LOSSLESS = {np.dtype(np.int16): ("pcm_s16le", "s16"), np.dtype(np.int32): ("pcm_s32le", "s32")}
# What FFmpeg takes the channels for where a file only counts them; AAC knows these.
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
AAC_BIT_RATE = 128_000  # per second and channel


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound as samples; sample 0 sounds when frame 0 is shown."""

    samples: NDArray[np.int16] | NDArray[np.int32]  # [n, channels]
    rate: int  # per second
    layout: str  # FFmpeg's name of the channels: "stereo"

    def of_frames(self, start: int, count: int, fps: Fraction) -> "Audio":
        """The sound of some frames of its clip."""
        first, last = (round(frame * self.rate / fps) for frame in (start, start + count))
        return Audio(self.samples[first:last], self.rate, self.layout)


def read_audio(path: Path, frame_start: int, frame_count: int, fps: Fraction) -> Audio | None:
    """Read the sound of a run of frames, from the file's best track.

    Args:
        path: a video.
        frame_start, frame_count: which frames, counted at the constant rate.
        fps: that rate.

    Returns:
        Exactly as long as the frames, silent where the track has nothing; None for a file without sound.

    Raises:
        VideoError: there is no such video, or its sound cannot be decoded.
    """
    with opened(path) as (container, stream):
        track = container.streams.best("audio")
        if track is None:
            return None
        context = cast(AudioCodecContext | None, track.codec_context)  # None: FFmpeg has no decoder for it
        if context is None or not context.rate or not context.layout.nb_channels:
            raise VideoError(f"The sound of '{path}' cannot be decoded: its format is unknown here.")
        wide, rate, channels = context.format.name in WIDE_FORMATS, context.rate, context.layout.nb_channels
        layout = context.layout.name
        begin_s = float((stream.start_time or 0) * (stream.time_base or 0)) + float(frame_start / fps)
        count = round(frame_count * rate / fps)
        samples = np.zeros((count, channels), np.int32 if wide else np.int16)
        resampler = AudioResampler("s32" if wide else "s16", layout, rate)
        try:
            for time_s, piece in _pieces(container, resampler, begin_s):
                first = round((time_s - begin_s) * rate)
                if first >= count:
                    break
                used = piece[max(0, -first) : count - first]
                samples[max(0, first) : max(0, first) + len(used)] = used
        except av.error.FFmpegError as error:
            raise VideoError(f"The sound of '{path}' cannot be decoded: {error.strerror or error}.") from error
    return Audio(samples, rate, USUAL_LAYOUTS.get(channels, layout) if layout == f"{channels} channels" else layout)


def _pieces(
    container: InputContainer, resampler: AudioResampler, begin_s: float
) -> Iterator[tuple[float, NDArray[np.int16] | NDArray[np.int32]]]:
    """Decoded sound from a little before a moment: when each piece sounds, and its samples [n, channels]."""
    track = container.streams.best("audio")
    if begin_s > SEEK_MARGIN_S:
        container.seek(int((begin_s - SEEK_MARGIN_S) * av.time_base))
    time_s: float | None = None
    for frame in container.decode(track):
        assert isinstance(frame, AudioFrame)
        if frame.pts is not None and frame.time_base is not None:
            stamp_s = float(frame.pts * frame.time_base)
            if time_s is None or abs(stamp_s - time_s) > GAP_S:
                time_s = stamp_s
        for packed in resampler.resample(frame):
            piece = packed.to_ndarray().reshape(-1, packed.layout.nb_channels)
            yield time_s or 0.0, cast(NDArray[np.int16], piece)
            time_s = (time_s or 0.0) + len(piece) / packed.sample_rate


class AudioTrack:
    """The sound of a video that is being written, muxed along with its pictures."""

    def __init__(self, container: OutputContainer, audio: Audio, lossless: bool) -> None:
        """Add a track: as it is (Matroska), or AAC (mp4, mov), of unusual channels the first two."""
        if not lossless and audio.samples.shape[1] not in USUAL_LAYOUTS:
            audio = Audio(audio.samples[:, :2], audio.rate, "stereo")
        channels = audio.samples.shape[1]
        exact, self._format = LOSSLESS[audio.samples.dtype]
        self._audio, self._done = audio, 0
        self._stream = cast(AudioStream, container.add_stream(exact if lossless else "aac", rate=audio.rate))
        self._stream.codec_context.layout = audio.layout if lossless else USUAL_LAYOUTS[channels]
        if not lossless:
            self._stream.codec_context.bit_rate = AAC_BIT_RATE * channels

    def until(self, time_s: Fraction) -> "list[Packet[AudioStream]]":
        """What has to be muxed with the pictures up to a moment."""
        end = min(len(self._audio.samples), round(time_s * self._audio.rate))
        if end <= self._done:
            return []
        piece = np.ascontiguousarray(self._audio.samples[self._done : end]).reshape(1, -1)
        frame = AudioFrame.from_ndarray(cast(NDArray[np.int16], piece), format=self._format, layout=self._audio.layout)
        frame.sample_rate, frame.pts = self._audio.rate, self._done
        frame.time_base = Fraction(1, self._audio.rate)
        self._done = end
        return self._stream.encode(frame)

    def end(self) -> "list[Packet[AudioStream]]":
        """What is left."""
        return self._stream.encode(None)
