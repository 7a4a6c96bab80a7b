# SPDX-License-Identifier: Apache-2.0
"""Coverage: what is measured of a take, and what an artist is told about it."""

import json

import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.cli import main
from ex4d.conditioning import render_conditioning
from ex4d.coverage import Coverage, coverage
from ex4d.errors import ShapeError
from ex4d.trajectory import camera_move

WIDTH, HEIGHT = 48, 36
INTRINSICS = pinhole_intrinsics(60, WIDTH, HEIGHT)
FRAMES = np.full((5, HEIGHT, WIDTH, 3), 90, np.uint8)
WALL = np.full((5, HEIGHT, WIDTH), 8, np.float32)


def measured(move, depth=WALL):
    cameras = camera_move(move, depth[0], INTRINSICS, WIDTH, HEIGHT, len(depth))
    drawn = render_conditioning(FRAMES, depth, INTRINSICS, "exact", cameras)
    return coverage(drawn.mask, drawn.depth, cameras)


def test_the_share_is_told_frame_by_frame_with_the_worst_one():
    mask = np.ones((3, HEIGHT, WIDTH), bool)
    mask[1, : HEIGHT // 2] = False
    still = CameraPath(np.tile(np.eye(4), (3, 1, 1)), np.tile(INTRINSICS, (3, 1, 1)), WIDTH, HEIGHT, np.zeros(3))
    found = coverage(mask, np.full(mask.shape, 4, np.float32), still)
    assert found.unseen == (0, 0.5, 0)
    assert (found.mean, found.worst, found.worst_frame) == (pytest.approx(1 / 6), 0.5, 1)
    assert found.parallax_deg == (0, 0, 0)


def test_an_orbit_has_the_parallax_of_its_angle_and_a_pan_has_none():
    orbit = measured("orbit:angle=20,ease=linear,pivot=8")
    assert orbit.parallax_deg == pytest.approx([0, 5, 10, 15, 20], rel=0.06, abs=1e-6)
    assert measured("pan:angle=20").parallax_deg == pytest.approx([0] * 5, abs=1e-5)
    assert measured("dolly:distance=0.3").mean_parallax_deg < 5


def test_a_frame_that_shows_nothing_has_no_parallax():
    lost = measured("pan:angle=170")
    assert lost.unseen[-1] == 1
    assert lost.parallax_deg[-1] == 0
    assert lost.verdict.startswith("Loses the plate: ")


@pytest.mark.parametrize(
    ("unseen", "parallax", "words"),
    [
        ((0.0, 0.08), 5, "Good: 4% of the picture, 8% at worst is to paint."),
        ((0.0, 0.3), 5, "Needs painting of 15% of the picture, 30% at worst."),
        ((0.5, 0.6), 5, "Mostly painted: 55% of the picture, 60% at worst. Stay nearer to the source view"),
        ((0.1, 1.0), 5, "Loses the plate: 55% of the picture, 100% at worst is to paint. Shorten the move"),
        ((0.0, 0.3), 41, "30% at worst. Surfaces are seen from up to 41 degrees aside and will look stretched."),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(unseen, parallax, words):
    assert words in Coverage(unseen, (0.0, float(parallax))).verdict


def test_clips_that_do_not_belong_to_the_path_are_refused():
    cameras = camera_move("pan", WALL[0], INTRINSICS, WIDTH, HEIGHT, 5)
    with pytest.raises(ShapeError, match=r"must be \[5, 36, 48\] like the camera path, got mask \[4, 36, 48\]"):
        coverage(np.ones((4, HEIGHT, WIDTH), bool), WALL, cameras)


def test_the_command_line_tells_the_verdict_before_anything_is_painted(tmp_path, capsys):
    clip = tmp_path / "depth.npy"
    np.save(clip, WALL)
    from fractions import Fraction

    from ex4d.video import write_video

    write_video(tmp_path / "plate.mkv", FRAMES, Fraction(24), "ffv1")
    shot = str(tmp_path / "shot")
    made = ["reconstruct", str(tmp_path / "plate.mkv"), "--depth-file", str(clip), "--focal-px", "60", "--out", shot]
    assert main(made) == 0
    assert main(["render", shot, "--move", "truck:distance=0.3", "--take", "aside", "--json"]) == 0
    printed = capsys.readouterr().out
    told = json.loads(printed[printed.index("{") :])
    assert told["verdict"].startswith("Needs painting of ")
    assert len(told["coverage"]["unseen"]) == len(told["coverage"]["parallax_deg"]) == 5
    stored = json.loads((tmp_path / "shot/takes/aside/take.json").read_text(encoding="utf-8"))
    assert stored["verdict"] == told["verdict"]
    assert stored["unseen"]["frames"] == told["coverage"]["unseen"]
    assert stored["parallax_deg"]["mean"] == pytest.approx(np.mean(told["coverage"]["parallax_deg"]))
