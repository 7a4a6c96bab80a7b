# SPDX-License-Identifier: Apache-2.0
"""Opening a video file, finding its frames in time, and decoding exactly those that are wanted.

The timeline comes from the packets' time stamps, without decoding. Decoding then has to deliver every frame that the
timeline promised: a frame that does not come out is an error, never a silent shift of all later ones.
"""

import contextlib
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ex4d.errors import VideoError
from ex4d.progress import Progress, ProgressCallback

# Frame rates that cameras and editors use. A variable rate within 2 % of one of them is resampled to it.
USUAL_RATES = tuple(
    [Fraction(n) for n in (12, 15, 24, 25, 30, 48, 50, 60, 100, 120, 240)]
    + [Fraction(n, 1001) for n in (24000, 30000, 48000, 60000, 120000)]
)
FALLBACK_RATE = Fraction(24)  # for a file that states no rate, such as a single still

# Not moving pictures although FFmpeg opens them: plain text drawn as a terminal, and lists of other files.
NO_VIDEO_FORMATS = {"tty", "hls", "concat", "concatf"}


@dataclass(frozen=True)
class Timeline:
    """When each frame of a file is shown, at a constant rate."""

    pts: tuple[int, ...] | None  # time stamps of the stored frames, ascending; None when the container has none
    stored_count: int  # frames in the file that can be read
    fps: Fraction  # constant
    picks: tuple[int, ...]  # for each frame at the constant rate, the stored frame nearest in time
    damage: str | None  # why the file ends early, None when it is whole

    @property
    def resampled(self) -> bool:
        """Whether the file's own timing was not constant."""
        return self.picks != tuple(range(self.stored_count))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first moving picture of a file.

    Raises:
        VideoError: no such file, not a file, not a video, no picture in it, or (from inside the block) undecodable.
    """
    if not path.exists():
        raise VideoError(f"There is no file '{path}'. Check the path, or whether the drive is mounted.")
    if not path.is_file():
        raise VideoError(f"'{path}' is a folder, not a video file. Choose one video file inside it.")
    try:
        # The "file:" prefix keeps names with a colon from being read as an address.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if container.format.name in NO_VIDEO_FORMATS:
                raise VideoError(f"'{path}' is not a video file. Choose a video such as .mp4, .mov or .mkv.")
            pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not pictures:
                holds = "sound but no picture" if container.streams.audio else "no picture"
                raise VideoError(f"'{path}' holds {holds}. Choose a file with a video track.")
            stream = pictures[0]
            stream.thread_type = "AUTO"
            # Any damage that the decoder notices becomes an error instead of a plausible picture.
            stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            yield container, stream
    except av.error.EOFError as error:
        raise VideoError(f"'{path}' has a video track without a single frame. Export it again.") from error
    except av.error.FFmpegError as error:
        raise VideoError(
            f"'{path}' cannot be decoded: {error.strerror or error}. It is no video, it is damaged, or its codec is "
            "unknown here. Play it in another program; if it plays, convert it to H.264 or ProRes."
        ) from error


def read_timeline(path: Path, progress: ProgressCallback | None = None) -> Timeline:
    """Find the frames of a file and their times from its packets, without decoding.

    Raises:
        VideoError: as `opened`, or there is no frame at all.
    """
    stamps: set[int] = set()
    packets, without_stamp, damage = 0, 0, None
    with opened(path) as (container, stream):
        time_base = stream.time_base or Fraction(1, 1000)
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        expected_s = _declared_duration_s(stream)
        end_s = 0.0
        try:
            for packet in container.demux(stream):
                if packet.size == 0:  # PyAV's mark of the end
                    continue
                if packet.is_corrupt:
                    damage = "its last picture is incomplete"
                    break
                if packet.is_discard:  # cut away by the file's own edit list
                    continue
                packets += 1
                if packet.pts is None:
                    without_stamp += 1
                else:
                    stamps.add(packet.pts)
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * time_base))
                if progress is not None and packets % 64 == 1:
                    progress(Progress("Looking through the clip", packets, stream.frames))
        except av.error.FFmpegError as error:
            if packets == 0:
                raise
            damage = error.strerror or str(error)
    if packets == 0:
        raise VideoError(f"'{path}' has a video track without a single frame. Export it again.")
    rate = rates[0] if rates else FALLBACK_RATE
    if damage is None and expected_s is not None and end_s + 2 / float(rate) < expected_s:
        damage = f"it ends after {end_s:.2f} s of {expected_s:.2f} s"
    if without_stamp:
        return Timeline(None, packets, rate, tuple(range(packets)), damage)
    pts = tuple(sorted(stamps))
    fps, picks = constant_rate([float((stamp - pts[0]) * time_base) for stamp in pts], rates)
    return Timeline(pts, len(pts), fps, picks, damage)


def constant_rate(times_s: Sequence[float], rates: Sequence[Fraction]) -> tuple[Fraction, tuple[int, ...]]:
    """Choose the constant rate of a clip, and for each frame at that rate the stored frame nearest in time.

    A rate to which every stored frame keeps within a quarter of a frame wins: the jitter of a clock changes nothing.
    Otherwise the usual rate nearest to the most common distance of two frames is taken.

    Args:
        times_s: when each stored frame is shown, ascending, the first at 0.
        rates: what the file says about itself, best first.

    Returns:
        frames per second; index into `times_s` for each frame at that rate.
    """
    if len(times_s) == 1:
        return (rates[0] if rates else FALLBACK_RATE), (0,)
    for rate in rates:
        if all(abs(time_s * float(rate) - i) < 0.25 for i, time_s in enumerate(times_s)):
            return rate, tuple(range(len(times_s)))
    gap_s = statistics.median(b - a for a, b in itertools.pairwise(times_s))
    usual = min(USUAL_RATES, key=lambda rate: abs(float(rate) * gap_s - 1))
    rate = usual if abs(float(usual) * gap_s - 1) < 0.02 else Fraction(1 / gap_s).limit_denominator(1001)
    return rate, _nearest(times_s, rate)


def decoded_frames(path: Path, timeline: Timeline, stored: Sequence[int]) -> Iterator[VideoFrame]:
    """Decode the wanted frames, each once.

    Args:
        path: the file of the timeline.
        timeline: from `read_timeline`.
        stored: indices of stored frames, ascending, each once.

    Yields:
        The frames in the order of `stored`, as the codec made them (no rotation, no colour conversion).

    Raises:
        VideoError: a wanted frame is damaged or does not come out of the decoder.
    """
    done = 0
    for seek in (True, False):  # a seek can land behind the frames it was asked for; then once more from the start
        if done == len(stored) or (not seek and timeline.pts is None):
            break
        for frame in _decoded_from(path, timeline, stored[done:], seek):
            yield frame
            done += 1
    if done < len(stored):
        raise VideoError(
            f"Frame {stored[done]} of '{path}' cannot be decoded: it is damaged or missing. "
            "Copy or export the clip again, or choose a range of frames without it with --frames."
        )


def _decoded_from(path: Path, timeline: Timeline, stored: Sequence[int], seek: bool) -> Iterator[VideoFrame]:
    """Yield the wanted frames until one is missing."""
    with opened(path) as (container, stream):
        if seek and timeline.pts is not None and stored[0] > 0:
            container.seek(timeline.pts[stored[0]], stream=stream, backward=True)
        done = 0
        for number, frame in enumerate(_undamaged(container, stream)):
            if timeline.pts is None:
                if number < stored[done]:
                    continue
            else:
                wanted = timeline.pts[stored[done]]
                if frame.pts is None or frame.pts < wanted:
                    continue
                if frame.pts > wanted:
                    return
            yield frame
            done += 1
            if done == len(stored):
                return


def _undamaged(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode until the end or the first damaged frame."""
    if stream.codec_context.name != "ffv1":
        yield from itertools.takewhile(lambda frame: not frame.is_corrupt, container.decode(stream))
        return
    # FFmpeg patches an FFV1 slice of wrong checksum from the previous frame and only logs it. With slice threads a
    # frame's log comes before the frame.
    stream.thread_type = "SLICE"
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as logged:
            for frame in container.decode(stream):
                if any(name == "ffv1" for _, name, _ in logged):
                    return
                yield frame
    finally:
        av.logging.set_level(before)


def _nearest(times_s: Sequence[float], rate: Fraction) -> tuple[int, ...]:
    times = np.asarray(times_s)
    count = round(times[-1] * float(rate)) + 1
    wanted = np.arange(count) / float(rate)
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    before = after - 1
    # A tie, up to the rounding of clocks, goes to the earlier frame: it is the one on screen at that moment.
    picks = np.where(wanted - times[before] <= times[after] - wanted + 0.1 / float(rate), before, after)
    return tuple(int(i) for i in picks)


def _declared_duration_s(stream: VideoStream) -> float | None:
    """What the header says, for the containers whose demuxer ends quietly in a cut-off file (Matroska)."""
    clock = stream.metadata.get("DURATION", "").replace("\x00", "").strip()
    try:
        hours, minutes, seconds = clock.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
