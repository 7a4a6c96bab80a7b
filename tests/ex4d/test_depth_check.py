# SPDX-License-Identifier: Apache-2.0
"""The depth check shows what a person needs to judge a reconstruction, for every size of plate."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from ex4d.camera import pinhole_intrinsics
from ex4d.cli import main
from ex4d.depth_check import SKY, UNSEEN, coloured_depth, depth_check, write_depth_check
from ex4d.errors import StorageError
from ex4d.shot import DepthInfo, PlateInfo, Shot
from ex4d.video import write_video


def shot_of(height: int = 60, width: int = 80, convention: str = "exact", **changes) -> Shot:
    """A block before a wall."""
    depth = np.full((3, height, width), 8.0, np.float32)
    depth[:, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 3.0
    frames = np.random.default_rng(0).integers(40, 200, (3, height, width, 3), dtype=np.uint8)
    content = {
        "frames": frames,
        "fps": Fraction(24),
        "depth": depth,
        "intrinsics": pinhole_intrinsics(width, width, height),
        "convention": convention,
        "plate": PlateInfo("plate.mov", "0" * 64, 0, None),
        "depth_info": DepthInfo("file d.npz", "CC0", True, "metric", None, {}),
    }
    return Shot(**{**content, **changes})


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(axis=-1).mean())


def test_near_is_bright_far_is_dark_and_the_sky_is_blue():
    depth = np.geomspace(2, 50, 64, dtype=np.float32).reshape(8, 8)
    sky = np.zeros((8, 8), bool)
    sky[-1] = True
    picture = coloured_depth(depth, 2, 50, sky)
    brightness = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[..., 0].ravel()[:56].astype(int)
    assert (np.diff(brightness) <= 0).all()
    assert brightness[0] > 240
    assert (picture[-1] == SKY).all()


def test_unseen_parts_stand_out_and_a_flat_wall_has_fewer():
    block = depth_check(shot_of())
    flat = depth_check(shot_of(depth=np.full((3, 60, 80), 8.0, np.float32)))
    assert 0.01 < share(flat, UNSEEN) < share(block, UNSEEN)


@pytest.mark.parametrize("convention", ["exact", "reference"])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (64, 64)])
def test_every_shape_of_plate_gets_its_page(height, width, convention):
    page = depth_check(shot_of(height, width, convention))
    assert page.dtype == np.uint8
    assert min(page.shape[:2]) > 640
    assert max(page.shape[:2]) < 1500


def test_sky_is_left_out_of_near_and_far():
    sky = np.zeros((3, 60, 80), bool)
    sky[:, :15] = True
    depth = shot_of().depth
    far_sky = np.where(sky, 5000, depth).astype(np.float32)
    assert share(depth_check(shot_of(depth=far_sky, sky=sky)), SKY) > 0.03


def test_the_picture_is_written_by_the_command_line_and_only_as_a_picture(tmp_path, capsys):
    write_video(tmp_path / "plate.mkv", shot_of().frames, Fraction(24), "ffv1")
    picture = tmp_path / "check.png"
    command = ["reconstruct", str(tmp_path / "plate.mkv"), "--out", str(tmp_path / "shot"), "--preview-image"]
    assert main([*command, str(picture)]) == 0
    assert "depth check" in capsys.readouterr().out
    assert cv2.imread(str(picture)).shape[0] > 640
    with pytest.raises(StorageError, match=r"\.png or \.jpg"):
        write_depth_check(tmp_path / "check.gif", shot_of())
