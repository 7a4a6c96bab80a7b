# SPDX-License-Identifier: Apache-2.0
"""Plates of numbered pictures, on real files of each format: library, job and command line."""

import json
import zipfile
from fractions import Fraction

import cv2
import numpy as np
import OpenEXR
import pytest

from ex4d.cli import main
from ex4d.errors import InputError, VideoError
from ex4d.jobs import run_job
from ex4d.picture import LINEAR, OTHER_PRIMARIES, ROUNDED, STRETCHED, TRANSPARENT, read_picture
from ex4d.plate import find_pictures, frame_rate, read_plate
from ex4d.shot import read_shot
from ex4d.video import read_video, write_video

HEIGHT, WIDTH = 12, 20


def colours(number: int) -> np.ndarray:
    """A gradient that tells its frame. uint8 [H, W, 3] RGB"""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, WIDTH)
    picture[..., 1] = np.linspace(0, 255, HEIGHT)[:, None]
    picture[..., 2] = 20 * (number % 10)
    return picture


def write(path, picture):
    """Write RGB, RGBA or grey with OpenCV, which keeps BGR."""
    order = {2: slice(None), 3: [2, 1, 0], 4: [2, 1, 0, 3]}[picture.ndim if picture.ndim == 2 else picture.shape[2]]
    assert cv2.imwrite(str(path), picture if picture.ndim == 2 else picture[..., order])
    return path


def write_exr(path, channels, **header):
    known = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(known | header, channels).write(str(path))
    return path


def linear(display):
    """The inverse of the sRGB curve. float32"""
    share = display / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)


def rgb(light, layer=""):
    return {f"{layer}{name}": np.ascontiguousarray(light[..., i]) for i, name in enumerate("RGB")}


@pytest.fixture
def pictures(tmp_path):
    """plate.1001.png to plate.1005.png in a folder of their own."""
    folder = tmp_path / "Müller plates"
    folder.mkdir()
    for number in range(1001, 1006):
        (folder / f"plate.{number}.png").write_bytes(cv2.imencode(".png", colours(number)[..., ::-1])[1].tobytes())
    return folder


# ------------------------------------------------------------------------------------------------------ one picture
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_eight_bits_are_kept_as_they_are(tmp_path, suffix):
    picture, notices = read_picture(write(tmp_path / f"a{suffix}", colours(3)))
    np.testing.assert_array_equal(picture, colours(3))
    assert notices == ()


def test_a_jpeg_looks_like_its_source(tmp_path):
    picture, notices = read_picture(write(tmp_path / "a.JPG", colours(3)))
    assert np.abs(picture.astype(int) - colours(3)).max() < 12
    assert notices == ()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_rounded_and_said(tmp_path, suffix):
    wide = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    picture, notices = read_picture(write(tmp_path / f"a{suffix}", wide))
    assert np.abs(picture - wide / 257).max() <= 0.5
    assert notices == (ROUNDED,)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_scene_linear_exr_gets_the_srgb_curve(tmp_path, kind):
    light = linear(colours(3).astype(np.float64)).astype(kind)
    light[0, 0], light[0, 1], light[0, 2] = 7.5, -0.2, np.nan
    picture, notices = read_picture(write_exr(tmp_path / "a.exr", rgb(light)))
    np.testing.assert_array_equal(picture[1:], colours(3)[1:])
    assert picture[0, :3].tolist() == [[255] * 3, [0] * 3, [0] * 3]
    assert notices == (LINEAR,)


def test_a_float_tiff_is_scene_linear_too(tmp_path):
    picture, notices = read_picture(write(tmp_path / "a.tif", linear(colours(3))))
    np.testing.assert_array_equal(picture, colours(3))
    assert notices == (LINEAR,)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = colours(3)[..., 0]
    for path in (write(tmp_path / "a.png", grey), write_exr(tmp_path / "a.exr", {"Y": linear(grey)})):
        np.testing.assert_array_equal(read_picture(path)[0], np.repeat(grey[..., None], 3, axis=2))


def test_alpha_goes_over_black_and_is_said(tmp_path):
    alpha = np.full((HEIGHT, WIDTH), 128, np.uint8)
    picture, notices = read_picture(write(tmp_path / "a.png", np.dstack([colours(3), alpha])))
    assert np.abs(picture - colours(3) * (128 / 255)).max() <= 0.5
    assert notices == (TRANSPARENT,)
    premultiplied = rgb(linear(colours(3))) | {"A": np.full((HEIGHT, WIDTH), 0.5, np.float32)}
    picture, notices = read_picture(write_exr(tmp_path / "a.exr", premultiplied))
    np.testing.assert_array_equal(picture, colours(3))
    assert notices == (LINEAR, TRANSPARENT)
    opaque = np.dstack([colours(3), np.full_like(alpha, 255)])
    assert read_picture(write(tmp_path / "b.png", opaque))[1] == ()


def test_blenders_multilayer_exr_shows_its_combined_pass(tmp_path):
    layers = rgb(linear(colours(3)), "ViewLayer.Combined.") | rgb(
        np.zeros((HEIGHT, WIDTH, 3), np.float32), "V.Diffuse."
    )
    picture, _ = read_picture(write_exr(tmp_path / "a.exr", layers))
    np.testing.assert_array_equal(picture, colours(3))


@pytest.mark.parametrize(
    ("channels", "fault"),
    [
        (
            rgb(np.zeros((4, 4, 3), np.float32), "a.") | rgb(np.zeros((4, 4, 3), np.float32), "b."),
            "several pictures: a, b",
        ),
        ({"Z": np.zeros((4, 4), np.float32), "N": np.zeros((4, 4), np.float32)}, "no picture, only N, Z"),
        (dict.fromkeys("RGB", np.zeros((4, 4), np.uint32)), "whole numbers"),
    ],
)
def test_an_exr_without_one_picture_is_refused_with_what_it_holds(tmp_path, channels, fault):
    with pytest.raises(VideoError, match=fault):
        read_picture(write_exr(tmp_path / "a.exr", channels))


def test_overscan_is_cut_and_a_crop_lies_on_black(tmp_path):
    light = linear(colours(3))
    window = {
        "displayWindow": (np.array([0, 0], np.int32), np.array([WIDTH - 1, HEIGHT - 1], np.int32)),
        "dataWindow": (np.array([-2, 3], np.int32), np.array([WIDTH - 3, HEIGHT + 2], np.int32)),
    }
    picture, _ = read_picture(write_exr(tmp_path / "a.exr", rgb(light), **window))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(picture[3:, : WIDTH - 2], colours(3)[: HEIGHT - 3, 2:])
    assert not picture[:3].any()
    assert not picture[:, WIDTH - 2 :].any()


def test_other_primaries_and_stretched_pixels_are_said(tmp_path):
    acescg = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)
    path = write_exr(tmp_path / "a.exr", rgb(linear(colours(1))), chromaticities=acescg, pixelAspectRatio=2.0)
    assert read_picture(path)[1] == (LINEAR, OTHER_PRIMARIES, STRETCHED)


# -------------------------------------------------------------------------------------------------------- sequences
@pytest.mark.parametrize("named", ["", "plate.####.png", "plate.%04d.png", "plate.1003.png"])
def test_folder_pattern_and_any_frame_stand_for_the_whole_sequence(pictures, named):
    clip = read_plate(pictures / named, fps=Fraction(25))
    assert clip.frames.shape == (5, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(clip.frames[2], colours(1003))
    assert (clip.fps, clip.first_frame, clip.first_number) == (25, 0, 1001)
    assert clip.notices == ()


def test_a_range_keeps_its_numbers_and_has_a_checksum_of_its_own(pictures):
    clip = read_plate(pictures, 2, 2, fps=Fraction(25))
    np.testing.assert_array_equal(clip.frames, [colours(1003), colours(1004)])
    assert (clip.first_frame, clip.first_number) == (2, 1003)
    assert clip.sha256 != read_plate(pictures).sha256
    assert clip.sha256 == read_plate(pictures / "plate.1001.png", 3, 2, fps=Fraction(25), number_start=1000).sha256


def test_without_a_rate_24_is_assumed_and_said(pictures):
    clip = read_plate(pictures)
    assert clip.fps == 24
    assert "24 frames per second are assumed" in clip.notices[0]


def test_the_same_notice_is_said_once(pictures):
    for number in range(1001, 1006):
        write(pictures / f"plate.{number}.png", colours(number).astype(np.uint16) * 257)
    clip = read_plate(pictures, fps=Fraction(24))
    np.testing.assert_array_equal(clip.frames[4], colours(1005))
    assert clip.notices == (ROUNDED,)


def test_a_gap_is_an_error_that_names_the_first_missing_frame(pictures):
    (pictures / "plate.1003.png").unlink()
    with pytest.raises(VideoError, match=r"Frame 1003 of '.*plate\.####\.png' is missing \(1 of 5 frames are\)"):
        read_plate(pictures)
    assert len(read_plate(pictures, 0, 2).frames) == 2
    assert read_plate(pictures, 3).first_number == 1004


def test_a_frame_of_another_size_is_named(pictures):
    write(pictures / "plate.1004.png", colours(4)[:, :-1])
    with pytest.raises(VideoError, match=r"Frame 1004, 'plate.1004.png', is 19 x 12 pixels, frame 1001 is 20 x 12"):
        read_plate(pictures)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".exr"])
@pytest.mark.parametrize("kept", [0, 40, -20])
def test_an_unreadable_frame_is_named(tmp_path, suffix, kept):
    for number in (1, 2):
        picture = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        path = tmp_path / f"f{number}{suffix}"
        write_exr(path, rgb(linear(picture))) if suffix == ".exr" else write(path, picture)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(VideoError, match=r"Frame 2 cannot be used: .*f2"):
        read_plate(tmp_path)


@pytest.mark.parametrize(("start", "count"), [(0, 6), (5, 1), (-1, 2), (4, 2)])
def test_a_range_outside_the_plate_is_refused(pictures, start, count):
    with pytest.raises(VideoError, match="has the frames 1001 to 1005"):
        read_plate(pictures, start, count)


def test_a_folder_with_several_sequences_or_none_is_refused(pictures, tmp_path):
    (pictures / "._plate.1001.png").write_bytes(b"what macOS leaves on other drives")
    assert len(read_plate(pictures).frames) == 5
    write(pictures / "matte.0001.tif", colours(1))
    with pytest.raises(VideoError, match=r"several sequences: matte\.####\.tif, plate\.####\.png"):
        read_plate(pictures)
    with pytest.raises(VideoError, match="holds no pictures"):
        read_plate(tmp_path)
    with pytest.raises(VideoError, match="There are no pictures"):
        read_plate(pictures / "plate_####.png")


def test_a_still_without_a_number_is_a_plate_of_one_frame(tmp_path):
    clip = read_plate(write(tmp_path / "still.png", colours(2)), fps=Fraction(24))
    assert (clip.frames.shape[0], clip.first_number) == (1, 0)


def test_a_video_is_read_as_before_and_takes_no_rate(tmp_path):
    frames = np.stack([colours(1), colours(2)])
    write_video(tmp_path / "clip_01.mkv", frames, Fraction(30), "ffv1")
    assert find_pictures(tmp_path / "clip_01.mkv") is None
    clip = read_plate(tmp_path / "clip_01.mkv")
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.first_number is None
    with pytest.raises(InputError, match="has its own frame rate"):
        read_plate(tmp_path / "clip_01.mkv", fps=Fraction(25))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        ("12.5", Fraction(25, 2)),
    ],
)
def test_frame_rates_are_read_as_people_write_them(text, rate):
    assert frame_rate(text) == rate


@pytest.mark.parametrize("text", ["", "film", "0", "-24", "1/0", "nan", "1e9"])
def test_what_is_no_frame_rate_is_refused(text):
    with pytest.raises(InputError, match="A frame rate is a number"):
        frame_rate(text)


# ------------------------------------------------------------------------------------------------- job, command line
def archive_of(path, files, packing=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


def test_a_job_takes_the_used_pictures_as_one_archive(pictures, tmp_path):
    files = {f"plate.{n}.png": pictures / f"plate.{n}.png" for n in (1002, 1003, 1004)}
    inputs = {"plate": archive_of(tmp_path / "plate.zip", files)}
    params = {"depth": "preview", "focal_px": 30.0, "fps": "24000/1001", "number_start": 1001}
    params |= {"frame_start": 1, "frame_count": 3, "plate_path": "//server/plate.####.png"}
    (tmp_path / "job").mkdir()
    outputs = run_job("reconstruct", params, inputs, tmp_path / "job", lambda report: None)
    record = json.loads(outputs["shot.json"].read_text(encoding="utf-8"))["plate"]
    assert (record["first_frame"], record["first_number"], record["frame_count"]) == (1, 1002, 3)
    assert (record["fps"], record["path"]) == ("24000/1001", "//server/plate.####.png")
    assert record["sha256"] == read_plate(pictures, 1, 3).sha256
    np.testing.assert_array_equal(read_video(outputs["plate.mkv"]).frames[0], colours(1002))


@pytest.mark.parametrize("name", ["../plate.0001.png", "a/plate.0001.png", "a\\plate.0001.png", "plate.0001.txt", "x/"])
def test_an_archive_with_anything_but_pictures_side_by_side_is_refused(pictures, tmp_path, name):
    inputs = {"plate": archive_of(tmp_path / "plate.zip", {name: pictures / "plate.1001.png"})}
    (tmp_path / "job").mkdir()
    with pytest.raises(VideoError, match="may hold only pictures"):
        run_job("reconstruct", {"depth": "preview"}, inputs, tmp_path / "job", lambda report: None)
    assert not list((tmp_path / "job").iterdir())


def test_a_packed_or_damaged_archive_is_refused(pictures, tmp_path):
    files = {"plate.1001.png": pictures / "plate.1001.png"}
    packed = archive_of(tmp_path / "packed.zip", files, zipfile.ZIP_DEFLATED)
    whole = archive_of(tmp_path / "whole.zip", files)
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:100])
    for plate, fault in ((packed, "is packed"), (tmp_path / "cut.zip", "is damaged")):
        with pytest.raises(VideoError, match=fault):
            run_job("reconstruct", {"depth": "preview"}, {"plate": plate}, tmp_path, lambda report: None)


def test_the_command_line_reconstructs_a_folder_and_numbers_the_depth_alike(pictures, tmp_path, capsys):
    shot = tmp_path / "shot"
    arguments = ["reconstruct", str(pictures), "--out", str(shot), "--depth", "preview", "--fps", "23.976"]
    assert main([*arguments, "--frames", "1:4"]) == 0
    assert "3 frames from 1002, 20x12, 24000/1001 fps" in capsys.readouterr().out
    found = read_shot(shot)
    assert (found.plate.first_number, found.fps) == (1002, Fraction(24000, 1001))
    assert main(["export-depth", str(shot), "--out", str(tmp_path / "depth.####.exr")]) == 0
    assert sorted(file.name for file in tmp_path.glob("depth.*")) == [f"depth.{n}.exr" for n in (1002, 1003, 1004)]


def test_the_command_line_names_the_missing_frame(pictures, tmp_path, capsys):
    (pictures / "plate.1002.png").unlink()
    assert main(["reconstruct", str(pictures), "--out", str(tmp_path / "shot")]) == 2
    assert "Frame 1002" in capsys.readouterr().err
