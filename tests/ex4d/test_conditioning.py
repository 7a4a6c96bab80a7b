# SPDX-License-Identifier: Apache-2.0
"""Conditioning: which frame of the plate each output frame shows, both conventions, and what is refused."""

from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import render_conditioning
from ex4d.errors import CameraError, Cancelled, DepthError, InputError, MachineError, ShapeError
from ex4d.mesh import far_depth
from ex4d.raster import Render
from ex4d.trajectory import camera_move

INTRINSICS = pinhole_intrinsics(20, 16, 12)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)
DEPTH = np.random.default_rng(1).uniform(2, 4, (5, 12, 16)).astype(np.float32)


def still(source_frame, width=16, height=12):
    """The source camera, standing, over the given plate frames."""
    count = len(source_frame)
    lens = pinhole_intrinsics(20 * width / 16, width, height)
    poses, lenses = np.repeat(np.eye(4)[None], count, axis=0), np.repeat(lens[None], count, axis=0)
    return CameraPath(poses, lenses, width, height, np.array(source_frame))


def render(cameras, convention="exact", **changes):
    arguments = {"frames": FRAMES, "depth": DEPTH, "intrinsics": INTRINSICS} | changes
    return render_conditioning(**arguments, convention=convention, cameras=cameras)


@pytest.mark.parametrize(
    ("source_frame", "shown"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([2, 2, 2], [2, 2, 2]),
        ([4, 3, 2, 1, 0], [4, 3, 2, 1, 0]),
        ([0, 0.4, 0.6, 1.4, 3.6, 4.4], [0, 0, 1, 1, 4, 4]),
    ],
    ids=["forward", "freeze", "reverse", "speed ramp"],
)
@pytest.mark.parametrize("raster", ["auto", "reference"])
def test_the_source_camera_gets_each_chosen_frame_back_with_a_full_mask(source_frame, shown, raster):
    result = render(still(source_frame), raster=raster)
    np.testing.assert_array_equal(result.color, FRAMES[shown])
    assert result.mask.all()
    assert np.isfinite(result.depth).all()


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_a_backend_that_draws_whole_clips_is_asked_for_the_whole_clip(convention):
    class WholeClips:
        name = "whole clips"

        def render_clip(self, frames, depth, intrinsics, convention, cameras, far, sky, progress):
            shape = (len(cameras), cameras.height, cameras.width)
            return Render(np.full((*shape, 3), 7, np.uint8), np.zeros(shape, bool), np.full(shape, far, np.float32))

    result = render(still([3, 4]), convention, raster=WholeClips())
    assert (result.color[1] == 7).all()
    assert (result.depth == far_depth(DEPTH)).all()
    assert result.mask[0].all() == (convention == "reference")


def test_a_path_of_a_camera_move_starts_with_the_plate():
    result = render(camera_move("orbit:angle=40", DEPTH[0], INTRINSICS, 16, 12, 5))
    np.testing.assert_array_equal(result.color[0], FRAMES[0])
    assert result.mask[0].all()
    assert not result.mask[-1].all()


def test_another_size_draws_the_same_view():
    result = render(still([1], 48, 36))
    assert result.color.shape == (1, 36, 48, 3)
    assert result.mask.all()
    np.testing.assert_array_equal(result.color[0, 1::3, 1::3], FRAMES[1])


def test_reference_starts_with_the_untouched_source_frame_like_the_release():
    result = render(still([3, 3]), "reference")
    np.testing.assert_array_equal(result.color[0], FRAMES[3])
    assert result.mask[0].all()
    assert not result.mask[1].all()


def test_reference_at_another_size_is_refused():
    with pytest.raises(CameraError, match="plate's size, 16 x 12, got 32 x 24"):
        render(still([0], 32, 24), "reference")


def test_progress_is_told_for_every_frame_and_may_stop_the_work():
    reports = []
    render(still([0, 1, 2]), raster="cpu", progress=reports.append)
    assert [report.i for report in reports] == [0, 1, 2, 3]

    def stop(report):
        if report.i == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        render(still([0, 1, 2]), progress=stop)


def test_a_frame_beyond_the_shot_is_refused_by_number():
    with pytest.raises(
        CameraError, match=r"source_frame, frame 1: asks for frame 4\.6, but the shot has frames 0 to 4"
    ):
        render(still([0, 4.6]))


def test_a_camera_that_sees_nothing_gives_an_honest_empty_mask():
    cameras = still([0])
    turned = cameras.world_to_camera.copy()
    turned[0, [0, 2], [0, 2]] = -1
    result = render(CameraPath(turned, cameras.intrinsics, 16, 12, [0]))
    assert not result.mask.any()
    assert not result.color.any()


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"frames": FRAMES / 255}, ShapeError, r"frames must be uint8 \[T, H, W, 3\] and not empty, got float64"),
        ({"frames": FRAMES[:0], "depth": DEPTH[:0]}, ShapeError, r"not empty, got uint8 \[0, 12, 16, 3\]"),
        ({"frames": FRAMES[0]}, ShapeError, "frames must be"),
        ({"depth": DEPTH[:, :-1]}, ShapeError, r"depth must be \[5, 12, 16\] like the frames, got \[5, 11, 16\]"),
        ({"depth": DEPTH[:4]}, ShapeError, r"got \[4, 12, 16\]"),
        ({"depth": np.where(np.arange(5)[:, None, None] == 1, 0, DEPTH)}, DepthError, "depth, frame 1 .* 192 zero"),
        ({"depth": np.where(np.arange(5)[:, None, None] == 2, np.nan, DEPTH)}, DepthError, "depth, frame 2 .* 192 NaN"),
        ({"depth": DEPTH.astype(int)}, ShapeError, "frame 0 must be floating point"),
        ({"intrinsics": np.zeros((3, 3))}, CameraError, "focal lengths"),
        ({"intrinsics": np.diag([20, np.nan, 1])}, CameraError, "intrinsics: 1 of 9 numbers are NaN"),
        ({"intrinsics": np.eye(4)}, CameraError, r"intrinsics must be \[3, 3\], got \[4, 4\]"),
        ({"depth": -DEPTH}, DepthError, "depth, frame 0 .* 192 zero or negative of 192"),
        ({"sky": np.zeros((5, 12, 15), bool)}, ShapeError, r"sky must be bool \[5, 12, 16\] like the depth"),
        ({"sky": np.zeros((5, 12, 16))}, ShapeError, "got float64"),
        ({"convention": "both"}, CameraError, "exact, reference"),
    ],
)
def test_bad_input_is_refused_by_argument_and_frame(changes, error, complaint):
    with pytest.raises(error, match=complaint):
        render(still([0, 1, 2]), **changes)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"frames": FRAMES.tolist()}, ShapeError, "frames must be a numpy array, got list"),
        ({"depth": None}, ShapeError, "depth must be a numpy array, got NoneType"),
        ({"intrinsics": INTRINSICS.tolist()}, ShapeError, "intrinsics must be a numpy array, got list"),
        ({"sky": [True]}, ShapeError, r"sky must be bool \[5, 12, 16\] like the depth, got bool \[1\]"),
        ({"raster": None}, InputError, "raster must be a rasteriser's name or a rasteriser, got NoneType"),
        ({"depth": DEPTH.astype(np.float64) * 1e300}, DepthError, "frame 0 must be from 1e-20 to 1e"),
        ({"depth": DEPTH.astype(np.float64) * 1e-60}, DepthError, "units in which the scene is neither"),
    ],
)
def test_other_things_than_arrays_and_depth_beyond_reason_are_refused(changes, error, complaint):
    with pytest.raises(error, match=complaint):
        render(still([0, 1, 2]), **changes)
    with pytest.raises(CameraError, match="cameras must be a CameraPath, got NoneType"):
        render(None)


@pytest.mark.parametrize("raster", ["cpu", "reference"])
@pytest.mark.parametrize("scale", [1e-19, 1e-6, 1e-3, 1e3, 1e18])
def test_the_picture_does_not_depend_on_the_unit_of_length(scale, raster):
    scale = 2.0 ** round(np.log2(scale))  # exact in floats
    path = camera_move("truck:distance=0.5", DEPTH[0], INTRINSICS, 16, 12, 3)
    poses = path.world_to_camera.copy()
    poses[:, :3, 3] *= scale
    scaled = CameraPath(poses, path.intrinsics, 16, 12, path.source_frame)
    first, other = render(path, raster=raster), render(scaled, depth=DEPTH * np.float32(scale), raster=raster)
    assert not first.mask[-1].all()
    np.testing.assert_array_equal(other.color, first.color)
    np.testing.assert_array_equal(other.mask, first.mask)
    np.testing.assert_allclose(other.depth, first.depth * np.float32(scale), rtol=1e-6)


@pytest.mark.parametrize("raster", ["cpu", "reference"])
@pytest.mark.parametrize("turn", [[0, 0, 0], [0, np.pi, 0], [np.pi / 2, 0, 0]])
@pytest.mark.parametrize("eye_z", [100, 5, 1e9, -1e9])
def test_reference_draws_from_anywhere_also_from_within_its_border(eye_z, turn, raster):
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array(turn, dtype=np.float64))[0]
    pose[:3, 3] = -pose[:3, :3] @ [0, 0, eye_z]
    path = CameraPath(np.stack([pose, pose]), np.stack([INTRINSICS] * 2), 16, 12, [0, 0])
    result = render(path, "reference", raster=raster)
    assert result.mask[0].all()
    assert not result.color[~result.mask].any()


def test_a_path_that_does_not_fit_into_memory_is_refused_before_it_is_drawn(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 16 * 12 * 8))
    assert len(render(still([0] * 4)).color) == 4
    with pytest.raises(MachineError, match=r"5 frames of 16 x 12 need .* Render fewer frames or a smaller picture"):
        render(still([0] * 5))


def test_the_sky_stands_on_the_far_card_and_shows_whole():
    depth = np.full_like(DEPTH, 4)
    depth[:, :6] = np.random.default_rng(3).uniform(5, 9, (5, 6, 16))  # what a source without sky makes of it
    sky = np.zeros(depth.shape, bool)
    sky[:, :6] = True
    path = camera_move("truck:distance=0.3,ease=linear", depth[0], INTRINSICS, 16, 12, 5)
    ragged, whole = render(path, depth=depth), render(path, depth=depth, sky=sky)
    assert whole.mask[-1, :5].all()
    assert not ragged.mask[-1, :5].all()
    assert np.ptp(whole.depth[:, :5]) < 1e-3 * whole.depth[0, 0, 0]
