# SPDX-License-Identifier: Apache-2.0
"""Lens distortion: the four models against what Blender does, and plates that come out straight."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ex4d.camera import CameraPath, write_camera_path
from ex4d.cli import main
from ex4d.distortion import COEFFICIENTS, bending, distorted, lens_distortion, undistorted
from ex4d.errors import InputError
from ex4d.jobs import run_job
from ex4d.shot import read_shot
from ex4d.take import ReconstructOptions, reconstruct
from ex4d.video import read_video, write_video

WIDTH, HEIGHT, FOCAL = 320, 180, 800 / 3
PLACE = f"focal={FOCAL!r},x=167,y=95"
LENSES = {
    "polynomial": f"polynomial:{PLACE},k1=-0.12,k2=0.05,k3=0.01",
    "division": f"division:{PLACE},k1=0.15,k2=0.03",
    "nuke": f"nuke:{PLACE},k1=0.1,k2=0.02",
    "brown": f"brown:{PLACE},k1=-0.1,k2=0.04,k3=0.01,k4=0.02,p1=0.01,p2=-0.02",
}
# Where Blender 4.5.15's compositor (Movie Distortion, Undistort) reads a pixel of a 320 x 180 picture, from a picture
# whose values are its own coordinates; both from the top left edge.
MEASURED = {
    "polynomial": [
        ((20.5, 29.5), (25.8363, 31.8858)),
        ((100.5, 59.5), (101.1161, 59.8289)),
        ((250.5, 39.5), (249.1693, 40.3845)),
        ((60.5, 149.5), (62.8478, 148.2985)),
        ((280.5, 139.5), (277.9116, 138.4852)),
    ],
    "division": [
        ((19.5, 28.5), (27.7553, 32.2219)),
        ((99.5, 58.5), (100.3417, 58.9551)),
        ((249.5, 38.5), (247.7491, 39.6991)),
        ((59.5, 148.5), (62.7977, 146.8588)),
        ((279.5, 138.5), (276.0175, 137.1535)),
    ],
    "nuke": [
        ((75.5, 56.5), (71.3249, 54.7432)),
        ((125.5, 73.5), (125.1333, 73.31)),
        ((219.5, 62.5), (220.3316, 61.9852)),
        ((100.5, 123.5), (99.0183, 124.135)),
        ((238.5, 117.5), (240.2214, 118.0417)),
    ],
    "brown": [
        ((16.5, 24.5), (25.6068, 30.3523)),
        ((96.5, 54.5), (98.1793, 55.8181)),
        ((246.5, 34.5), (245.5765, 36.2362)),
        ((56.5, 144.5), (59.2216, 144.6266)),
        ((276.5, 134.5), (276.6391, 135.3832)),
    ],
}


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_each_model_bends_as_blender_does(model):
    straight, bent = np.array(MEASURED[model]).transpose(1, 0, 2)
    np.testing.assert_allclose(distorted(lens_distortion(LENSES[model]), straight, WIDTH, HEIGHT), bent, atol=3e-4)


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_without_coefficients_nothing_moves(model):
    lens = lens_distortion(f"{model}:{PLACE}")
    bend = bending(lens, WIDTH, HEIGHT)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    np.testing.assert_allclose(bend.source, np.stack([x, y], axis=-1), atol=1e-4)
    assert bend.most_px < 1e-4
    assert bend.unfilmed == 0
    frames = np.random.default_rng(0).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.testing.assert_array_equal(undistorted(frames, bend), frames)


def test_nukes_model_is_the_inverse_of_its_formula():
    lens = lens_distortion(LENSES["nuke"])
    points = np.random.default_rng(0).uniform((0, 0), (WIDTH, HEIGHT), (500, 2))
    bent = (distorted(lens, points, WIDTH, HEIGHT) - (lens.x, lens.y)) / (WIDTH / 2)
    squares = (bent**2).sum(axis=1, keepdims=True)
    back = bent / (1 + lens.k1 * squares + lens.k2 * squares**2) * (WIDTH / 2) + (lens.x, lens.y)
    np.testing.assert_allclose(back, points, atol=1e-4)


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_stretched_pixels_bend_as_the_squeezed_picture(model):
    square = lens_distortion(LENSES[model])
    wide = lens_distortion(f"{LENSES[model].replace('y=95', 'y=190')},aspect=2")
    points = np.random.default_rng(0).uniform((40, 40), (280, 140), (50, 2))
    expected = distorted(square, points, WIDTH, HEIGHT) * (1, 2)
    np.testing.assert_allclose(distorted(wide, points, WIDTH, 2 * HEIGHT), expected, atol=1e-6)


def test_a_model_that_turns_back_far_outside_repeats_no_picture():
    """1 - 0.9 r^2 has its largest radius within the picture's corners: beyond it the picture would come again."""
    lens = lens_distortion("polynomial:focal=200,x=160,y=90,k1=-0.9")
    source = bending(lens, WIDTH, HEIGHT).source[90]
    assert (np.diff(source[:, 0]) > -1e-4).all()


def checker(width, height):
    """Tiles of 20 pixels, softened, so that edges can be found within parts of a pixel. uint8 [H, W, 3]"""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return tiles(x, y)


def tiles(x, y):
    wave = np.sin(np.pi * x / 20) * np.sin(np.pi * y / 20)
    grey = np.rint(127.5 + 100 * wave).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def filmed(lens, width, height):
    """What a lens makes of the tiles: each stored pixel shows the tile that the pinhole has where it bends from."""
    fine = 2
    straight = np.stack(np.meshgrid(np.arange(-60, width + 60, 1 / fine), np.arange(-60, height + 60, 1 / fine)), -1)
    bent = distorted(lens, straight, width, int(height * lens.aspect))
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(int(height * lens.aspect)) + 0.5)
    guess = np.stack([x, y / lens.aspect], axis=-1)
    for _ in range(30):  # a fixed point, independent of the code that undoes it
        back = cv2.remap(
            bent.astype(np.float32),
            *np.moveaxis((guess + 60) * fine, -1, 0).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        guess = guess - (back - np.stack([x, y], axis=-1)) / (1, lens.aspect)
    return tiles(guess[..., 0], guess[..., 1])


@pytest.mark.parametrize("model", COEFFICIENTS)
@pytest.mark.parametrize("aspect", [1.0, 2.0])
def test_a_bent_plate_comes_out_straight(model, aspect):
    lens = lens_distortion(f"{LENSES[model].replace('y=95', f'y={95 * aspect}')},aspect={aspect}")
    plate = filmed(lens, WIDTH, HEIGHT)
    assert plate.shape == (int(HEIGHT * aspect), WIDTH, 3)
    bend = bending(lens, WIDTH, len(plate))
    straight = undistorted(plate[None], bend)[0]
    assert straight.shape == (HEIGHT, WIDTH, 3)
    is_filmed = ((bend.source > 4) & (bend.source < (WIDTH - 4, len(plate) - 4))).all(axis=-1)[:: bend.rows]
    assert is_filmed.mean() > 0.7
    difference = np.abs(straight.astype(int) - checker(WIDTH, HEIGHT))[is_filmed]
    assert difference.mean() < 1
    assert difference.max() <= 6


def test_what_was_never_filmed_is_told_and_repeats_the_edge():
    lens = lens_distortion("polynomial:focal=200,x=160,y=90,k1=0.2")
    bend = bending(lens, WIDTH, HEIGHT)
    assert 0.1 < bend.unfilmed < 0.5
    frames = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, :3] = 200
    assert undistorted(frames, bend)[0, 90, 0].tolist() == [200] * 3


# ------------------------------------------------------------------------------------------------------------- as text
@pytest.mark.parametrize("model", COEFFICIENTS)
def test_a_lens_survives_being_told(model):
    lens = lens_distortion(f"{LENSES[model]},aspect=1.25")
    assert lens_distortion(str(lens)) == lens
    assert lens.height(100) == 80


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fisheye:k1=1", "begins with its model"),
        ("", "begins with its model"),
        ("division:focal=1,x=1,y=1,k3=1", "'k3' is nothing of a division lens: it has k1, k2"),
        ("nuke:focal=1,x=1", "needs focal, x and y"),
        ("nuke:focal=1,x=1,y=nan", "finite numbers"),
        ("nuke:focal=one,x=1,y=1", "focal must be a number"),
        ("nuke:focal=0,x=1,y=1", "above zero"),
        ("nuke:focal=1,x=1,y=1,aspect=0", "above zero"),
    ],
)
def test_what_is_no_lens_is_refused(text, fault):
    with pytest.raises(InputError, match=fault):
        lens_distortion(text)


# ----------------------------------------------------------------------------------------------------------- the method
@pytest.fixture
def plate(tmp_path):
    """A bent plate, and what a pinhole with the same lens would have filmed."""
    lens = lens_distortion(LENSES["polynomial"])
    write_video(tmp_path / "plate.mkv", np.stack([filmed(lens, WIDTH, HEIGHT)] * 2), Fraction(24), "ffv1")
    return tmp_path / "plate.mkv"


def source_camera(path, focal, x, y):
    intrinsics = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])
    poses = np.tile(np.eye(4), (2, 1, 1))
    write_camera_path(path, CameraPath(poses, np.tile(intrinsics, (2, 1, 1)), WIDTH, HEIGHT, np.arange(2)))
    return path


def test_a_shot_with_its_solved_camera_keeps_the_principal_point(plate, tmp_path):
    camera = source_camera(tmp_path / "camera.npz", FOCAL, 167, 95)
    options = ReconstructOptions(
        depth="preview", source_camera=camera, lens_distortion=lens_distortion(LENSES["polynomial"])
    )
    shot = reconstruct(plate, options)
    assert np.abs(shot.frames[0, 8:-8, 8:-8].astype(int) - checker(WIDTH, HEIGHT)[8:-8, 8:-8]).max() <= 6
    assert shot.intrinsics[:2, 2].tolist() == [167, 95]
    assert shot.plate.lens_distortion == str(lens_distortion(LENSES["polynomial"]))
    assert any("distortion (polynomial) was undone, by up to 9.0 pixels" in notice for notice in shot.notices)


def test_without_a_solved_camera_the_axis_comes_to_the_middle_and_the_lens_is_the_distortions(plate):
    shot = reconstruct(
        plate, ReconstructOptions(depth="preview", lens_distortion=lens_distortion(LENSES["polynomial"]))
    )
    assert shot.intrinsics.tolist() == [[FOCAL, 0, 160], [0, FOCAL, 90], [0, 0, 1]]
    moved = checker(WIDTH + 7, HEIGHT + 5)[5:, 7:]  # by where the principal point was
    assert np.abs(shot.frames[0, 12:-12, 12:-12].astype(int) - moved[12:-12, 12:-12]).max() <= 6


def test_another_lens_than_the_distortions_is_told(plate):
    lens = lens_distortion(LENSES["polynomial"])
    shot = reconstruct(plate, ReconstructOptions(depth="preview", lens_distortion=lens, focal_px=300.0))
    assert any("differs from the one whose distortion was undone (266.7 px)" in notice for notice in shot.notices)


def test_a_job_undoes_it_and_the_shot_remembers_with_what(plate, tmp_path):
    (tmp_path / "job").mkdir()
    wide = f"{LENSES['polynomial'].replace('y=95', 'y=90')},aspect=1.5"
    params = {"depth": "preview", "lens_distortion": wide}
    outputs = run_job("reconstruct", params, {"plate": plate}, tmp_path / "job", lambda report: None)
    record = json.loads(outputs["shot.json"].read_text(encoding="utf-8"))
    assert record["plate"]["lens_distortion"] == str(lens_distortion(wide))
    assert "Pixels were made square: 320 x 180 became 320 x 120." in record["notices"]
    assert read_video(outputs["plate.mkv"]).frames.shape[1:3] == (120, 320)
    assert read_shot(outputs["shot.json"].parent).plate.lens_distortion == record["plate"]["lens_distortion"]


def test_depth_from_a_file_is_said_to_fit_the_undistorted_plate(plate, tmp_path):
    np.savez(tmp_path / "z.npz", depth=np.full((2, HEIGHT, WIDTH), 4.0, np.float32))
    options = ReconstructOptions(
        depth="file", depth_file=tmp_path / "z.npz", lens_distortion=lens_distortion(LENSES["division"])
    )
    assert "The depth file is taken to fit the undistorted plate." in reconstruct(plate, options).notices


def test_the_command_line_undoes_it(plate, tmp_path, capsys):
    arguments = ["reconstruct", str(plate), "--out", str(tmp_path / "shot"), "--depth", "preview"]
    assert main([*arguments, "--lens-distortion", LENSES["brown"]]) == 0
    assert "distortion (brown) was undone" in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--lens-distortion", "brown:k1=0.1"]) == 2
    assert "needs focal, x and y" in capsys.readouterr().err
