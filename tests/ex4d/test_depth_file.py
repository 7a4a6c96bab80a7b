# SPDX-License-Identifier: Apache-2.0
"""Depth as pictures: EXR with every renderer's channel names, 16-bit PNG, numbered sequences, and their scale."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest

from ex4d.cli import main
from ex4d.depth import DisparityClip, SourceOptions, depth_source
from ex4d.depth.file_pictures import write_depth_exr, write_depth_sequence
from ex4d.errors import DepthError
from ex4d.jobs import run_job
from ex4d.shot import read_shot
from ex4d.video import Clip, write_video

COUNT, HEIGHT, WIDTH = 4, 18, 25


def clip_of(count: int = COUNT, first_frame: int = 0) -> Clip:
    frames = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    return Clip(frames, Fraction(25), first_frame, Path("plate.mov"), "0" * 64, None, ())


def read(path: Path, clip: Clip | None = None, **options):
    return depth_source("file", SourceOptions(path, **options)).estimate(clip or clip_of())


def write_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, channels).write(str(path))


@pytest.fixture
def depth() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 20, (COUNT, HEIGHT, WIDTH)).astype(np.float32)


@pytest.fixture
def sequence(tmp_path, depth) -> Path:
    for n, plane in enumerate(depth):
        write_depth_exr(tmp_path / f"depth.{1001 + n}.exr", plane)
    return tmp_path


# ----------------------------------------------------------------------------------------------------------- EXR


def test_an_exr_sequence_comes_back_exactly_by_pattern_or_by_any_of_its_frames(sequence, depth):
    for name in ("depth.####.exr", "depth.%04d.exr", "depth.1001.exr", "depth.1003.exr"):
        result = read(sequence / name)
        np.testing.assert_array_equal(result.depth, depth)
        assert result.kind == "metric"
        assert result.sky is None


@pytest.mark.parametrize(
    "name", ["Z", "depth.Z", "ViewLayer.Depth.Z", "ViewLayer.Depth.V", "R", "V", "depth", "RenderLayer.Depth.R"]
)
def test_the_depth_channel_is_found_under_every_renderers_name(tmp_path, depth, name):
    colour = depth[0].astype(np.float16)
    others = {} if name in {"R", "V"} else {"ViewLayer.Combined.R": colour, "ViewLayer.Normal.Z": colour}
    write_exr(tmp_path / "a.exr", {name: depth[0], **others})
    np.testing.assert_array_equal(read(tmp_path / "a.exr", clip_of(1)).depth, depth[:1])


def test_a_part_of_a_multi_part_exr_is_found_by_its_name(tmp_path, depth):
    colour = np.ones((HEIGHT, WIDTH), np.float16)
    parts = [
        OpenEXR.Part({"name": "beauty"}, {"R": colour, "G": 2 * colour, "B": colour}),
        OpenEXR.Part({"name": "depth"}, {"Z": depth[0]}),
    ]
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(read(tmp_path / "a.exr", clip_of(1)).depth, depth[:1])


def test_an_unclear_exr_lists_its_channels_and_a_layer_chooses(tmp_path, depth):
    write_exr(tmp_path / "two.exr", {"near.Depth.Z": depth[0], "far.Depth.Z": depth[1]})
    with pytest.raises(DepthError, match=r"several depths: far\.Depth\.Z, near\.Depth\.Z"):
        read(tmp_path / "two.exr", clip_of(1))
    for layer in ("far.Depth", "far.Depth.Z"):
        result = read(tmp_path / "two.exr", clip_of(1), values={"layer": layer})
        np.testing.assert_array_equal(result.depth, depth[1:2])
    with pytest.raises(DepthError, match="no single depth in the layer 'fog'"):
        read(tmp_path / "two.exr", clip_of(1), values={"layer": "fog"})
    write_exr(tmp_path / "colour.exr", {"R": depth[0], "G": depth[1], "B": depth[2]})
    with pytest.raises(DepthError, match="Z pass"):
        read(tmp_path / "colour.exr", clip_of(1))


def test_blenders_z_pass_is_a_source_of_its_own_and_refuses_what_it_is_not(tmp_path, depth):
    colour = depth[0].astype(np.float16)
    for n, plane in enumerate(depth):
        channels = {"ViewLayer.Combined.R": colour, "ViewLayer.Normal.Z": colour, "ViewLayer.Depth.Z": plane}
        write_exr(tmp_path / f"render.{n + 1:04d}.exr", channels)
    pattern = tmp_path / "render.####.exr"
    found = depth_source("blender", SourceOptions(pattern)).estimate(clip_of())
    np.testing.assert_array_equal(found.depth, depth)
    assert found.source == "Blender Z pass render.####.exr"
    with pytest.raises(DepthError, match="OpenEXR"):
        depth_source("blender", SourceOptions(tmp_path / "z.png"))
    with pytest.raises(DepthError, match="holds z, got the kind 'disparity'"):
        depth_source("blender", SourceOptions(pattern, depth_kind="disparity"))
    with pytest.raises(DepthError, match="no option invert"):
        depth_source("blender", SourceOptions(pattern, values={"invert": "yes"}))


@pytest.mark.parametrize(
    ("nothing", "dtype"), [(1e10, np.float32), (np.inf, np.float32), (65504, np.float16), (np.inf, np.float16)]
)
def test_where_a_render_met_nothing_is_sky_behind_everything(tmp_path, depth, nothing, dtype):
    plane = depth[0].astype(dtype)
    plane[:5] = nothing
    write_exr(tmp_path / "a.exr", {"Z": plane})
    result = read(tmp_path / "a.exr", clip_of(1), values={"scale": "0.01"})
    np.testing.assert_array_equal(result.sky[0], np.arange(HEIGHT)[:, None] * np.ones(WIDTH) < 5)
    surfaces = result.depth[~result.sky]
    np.testing.assert_allclose(surfaces, 0.01 * plane[5:].astype(np.float32).ravel(), rtol=1e-6)
    assert (result.depth[result.sky] == 4 * surfaces.max()).all()
    assert any("no surface" in notice for notice in result.notices)
    write_exr(tmp_path / "b.exr", {"Z": np.full_like(plane, nothing)})
    with pytest.raises(DepthError, match="no surface at all"):
        read(tmp_path / "b.exr", clip_of(1))


def test_damaged_exr_files_are_refused(tmp_path, depth):
    write_depth_exr(tmp_path / "a.exr", depth[0])
    (tmp_path / "b.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:-200])
    (tmp_path / "c.exr").write_bytes(b"no exr")
    for name in ("b.exr", "c.exr"):
        with pytest.raises(DepthError, match=r"damaged|cannot be read"):
            read(tmp_path / name, clip_of(1))
    write_exr(tmp_path / "d.exr", {"Z": depth[0].astype(np.uint32)})
    with pytest.raises(DepthError, match="float or half"):
        read(tmp_path / "d.exr", clip_of(1))


# ----------------------------------------------------------------------------------------------------------- PNG


def test_a_png_sequence_with_one_side_file_for_all_gives_inverse_depth(tmp_path, depth):
    values = np.rint(65535 / depth / 1.25).astype(np.uint16)
    for n in range(COUNT):
        cv2.imwrite(str(tmp_path / f"d_{n:03}.png"), values[n])
    (tmp_path / "d.json").write_text(json.dumps({"kind": "inverse", "scale": 1.25}))
    result = read(tmp_path / "d_###.png")
    np.testing.assert_allclose(1 / result.depth, values / 65535 * 1.25, rtol=1e-6)


def test_grey_saved_as_colour_is_read_and_real_colour_or_eight_bits_are_refused(tmp_path, depth):
    grey = (depth[0] * 1000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(read(tmp_path / "a.png", clip_of(1)).depth[0], grey)
    cv2.imwrite(str(tmp_path / "b.png"), np.stack([grey, grey, grey // 2], axis=2))
    cv2.imwrite(str(tmp_path / "c.png"), (grey >> 8).astype(np.uint8))
    (tmp_path / "d.png").write_bytes(b"no png")
    for name, message in (("b.png", "colour picture"), ("c.png", "8 bits"), ("d.png", "damaged")):
        with pytest.raises(DepthError, match=message):
            read(tmp_path / name, clip_of(1))


def test_near_far_and_invert_say_what_black_and_white_mean(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, WIDTH).astype(np.uint16), (HEIGHT, 1))
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    share = ramp / 65535
    ends = {"near": "2", "far": "10"}
    z = read(tmp_path / "a.png", clip_of(1), values=ends).depth[0]
    np.testing.assert_allclose(z, 2 + 8 * share, rtol=1e-5)
    z = read(tmp_path / "a.png", clip_of(1), values={**ends, "invert": "yes"}).depth[0]
    np.testing.assert_allclose(z, 10 - 8 * share, rtol=1e-5)
    z = read(tmp_path / "a.png", clip_of(1), depth_kind="inverse", values=ends).depth[0]
    np.testing.assert_allclose(1 / z, 0.1 + 0.4 * share, rtol=1e-5)
    inverted = read(tmp_path / "a.png", clip_of(1), depth_kind="disparity", values={"invert": "yes"})
    assert isinstance(inverted, DisparityClip)
    np.testing.assert_allclose(inverted.disparity[0], 1 - share, atol=1e-6)


def test_scale_and_shift_change_the_numbers_themselves(tmp_path, depth):
    cv2.imwrite(str(tmp_path / "a.png"), (depth[0] * 1000).astype(np.uint16))
    z = read(tmp_path / "a.png", clip_of(1), values={"scale": "0.001", "shift": "0.5"}).depth[0]
    np.testing.assert_allclose(z, depth[0] + 0.5, atol=1.1e-3)
    with pytest.raises(DepthError, match="not both"):
        read(tmp_path / "a.png", clip_of(1), values={"near": "1", "far": "2", "scale": "2"})


def test_wrong_options_say_what_was_expected(tmp_path, depth):
    np.save(tmp_path / "a.npy", depth)
    for values, message in (
        ({"near": "1"}, "0 < near < far together"),
        ({"near": "1", "far": "5"}, "what 0 and 1 mean, but 'a.npy' holds 1"),
        ({"scale": "big"}, "scale must be a number"),
        ({"invert": "maybe"}, "yes or no"),
        ({"layer": "Z"}, "layer and start are for"),
        ({"gamma": "2"}, r"no option gamma: it takes scale, shift"),
        ({"shift": "-5"}, "negative"),
    ):
        with pytest.raises(DepthError, match=message):
            read(tmp_path / "a.npy", values=values)


# ----------------------------------------------------------------------------------------------------- sequences


def test_a_sequence_of_the_whole_plate_is_matched_to_the_frames_used(sequence, depth):
    part = clip_of(2, first_frame=1)
    result = read(sequence / "depth.####.exr", part)
    np.testing.assert_array_equal(result.depth, depth[1:3])
    assert "frames 1 to 2 comes from depth.1002.exr to depth.1003.exr" in result.notices[0]
    np.testing.assert_array_equal(read(sequence / "depth.####.exr", clip_of(1, first_frame=2)).depth, depth[2:3])
    # A sequence of exactly the frames used belongs to them, whatever their numbers.
    np.testing.assert_array_equal(read(sequence / "depth.####.exr", clip_of(4, first_frame=7)).depth, depth)
    shifted = read(sequence / "depth.####.exr", part, values={"start": "1000"})
    np.testing.assert_array_equal(shifted.depth, depth[:2])


def test_the_depth_of_numbered_pictures_has_their_numbers(sequence, depth):
    for n in range(1005, 1009):  # a longer sequence that begins before the plate's pictures do
        write_depth_exr(sequence / f"depth.{n}.exr", depth[0] + 100)
    numbered = dataclasses.replace(clip_of(2, first_frame=0), first_number=1003)
    np.testing.assert_array_equal(read(sequence / "depth.####.exr", numbered).depth, depth[2:4])
    elsewhere = dataclasses.replace(clip_of(2, first_frame=1), first_number=1)
    np.testing.assert_array_equal(read(sequence / "depth.####.exr", elsewhere).depth, depth[1:3])
    told = read(sequence / "depth.####.exr", numbered, values={"start": "1002"})
    np.testing.assert_array_equal(told.depth, depth[1:3])


def test_one_named_still_among_versions_is_that_still(sequence, depth):
    np.testing.assert_array_equal(read(sequence / "depth.1003.exr", clip_of(1)).depth, depth[2:3])


def test_missing_files_of_a_sequence_are_named(sequence):
    (sequence / "depth.1002.exr").unlink()
    with pytest.raises(DepthError, match=r"3 files, 1001 to 1004.*need 1001 to 1004: 1 are missing, the first is 1002"):
        read(sequence / "depth.####.exr")
    with pytest.raises(DepthError, match="start=N"):
        read(sequence / "depth.####.exr", clip_of(9))
    for name in ("fog.####.exr", "fog.exr"):
        with pytest.raises(DepthError, match=r"There (are|is) no"):
            read(sequence / name)


def test_pictures_of_one_sequence_are_alike(sequence):
    write_depth_exr(sequence / "depth.1003.exr", np.ones((HEIGHT, 7), np.float32))
    with pytest.raises(DepthError, match=r"'depth.1003.exr' is float32 of 7 x 18 pixels"):
        read(sequence / "depth.####.exr")


def test_a_video_or_array_of_the_whole_plate_is_matched_too(tmp_path, depth):
    np.savez(tmp_path / "a.npz", depth=depth, sky=depth > 15)
    result = read(tmp_path / "a.npz", clip_of(2, first_frame=1))
    np.testing.assert_array_equal(result.depth, depth[1:3])
    np.testing.assert_array_equal(result.sky, depth[1:3] > 15)
    assert any("4 frames; those of the plate's frames 1 to 2" in notice for notice in result.notices)
    millimetres = (depth * 1000).astype(np.uint16)
    write_video(tmp_path / "a.mkv", millimetres, Fraction(25), "ffv1")
    np.testing.assert_array_equal(read(tmp_path / "a.mkv", clip_of(2, first_frame=2)).depth, millimetres[2:])


# ------------------------------------------------------------------------------------------------------ other sizes


def slope(height: int, width: int) -> np.ndarray:
    """An inclined plane as a camera of any resolution sees it. z float32 [1, H, W]"""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return (1 / (0.1 + 0.3 * y[:, None] + 0.05 * x)).astype(np.float32)[None]


@pytest.mark.parametrize("factor", [0.5, 2, 3])
@pytest.mark.parametrize("kind", ["z", "ray", "disparity"])
def test_a_plane_at_another_size_is_the_same_plane_and_it_is_said(tmp_path, factor, kind):
    small = slope(round(HEIGHT * factor), round(24 * factor))
    clip = dataclasses.replace(clip_of(1), frames=np.zeros((1, HEIGHT, 24, 3), np.uint8))
    numbers = {"z": small, "ray": small * ray_length(small.shape[1:], 20 * factor), "disparity": 1 / small}[kind]
    np.savez(tmp_path / "a.npz", depth=numbers, sky=small > 5)
    result = read(tmp_path / "a.npz", clip, depth_kind=kind, focal_px=20.0, values={"resize": "yes"})
    inverse = result.disparity if kind == "disparity" else 1 / result.depth
    inner = np.s_[:, 2:-2, 2:-2]
    # The nearest pixel lies up to half a new pixel beside.
    np.testing.assert_allclose(inverse[inner], 1 / slope(HEIGHT, 24)[inner], atol=1e-6 if factor < 1 else 0.012)
    assert result.sky.shape == (1, HEIGHT, 24)
    assert any("to the plate's 24 x 18 pixels" in notice for notice in result.notices)


def ray_length(shape: tuple[int, int], focal_px: float) -> np.ndarray:
    y, x = ((np.arange(side) + 0.5 - side / 2) / focal_px for side in shape)
    return np.sqrt(1 + x**2 + y[:, None] ** 2)


def test_another_shape_is_no_other_size(tmp_path, depth):
    np.save(tmp_path / "a.npy", depth[:, :10])
    with pytest.raises(DepthError, match="resize=yes"):
        read(tmp_path / "a.npy")
    with pytest.raises(DepthError, match="25 x 10 pixels, the plate 25 x 18: that is another shape"):
        read(tmp_path / "a.npy", values={"resize": "yes"})
    np.save(tmp_path / "b.npy", depth)
    np.testing.assert_array_equal(read(tmp_path / "b.npy", values={"resize": "yes"}).depth, depth)


# ---------------------------------------------------------------------------------------------------- the way back


def test_depth_that_was_exported_and_corrected_replaces_its_source_exactly(tmp_path, capsys):
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_video(tmp_path / "plate.mkv", frames, Fraction(25), "ffv1")
    plate, shot, pattern = str(tmp_path / "plate.mkv"), tmp_path / "shot", str(tmp_path / "fix" / "depth.####.exr")
    assert main(["reconstruct", plate, "--out", str(shot), "--depth", "preview", "--frames", "1:4"]) == 0
    assert main(["export-depth", str(shot), "--out", pattern]) == 0
    assert "3 files, depth.0001.exr to depth.0003.exr" in capsys.readouterr().out
    guessed = read_shot(shot).depth
    corrected = guessed[1].copy()
    corrected[4:9, 6:12] = 1.75
    write_depth_exr(tmp_path / "fix" / "depth.0002.exr", corrected)
    assert main(["reconstruct", plate, "--out", str(shot), "--depth-file", pattern, "--frames", "1:4"]) == 0
    np.testing.assert_array_equal(read_shot(shot).depth, [guessed[0], corrected, guessed[2]])


@pytest.mark.parametrize("name", ["depth.exr", "depth.####.png"])
def test_depth_is_exported_under_numbered_exr_names_only(tmp_path, depth, name):
    with pytest.raises(DepthError, match=r"such as depth\.####\.exr"):
        write_depth_sequence(tmp_path / name, depth)


def test_a_job_takes_numbered_pictures_tracked_points_and_options(tmp_path, depth):
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_video(tmp_path / "plate.mkv", frames, Fraction(25), "ffv1")
    np.savez(tmp_path / "points.npz", points=[[0, 2.5, 3.5, depth[0, 3, 2]], [3, 20.5, 9.5, depth[3, 9, 20]]])
    inputs = {"plate": tmp_path / "plate.mkv", "depth_points": tmp_path / "points.npz"}
    for n, plane in enumerate(7 / depth - 2):  # its scale and offset are lost
        inputs[f"depth-{n:04}"] = tmp_path / f"disparity.{n:04}.exr"
        write_depth_exr(inputs[f"depth-{n:04}"], -plane)
    (tmp_path / "work").mkdir()
    params = {"depth": "file", "depth_kind": "disparity", "depth_options": {"scale": "-1"}}
    files = run_job("reconstruct", params, inputs, tmp_path / "work", lambda report: None)
    with np.load(files["depth.npz"], allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["depth"], depth, rtol=1e-4)
