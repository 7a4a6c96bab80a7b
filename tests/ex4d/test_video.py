# SPDX-License-Identifier: Apache-2.0
"""Reading and writing video, on real files that PyAV makes on the fly."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import psutil
import pytest

from ex4d.errors import Cancelled, ShapeError, StorageError, VideoError
from ex4d.progress import Progress
from ex4d.video import probe_video, read_video, write_video
from ex4d.video_decode import constant_rate

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample" / "plate.mp4"
NTSC = Fraction(30000, 1001)


def picture_sequence(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures that differ from frame to frame. uint8 [T, H, W, 3]"""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 235, (count, 3, 3, 3)).astype(np.float64)
    rows, columns = np.linspace(0, 1.99, height), np.linspace(0, 1.99, width)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None, None], (columns - c)[:, None]
    top = coarse[:, r][:, :, c] * (1 - fc) + coarse[:, r][:, :, c + 1] * fc
    bottom = coarse[:, r + 1][:, :, c] * (1 - fc) + coarse[:, r + 1][:, :, c + 1] * fc
    return (top * (1 - fr) + bottom * fr).astype(np.uint8)


def encode(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str,
    pixel_format: str,
    *,
    fps: Fraction = Fraction(25),
    source_format: str = "rgb24",
    milliseconds: Sequence[int] | None = None,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    quarter_turns: int = 0,
    aspect: Fraction | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a video of any kind, also of kinds which the product itself never writes."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000) if milliseconds else 1 / fps
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if quarter_turns:
            stream.set_display_rotation(90 * quarter_turns)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format=source_format)
            if pixel_format != source_format:
                frame = frame.reformat(format=pixel_format)
            frame.pts = milliseconds[i] if milliseconds else i
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def peak_error(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# ---------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("shape", [(4, 48, 64, 3), (3, 47, 61, 3), (1, 1, 1, 3), (2, 64, 48, 3), (3, 33, 20)])
def test_ffv1_returns_every_bit(tmp_path, shape):
    frames = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, NTSC, "ffv1")
    clip = read_video(tmp_path / "a.mkv")
    expected = frames if len(shape) == 4 else np.repeat(frames[..., None], 3, axis=3)
    np.testing.assert_array_equal(clip.frames, expected)
    assert clip.fps == NTSC
    assert clip.notices == ()


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(60), Fraction(15)])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "h264")])
def test_the_frame_rate_and_the_frame_count_survive(tmp_path, fps, name, codec):
    write_video(tmp_path / name, picture_sequence(7, 32, 48), fps, codec)
    clip = read_video(tmp_path / name)
    assert (clip.fps, len(clip.frames)) == (fps, 7)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (47, 61), (48, 61)])
def test_h264_looks_like_its_source_in_any_size(tmp_path, size):
    frames = picture_sequence(5, *size)
    write_video(tmp_path / "a.mp4", frames, Fraction(24), "h264")
    clip = read_video(tmp_path / "a.mp4")
    assert clip.frames.shape == frames.shape
    assert np.abs(clip.frames.astype(float) - frames).mean() < 2
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        assert context.pix_fmt == ("yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "h264")])
@pytest.mark.parametrize("size", [(48, 32), (192, 192), (333, 211)])
def test_the_same_frames_give_the_same_file(tmp_path, size, name, codec):
    filmed = read_video(SAMPLE, 0, 8).frames
    frames, random = np.stack([cv2.resize(frame, size) for frame in filmed]), np.random.default_rng(0)
    written = set()
    for _ in range(12):
        # What freed memory holds must not matter: an encoder may read what it never wrote.
        [random.integers(0, 256, random.integers(10_000, 4_000_000), np.uint8) for _ in range(6)]
        write_video(tmp_path / name, frames, NTSC, codec)
        written.add((tmp_path / name).read_bytes())
    assert len(written) == 1


def test_one_frame_is_a_clip(tmp_path):
    frames = picture_sequence(1, 32, 32)
    for name, codec in (("a.mkv", "ffv1"), ("a.mp4", "h264")):
        write_video(tmp_path / name, frames, Fraction(25), codec)
        clip = read_video(tmp_path / name)
        assert clip.frames.shape == frames.shape
        assert clip.fps == 25


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path):
    picture = picture_sequence(1, 20, 30)
    encode(tmp_path / "still.png", picture, "png", "rgb24")
    np.testing.assert_array_equal(read_video(tmp_path / "still.png").frames, picture)


# -------------------------------------------------------------------------------------------- what files contain


def test_probing_tells_what_is_in_the_file(tmp_path):
    path = encode(
        tmp_path / "a.mov",
        picture_sequence(6, 32, 48),
        "prores_ks",
        "yuv422p10le",
        metadata={"timecode": "01:00:00:00"},
    )
    info = probe_video(path)
    assert (info.width, info.height, info.fps, info.frame_count) == (48, 32, 25, 6)
    assert (info.bit_depth, info.has_alpha, info.codec, info.timecode) == (10, False, "prores", "01:00:00:00")
    assert read_video(path).timecode == "01:00:00:00"


def test_the_source_is_named_by_its_content(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, picture_sequence(2, 16, 16), Fraction(25), "ffv1")
    first = read_video(path)
    assert len(first.sha256) == 64
    assert first.sha256 == read_video(path, 1, 1).sha256
    assert first.path == path


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotation_metadata_is_applied(tmp_path, quarter_turns):
    frames = picture_sequence(2, 32, 48)
    path = encode(tmp_path / "phone.mov", frames, "png", "rgb24", quarter_turns=quarter_turns)
    clip = read_video(path)
    with av.open(str(path)) as container:
        counterclockwise = next(container.decode(video=0)).rotation // 90
    np.testing.assert_array_equal(clip.frames, np.rot90(frames, counterclockwise, axes=(1, 2)))
    info = probe_video(path)
    assert (info.height, info.width) == clip.frames.shape[1:3]


def test_a_mirrored_clip_is_shown_mirrored(tmp_path):
    frames = picture_sequence(1, 16, 24)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "rgb24"
        stream.set_display_rotation(0, hflip=True)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[0], format="rgb24")))
        container.mux(stream.encode())
    np.testing.assert_array_equal(read_video(tmp_path / "a.mov").frames, frames[:, :, ::-1])


def test_a_variable_frame_rate_becomes_constant_with_a_notice(tmp_path):
    # 30 per second with gaps: two frames missing after the third, one after the sixth.
    milliseconds = [0, 33, 67, 167, 200, 233, 300, 333]
    path = encode(tmp_path / "a.mp4", picture_sequence(8, 32, 48), "libx264rgb", "rgb24", milliseconds=milliseconds,
                  options={"qp": "0"})  # fmt: skip
    clip = read_video(path)
    assert clip.fps == 30
    assert len(clip.frames) == 11
    expected = picture_sequence(8, 32, 48)[[0, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7]]
    np.testing.assert_array_equal(clip.frames, expected)
    assert any("variable frame rate" in notice for notice in clip.notices)


def test_jitter_of_the_clock_changes_nothing():
    times = [0.0, 0.033, 0.067, 0.1, 0.134, 0.166]
    assert constant_rate(times, [NTSC]) == (NTSC, (0, 1, 2, 3, 4, 5))


def test_ten_bits_become_eight_with_a_notice(tmp_path):
    grey = np.full((32, 48, 3), 128, np.uint8)
    path = encode(tmp_path / "a.mov", [grey, grey], "prores_ks", "yuv422p10le")
    clip = read_video(path)
    assert clip.frames.dtype == np.uint8
    assert peak_error(clip.frames, np.full_like(clip.frames, 128)) <= 2
    assert any("10 bits" in notice for notice in clip.notices)


def test_alpha_goes_over_black_with_a_notice(tmp_path):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., :3] = (200, 100, 50)
    rgba[..., 3] = 255
    rgba[8:, :, 3] = 128
    path = encode(tmp_path / "a.mov", [rgba], "png", "rgba", source_format="rgba")
    clip = read_video(path)
    assert probe_video(path).has_alpha
    np.testing.assert_array_equal(clip.frames[0, 0, 0], [200, 100, 50])
    np.testing.assert_array_equal(clip.frames[0, 15, 0], [100, 50, 25])
    assert any("alpha" in notice for notice in clip.notices)


def test_an_opaque_alpha_channel_needs_no_notice(tmp_path):
    rgba = np.full((16, 16, 4), 255, np.uint8)
    path = encode(tmp_path / "a.mov", [rgba], "png", "rgba", source_format="rgba")
    assert read_video(path).notices == ()


def test_stretched_pixels_get_a_notice(tmp_path):
    path = encode(tmp_path / "a.mp4", picture_sequence(2, 32, 48), "libx264", "yuv420p", aspect=Fraction(4, 3))
    assert any("4:3" in notice for notice in read_video(path).notices)


# Red as ITU-R BT.601 and BT.709 encode it (Y, Cb, Cr), 8 bit, limited and full range.
RED = {("601", "limited"): (81, 90, 240), ("709", "limited"): (63, 102, 240), ("709", "full"): (54, 99, 255)}


@pytest.mark.parametrize(
    ("matrix", "value_range", "height", "tagged"),
    [
        ("601", "limited", 64, True),
        ("709", "limited", 64, True),
        ("709", "full", 64, True),
        ("601", "limited", 64, False),
        ("709", "limited", 720, False),
    ],
)
def test_colours_follow_the_tags_and_untagged_ones_the_size(tmp_path, matrix, value_range, height, tagged):
    planes = [np.full((height, 64), level, np.uint8) for level in RED[matrix, value_range]]
    tags = {"colorspace": {"601": 6, "709": 1}[matrix], "color_range": {"limited": 1, "full": 2}[value_range]}
    path = encode(tmp_path / "red.mkv", [np.concatenate(planes)], "rawvideo", "gray", source_format="gray")
    frame = av.VideoFrame(64, height, "yuv444p")
    for plane, level in zip(frame.planes, RED[matrix, value_range], strict=True):
        plane.update(np.full((height, plane.line_size), level, np.uint8).tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv444p"
        for name, value in tags.items() if tagged else ():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert peak_error(read_video(path).frames[0], np.full((height, 64, 3), (255, 0, 0), np.uint8)) <= 3


# ------------------------------------------------------------------------------------------------- ranges, errors


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"), [("libx264", "yuv420p", "a.mp4"), ("ffv1", "bgr0", "a.mkv")]
)
def test_a_range_holds_the_same_frames_as_the_whole_clip(tmp_path, codec, pixel_format, name):
    options = {"g": "8", "bf": "2"} if codec == "libx264" else {}
    path = encode(tmp_path / name, picture_sequence(30, 32, 48), codec, pixel_format, options=options)
    whole = read_video(path).frames
    for start, count in ((0, 3), (11, 9), (17, 1), (29, 1)):
        clip = read_video(path, start, count)
        np.testing.assert_array_equal(clip.frames, whole[start : start + count])
        assert clip.first_frame == start
    np.testing.assert_array_equal(read_video(path, 25).frames, whole[25:])


@pytest.mark.parametrize(("start", "count"), [(0, 6), (5, 1), (5, None), (-1, 2), (0, 0)])
def test_a_range_outside_the_clip_is_refused(tmp_path, start, count):
    write_video(tmp_path / "a.mkv", picture_sequence(5, 16, 16), Fraction(25), "ffv1")
    with pytest.raises(VideoError, match=r"5 frames \(0 to 4\)"):
        read_video(tmp_path / "a.mkv", start, count)


def test_files_that_are_no_video_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(VideoError, match="There is no file"):
        read_video(tmp_path / "missing.mp4")
    with pytest.raises(VideoError, match="is a folder"):
        read_video(tmp_path)
    for name, content in (("a.mp4", b"not a video at all " * 50), ("a.txt", b"hello\n" * 50), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=r"no video|not a video"):
            read_video(tmp_path / name)
        with pytest.raises(VideoError):
            probe_video(tmp_path / name)


def test_sound_without_picture_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="sound but no picture"):
        read_video(tmp_path / "a.wav")


def test_a_video_track_without_frames_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        container.start_encoding()
    with pytest.raises(VideoError, match="without a single frame"):
        read_video(tmp_path / "a.mkv")
    with pytest.raises(VideoError, match="without a single frame"):
        probe_video(tmp_path / "a.mkv")


@pytest.mark.parametrize("kept", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "faststart.mp4"])
def test_a_cut_off_file_is_an_error_and_not_a_shorter_clip(tmp_path, name, kept):
    codec, pixel_format = ("ffv1", "bgr0") if name.endswith("mkv") else ("libx264", "yuv420p")
    options = {"movflags": "faststart"} if name.startswith("fast") else {}
    noise = np.random.default_rng(3).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    path = encode(tmp_path / name, noise, codec, pixel_format, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(VideoError, match=r"cut off|cannot be decoded"):
        read_video(path)


def test_the_readable_part_of_a_cut_off_file_can_be_used(tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mkv", noise, "ffv1", "bgr0")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    np.testing.assert_array_equal(read_video(path, 0, 5).frames, noise[:5])


def test_a_damaged_frame_is_an_error(tmp_path):
    frames = np.random.default_rng(3).integers(0, 256, (10, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, Fraction(25), "ffv1")
    content = bytearray((tmp_path / "a.mkv").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.mkv").write_bytes(content)
    with pytest.raises(VideoError, match=r"[Ff]rame [45] of"):
        read_video(tmp_path / "a.mkv")


def test_a_clip_larger_than_the_memory_is_refused_with_the_frames_that_fit(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mkv", picture_sequence(10, 16, 16), Fraction(25), "ffv1")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * 16 * 15 * 4))
    with pytest.raises(VideoError, match="--frames 2:6"):
        read_video(tmp_path / "a.mkv", 2)
    assert len(read_video(tmp_path / "a.mkv", 0, 4).frames) == 4


# ------------------------------------------------------------------------------------------------------- writing


def test_a_cancelled_write_leaves_no_file(tmp_path):
    def cancel(progress: Progress) -> None:
        if progress.i == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        write_video(tmp_path / "a.mkv", picture_sequence(5, 16, 16), Fraction(25), "ffv1", cancel)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_no_clip_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="at least one frame"):
        write_video(tmp_path / "a.mkv", picture_sequence(1, 8, 8)[:0], Fraction(25), "ffv1")
    with pytest.raises(ShapeError, match="uint8"):
        write_video(tmp_path / "a.mkv", np.zeros((2, 8, 8, 3)), Fraction(25), "ffv1")
    with pytest.raises(VideoError, match=r"\.mkv"):
        write_video(tmp_path / "a.mp4", picture_sequence(1, 8, 8), Fraction(25), "ffv1")


FULL_DISK = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ex4d.errors import StorageError
from ex4d.video import write_video
path, codec = Path(sys.argv[1]), sys.argv[2]
frames = np.random.default_rng(0).integers(0, 256, (12, 128, 128, 3), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_video(path, frames, Fraction(25), codec)
except StorageError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize("limit", [2000, 100_000])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "h264")])
def test_a_full_disk_is_an_error_and_keeps_the_older_file(tmp_path, name, codec, limit):
    path = tmp_path / name
    write_video(path, picture_sequence(2, 16, 16), Fraction(25), codec)
    before = path.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), codec, str(limit)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 7, result.stderr
    assert "No room to write" in result.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_video(tmp_path / "file" / "a.mkv", picture_sequence(1, 8, 8), Fraction(25), "ffv1")
