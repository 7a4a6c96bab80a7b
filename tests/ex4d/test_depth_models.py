# SPDX-License-Identifier: Apache-2.0
"""What the depth models do before any network runs: options and licences; and steadying their answers."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ex4d.depth import SourceOptions, depth_source
from ex4d.depth.alignment import flicker, robust_line, steadied
from ex4d.depth.device import need_packages
from ex4d.depth.file_formats import read_depth_file
from ex4d.depth.sizes import work_size
from ex4d.errors import Cancelled, DepthError, MachineError
from ex4d.video import Clip, read_video

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"


@pytest.fixture(autouse=True)
def _no_weights_here(tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


# ------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("depthcrafter", {"steps": "0"}, "steps must be a whole number above zero"),
        ("depthcrafter", {"steps": "many"}, "steps must be a number"),
        ("depthcrafter", {"side": "20"}, "side must be at least 64"),
        ("depthcrafter", {"memory": "none"}, "memory is one of auto, fast, low"),
        ("depthcrafter", {"colour": "red"}, "has no option colour"),
        ("transformers", {"batch": "0"}, "batch must be a whole number above zero"),
        ("transformers", {"model": "small"}, "OWNER/NAME"),
        ("transformers", {"raw": "perhaps"}, "raw must be yes or no"),
        ("tracked", {"planes": "2"}, "planes must be a whole number from 8"),
        ("tracked", {"near": "5", "far": "2"}, "0 < near < far"),
        ("tracked", {"prior": "tracked"}, "own prior"),
        ("tracked", {"prior": "guess"}, "no depth source 'guess'"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, values, message):
    with pytest.raises(DepthError, match=message):
        depth_source(name, SourceOptions(values=values))


def test_depthcrafter_is_for_research_only_and_small_depth_anything_is_not():
    crafter, anything = depth_source("depthcrafter"), depth_source("transformers")
    assert crafter.commercial_use is False
    assert "no commercial or production use" in crafter.licence
    assert anything.commercial_use is True
    assert anything.label == "Depth Anything V2 Small"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), (512, 512)),
        ((640, 480), (640, 512)),
        ((1920, 1080), (1024, 576)),
        ((1080, 1920), (576, 1024)),
        ((40, 40), (64, 64)),
    ],
)
def test_the_working_size_is_the_release_s(size, expected):
    assert work_size(*size, 1024) == expected


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(MachineError, match=r"no_such_package.*pip install 'ex4d\[depth\]'"):
        need_packages("A model", "numpy", "no_such_package")


def test_without_weights_the_source_says_what_is_missing_before_it_starts():
    clip = Clip(np.zeros((2, 64, 64, 3), np.uint8), Fraction(24), 0, Path("plate.mp4"), "0" * 64, None, ())
    for name in ("depthcrafter", "transformers"):
        with pytest.raises(MachineError, match=r"ex4d models download|pip install 'ex4d\[depth\]'"):
            depth_source(name).estimate(clip)


# ------------------------------------------------------------------------------------------------------ steadying


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """25 frames of the sample and their true inverse depth, at 256 x 256."""
    frames = read_video(SAMPLE / "plate.mp4", 0, 25).frames
    inverse = read_depth_file(SAMPLE / "depth.mkv", "z", 0, 25).values.astype(np.float32)
    return (
        np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in frames]),
        np.stack([cv2.resize(plane, (256, 256), interpolation=cv2.INTER_AREA) for plane in inverse]),
    )


def spread(disparity: np.ndarray) -> float:
    low, high = np.percentile(disparity, [1, 99])
    return float(high - low)


def off_truth(disparity: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square distance to the truth after the best scale and offset of the whole clip, as a share of range."""
    x, y = disparity.ravel().astype(np.float64), truth.ravel().astype(np.float64)
    scale, offset = np.polyfit(x[::7], y[::7], 1)
    return float(np.sqrt(np.mean((scale * x + offset - y) ** 2)) / spread(truth))


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_steadying_removes_an_injected_flicker_of_scale_and_offset(sample, noise):
    frames, truth = sample
    random = np.random.default_rng(0)
    scale = random.uniform(0.85, 1.15, (len(truth), 1, 1))
    offset = random.uniform(-0.05, 0.05, (len(truth), 1, 1)) * spread(truth)
    pumping = (truth * scale + offset).astype(np.float32)
    noisy = pumping + random.normal(0, noise * spread(truth), truth.shape).astype(np.float32)
    steady = steadied(noisy, frames)
    assert off_truth(pumping, truth) > 0.03
    assert off_truth(steady, truth) < 0.2 * off_truth(noisy, truth)
    assert flicker(steady, frames) < 0.05 * flicker(noisy, frames)


def test_steady_depth_stays_as_it_is(sample):
    frames, truth = sample
    steady = steadied(truth[:9], frames[:9])
    assert np.median(np.abs(steady - truth[:9])) < 1e-3 * spread(truth)
    assert off_truth(steady, truth[:9]) < 0.005


def test_a_still_camera_on_a_grey_wall_and_a_single_frame_are_no_trouble():
    frames = np.full((4, 48, 64, 3), 128, np.uint8)
    plane = np.tile(np.linspace(1, 2, 64, dtype=np.float32), (48, 1))
    pumping = np.stack([plane * s for s in (1.0, 1.2, 0.9, 1.1)])
    steady = steadied(pumping, frames)
    assert np.ptp(steady, axis=0).max() < 1e-3
    np.testing.assert_allclose(steadied(plane[None], frames[:1]), plane[None], rtol=1e-5)


def test_flat_depth_is_left_flat():
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert np.isfinite(steadied(np.ones((3, 32, 32), np.float32), frames)).all()


def test_a_robust_line_ignores_a_third_of_wrong_points_and_keeps_the_scale_under_noise():
    random = np.random.default_rng(1)
    x = random.uniform(0, 1, 5000).astype(np.float32)
    noisy = x + random.normal(0, 0.05, x.size).astype(np.float32)
    y = 2 * x + 0.3 + random.normal(0, 0.1, x.size).astype(np.float32)
    y[: x.size // 3] = random.uniform(0, 3, x.size // 3)
    scale, offset = robust_line(noisy, y)
    assert scale == pytest.approx(2, rel=0.05)
    assert offset == pytest.approx(0.3, abs=0.05)


def test_steadying_can_be_cancelled(sample):
    def cancel(report):
        if report.i == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        steadied(sample[1][:5], sample[0][:5], cancel)
