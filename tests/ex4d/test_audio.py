# SPDX-License-Identifier: Apache-2.0
"""The plate's sound and timecode, from the filmed file through the shot into the result."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ex4d.audio import Audio, read_audio
from ex4d.camera import CameraPath
from ex4d.finish import playback
from ex4d.shot import read_shot, write_shot
from ex4d.take import ReconstructOptions, generate_take, plate_sound, reconstruct, render_take
from ex4d.timecode import shifted
from ex4d.video import read_video, write_video

COUNT, HEIGHT, WIDTH = 24, 32, 48
FPS = Fraction(24000, 1001)
RATE = 48000
CLICK = 12  # the frame during which it clicks


def clicking(channels=2, dtype=np.int16):
    samples = np.zeros((round(COUNT / FPS * RATE), channels), dtype)
    first = round(CLICK / FPS * RATE)
    samples[first : first + 1000] = np.iinfo(dtype).max // 3
    samples[first : first + 1000 : 2] *= -1
    return Audio(samples, RATE, {1: "mono", 2: "stereo", 6: "5.1"}.get(channels, f"{channels} channels"))


def heard_at(audio):
    """The frame during which it becomes loud."""
    loud = np.abs(audio.samples[:, 0].astype(float)) > np.abs(audio.samples.astype(float)).max() / 2
    return int(np.argmax(loud) / RATE * FPS)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(params=["plate.mkv", "plate.mp4"])
def plate(request, tmp_path, frames):
    path = tmp_path / request.param
    write_video(path, frames, FPS, "ffv1" if path.suffix == ".mkv" else "h264", None, None, clicking(), "10:00:00:00")
    return path


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize("channels", [1, 2, 6, 7])
def test_lossless_sound_comes_back_sample_by_sample(tmp_path, frames, channels, dtype):
    audio = clicking(channels, dtype)
    write_video(tmp_path / "a.mkv", frames, FPS, "ffv1", audio=audio)
    back = read_audio(tmp_path / "a.mkv", 0, COUNT, FPS)
    np.testing.assert_array_equal(back.samples, audio.samples)
    assert (back.rate, back.layout) == (RATE, audio.layout)
    np.testing.assert_array_equal(read_video(tmp_path / "a.mkv").frames, frames)
    write_video(tmp_path / "a.mp4", frames, FPS, "h264", audio=back)
    assert read_audio(tmp_path / "a.mp4", 0, COUNT, FPS).samples.shape[1] == {7: 2}.get(channels, channels)


def test_the_sound_of_a_run_of_frames_is_cut_at_them(plate):
    cut = read_audio(plate, 7, 10, FPS)
    assert len(cut.samples) == round(10 / FPS * RATE)
    assert heard_at(cut) == CLICK - 7
    assert heard_at(clicking().of_frames(7, 10, FPS)) == CLICK - 7


def test_a_plate_without_sound_has_none(tmp_path, frames):
    write_video(tmp_path / "a.mp4", frames, FPS, "h264")
    assert read_audio(tmp_path / "a.mp4", 0, COUNT, FPS) is None


def test_sound_of_an_unknown_codec_does_not_stop_the_shot(tmp_path, frames):
    write_video(tmp_path / "known.mkv", frames, FPS, "ffv1", audio=clicking())
    content = (tmp_path / "known.mkv").read_bytes()
    assert content.count(b"A_PCM/INT/LIT") == 1
    (tmp_path / "plate.mkv").write_bytes(content.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT"))
    audio, notices = plate_sound(read_video(tmp_path / "plate.mkv"))
    assert audio is None
    assert "cannot be decoded" in notices[0]
    assert "goes on without it" in notices[0]


def still(count, source_frame):
    lens = np.array([[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]])
    return CameraPath(np.tile(np.eye(4), (count, 1, 1)), np.tile(lens, (count, 1, 1)), WIDTH, HEIGHT, source_frame)


def test_sound_and_timecode_reach_the_result(plate, tmp_path):
    shot = reconstruct(plate, ReconstructOptions(depth="preview", focal_px=50, frame_start=4))
    write_shot(tmp_path / "shot", shot)
    shot = read_shot(tmp_path / "shot")
    assert heard_at(shot.audio) == CLICK - 4
    cameras = still(10, np.arange(3, 13))
    take, conditioning = render_take(tmp_path / "shot", shot, "still", cameras)
    finished = generate_take(tmp_path / "shot", shot, take, cameras, conditioning)
    assert not any("sound" in notice for notice in finished.all_notices)
    for name in ("result.mp4", "result.mkv"):
        result = tmp_path / "shot/takes/still" / name
        clip = read_video(result)
        assert (clip.fps, clip.timecode) == (FPS, "10:00:00:07")
        sound = read_audio(result, 0, 10, FPS)
        assert len(sound.samples) == round(10 / FPS * RATE)
        assert heard_at(sound) == CLICK - 7


@pytest.mark.parametrize("source_frame", [[0, 0, 0], [2, 1, 0], [0, 2, 4]])
def test_a_take_that_changes_time_is_silent_and_says_so(plate, source_frame):
    shot = reconstruct(plate, ReconstructOptions(depth="preview", focal_px=50))
    audio, timecode, notices = playback(shot, still(3, source_frame))
    assert audio is None
    assert "sound was left out" in notices[0]
    assert timecode == f"10:00:00:{source_frame[0]:02}"


@pytest.mark.parametrize(
    ("timecode", "frames", "fps", "later"),
    [
        ("01:00:00:00", 25, Fraction(25), "01:00:01:00"),
        ("23:59:59:23", 1, Fraction(24000, 1001), "00:00:00:00"),
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:00;00", 17982, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("12:34", 1, Fraction(24), None),
        ("00:00:00:24", 1, Fraction(24), None),
    ],
)
def test_a_later_frames_timecode(timecode, frames, fps, later):
    assert shifted(timecode, frames, fps) == later


@given(st.integers(0, 200_000), st.integers(0, 5000), st.sampled_from([":", ";"]))
def test_shifting_a_timecode_twice_is_shifting_it_at_once(first, second, mark):
    fps = Fraction(30000, 1001)
    start = f"00:00:00{mark}00"
    assert shifted(shifted(start, first, fps), second, fps) == shifted(start, first + second, fps)
