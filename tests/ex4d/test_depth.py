# SPDX-License-Identifier: Apache-2.0
"""Depth from files of every kind, the release's normalisation, and the preview relief."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ex4d.depth import DEPTH_KINDS, SOURCES, SourceOptions, best_source, depth_source
from ex4d.depth.normalise import Known, reference_depth, relief_depth, unit_disparity
from ex4d.depth.preview import FAR, NEAR, _gradient, _shallowness, _small
from ex4d.depth.scaling import scaled
from ex4d.errors import Cancelled, DepthError
from ex4d.progress import Progress
from ex4d.video import Clip, write_video

COUNT, HEIGHT, WIDTH = 4, 18, 25


def clip_of(frames: np.ndarray) -> Clip:
    return Clip(frames, Fraction(25), 0, Path("plate.mov"), "0" * 64, None, ())


@pytest.fixture
def clip() -> Clip:
    return clip_of(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8))


@pytest.fixture
def depth() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 20, (COUNT, HEIGHT, WIDTH)).astype(np.float32)


def file_source(path: Path, **options):
    return depth_source("file", SourceOptions(path, **options))


# --------------------------------------------------------------------------------------------------------- files


def test_every_array_format_gives_the_same_depth(tmp_path, clip, depth):
    np.savez(tmp_path / "a.npz", depth=depth)
    np.savez_compressed(tmp_path / "b.npz", inverse_depth=1 / depth.astype(np.float64))
    np.save(tmp_path / "c.npy", depth)
    for name in ("a.npz", "b.npz", "c.npy"):
        result = file_source(tmp_path / name).estimate(clip)
        np.testing.assert_allclose(result.depth, depth, rtol=1e-6)
        assert result.depth.dtype == np.float32
        assert result.kind == "metric"
        assert name in result.source
        assert json.dumps(result.parameters)


def test_sky_and_valid_layers_come_along(tmp_path, clip, depth):
    sky, valid = depth > 15, depth < 18
    np.savez(tmp_path / "a.npz", depth=depth, sky=sky, valid=valid)
    result = file_source(tmp_path / "a.npz").estimate(clip)
    np.testing.assert_array_equal(result.sky, sky)
    np.testing.assert_array_equal(result.valid, valid)
    np.savez(tmp_path / "a.npz", depth=depth, sky=sky[0])
    with pytest.raises(DepthError, match="sky must be bool"):
        file_source(tmp_path / "a.npz").estimate(clip)


def test_distance_along_the_ray_becomes_z(tmp_path, clip, depth):
    focal_px = 20.0
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / focal_px
    y = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / focal_px
    rays = np.stack([*np.meshgrid(x, y), np.ones((HEIGHT, WIDTH))], axis=-1)
    np.save(tmp_path / "a.npy", depth * np.linalg.norm(rays, axis=-1))
    source = file_source(tmp_path / "a.npy", depth_kind="ray", focal_px=focal_px)
    np.testing.assert_allclose(source.estimate(clip).depth, depth, rtol=1e-6)
    with pytest.raises(DepthError, match="--focal-px"):
        file_source(tmp_path / "a.npy", depth_kind="ray").estimate(clip)


def test_inverse_depth_and_disparity_are_told_apart(tmp_path, clip, depth):
    np.save(tmp_path / "a.npy", 1 / depth)
    inverse = file_source(tmp_path / "a.npy", depth_kind="inverse").estimate(clip)
    np.testing.assert_allclose(inverse.depth, depth, rtol=1e-5)
    disparity = file_source(tmp_path / "a.npy", depth_kind="disparity").estimate(clip)
    np.testing.assert_array_equal(disparity.disparity, 1 / depth)
    released = scaled(disparity, "reference", Known())
    assert released.kind == "reference"
    assert released.depth.min() == pytest.approx(2.5641, abs=1e-4)
    assert released.depth.max() == 10000
    assert any("10000" in notice for notice in released.notices)


def test_sixteen_bit_video_with_its_side_file_gives_inverse_depth(tmp_path, clip, depth):
    scale = 1.25
    values = np.rint(65535 / depth / scale).astype(np.uint16)
    write_video(tmp_path / "depth.mkv", values, Fraction(25), "ffv1")
    (tmp_path / "depth.json").write_text(json.dumps({"kind": "inverse", "scale": scale}))
    result = file_source(tmp_path / "depth.mkv").estimate(clip)
    np.testing.assert_allclose(1 / result.depth, values / 65535 * scale, rtol=1e-6)
    np.testing.assert_allclose(result.depth, depth, rtol=2e-4)
    assert result.parameters["kind"] == "inverse"


def test_sixteen_bit_pictures_without_a_side_file_hold_the_distance_itself(tmp_path, clip, depth):
    millimetres = np.rint(depth[:1] * 1000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), millimetres[0])
    result = file_source(tmp_path / "a.png").estimate(clip_of(clip.frames[:1]))
    np.testing.assert_allclose(result.depth, millimetres, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "inverse"}', "kind and a scale"),
        ('{"kind": "far", "scale": 1}', "kind must be one of"),
        ('{"kind": "z", "scale": 0}', "scale must be"),
        ("[]", "kind and a scale"),
        ("{", "kind and a scale"),
    ],
)
def test_a_wrong_side_file_is_named(tmp_path, clip, content, message):
    write_video(tmp_path / "depth.mkv", np.ones((COUNT, HEIGHT, WIDTH), np.uint16), Fraction(25), "ffv1")
    (tmp_path / "depth.json").write_text(content)
    with pytest.raises(DepthError, match=message):
        file_source(tmp_path / "depth.mkv").estimate(clip)


def test_depth_of_another_size_is_refused_with_both_sizes(tmp_path, clip, depth):
    np.save(tmp_path / "a.npy", depth[:, :10])
    with pytest.raises(DepthError, match=r"25 x 10 pixels, the plate 25 x 18"):
        file_source(tmp_path / "a.npy").estimate(clip)
    np.save(tmp_path / "a.npy", depth[:3])
    with pytest.raises(DepthError, match=r"3 frames, the plate has 4"):
        file_source(tmp_path / "a.npy").estimate(clip)
    np.save(tmp_path / "a.npy", depth[0])  # one still is not stretched over the clip
    with pytest.raises(DepthError, match=r"1 frames, the plate has 4"):
        file_source(tmp_path / "a.npy").estimate(clip)
    np.save(tmp_path / "a.npy", depth[..., None])
    with pytest.raises(DepthError, match=r"must be \[T, H, W\]"):
        file_source(tmp_path / "a.npy").estimate(clip)


@pytest.mark.parametrize("kind", ["z", "inverse"])
def test_values_that_are_no_depth_are_counted_and_located(tmp_path, clip, depth, kind):
    depth[2, 3, 4:7] = np.nan
    depth[2, 9, 1] = 0
    depth[1, 5, 6:8] = -1
    depth[3, 0, 0] = np.inf
    np.save(tmp_path / "a.npy", depth)
    with pytest.raises(DepthError) as caught:
        file_source(tmp_path / "a.npy", depth_kind=kind).estimate(clip)
    message = str(caught.value)
    for part in ("3 NaN", "1 zero", "2 negative", "1 infinite", "frame 1 at column 6, row 5"):
        assert part in message


def test_disparity_may_hold_zeros_but_no_nan_and_must_not_be_flat(tmp_path, clip, depth):
    depth[0, 0, 0] = 0
    np.save(tmp_path / "a.npy", depth)
    file_source(tmp_path / "a.npy", depth_kind="disparity").estimate(clip)
    depth[0, 0, 1] = np.nan
    np.save(tmp_path / "a.npy", depth)
    with pytest.raises(DepthError, match="1 NaN"):
        file_source(tmp_path / "a.npy", depth_kind="disparity").estimate(clip)
    np.save(tmp_path / "a.npy", np.full_like(depth, 0.5))
    flat = file_source(tmp_path / "a.npy", depth_kind="disparity").estimate(clip)
    for rule in ("fitted", "reference"):
        with pytest.raises(DepthError, match=r"0\.5 everywhere"):
            scaled(flat, rule, Known())


def test_files_that_hold_no_depth_are_refused(tmp_path, clip, depth):
    source = lambda name: file_source(tmp_path / name)  # noqa: E731
    with pytest.raises(DepthError, match="There is no depth file"):
        source("missing.npz").estimate(clip)
    (tmp_path / "a.npz").write_bytes(b"PK not really")
    (tmp_path / "a.npy").write_bytes(b"")
    (tmp_path / "a.mkv").write_bytes(b"no video")
    for name in ("a.npz", "a.npy", "a.mkv"):
        with pytest.raises(DepthError, match=r"cannot be"):
            source(name).estimate(clip)
    np.savez(tmp_path / "b.npz", distance=depth)
    with pytest.raises(DepthError, match="holds distance"):
        source("b.npz").estimate(clip)
    np.savez(tmp_path / "c.npz", depth=depth.astype(complex))
    with pytest.raises(DepthError, match="must hold numbers"):
        source("c.npz").estimate(clip)
    write_video(tmp_path / "b.mkv", np.ones((COUNT, HEIGHT, WIDTH), np.uint8), Fraction(25), "ffv1")
    with pytest.raises(DepthError, match="16-bit"):
        source("b.mkv").estimate(clip)


def test_objects_in_a_numpy_file_are_never_loaded(tmp_path, clip):
    np.save(tmp_path / "a.npy", np.array([{"code": "runs"}], dtype=object), allow_pickle=True)
    with pytest.raises(DepthError, match="cannot be read"):
        file_source(tmp_path / "a.npy").estimate(clip)


# ------------------------------------------------------------------------------------------------- normalisation

# The release's own numbers: disparity, z.
GOLDEN = [(1, 2.564), (0.75, 3.42), (0.5, 5.13), (0.25, 10.3), (0.1, 25.6), (0.05, 51.3), (0.0256, 100), (0.01, 256),
          (0.00256, 1000), (0, 10000)]  # fmt: skip


@pytest.mark.parametrize(("disparity", "z"), GOLDEN)
def test_the_reference_rule_gives_the_release_z(disparity, z):
    result = reference_depth(np.array([[[disparity]]], np.float32))
    assert result.dtype == np.float32
    assert result[0, 0, 0] == pytest.approx(z, rel=5e-3)


def test_disparity_is_stretched_over_the_whole_clip_not_each_frame():
    disparity = np.stack([np.linspace(2, 3, 12).reshape(3, 4), np.linspace(4, 6, 12).reshape(3, 4)])
    unit = unit_disparity(disparity)
    assert (unit.min(), unit.max()) == (0, 1)
    assert unit[0].max() == pytest.approx(0.25)


def test_flat_disparity_is_refused():
    with pytest.raises(DepthError, match="no near and far"):
        unit_disparity(np.full((2, 3, 4), 0.3))


def test_a_relief_lies_between_near_and_far_and_is_linear_in_inverse_depth():
    unit = np.linspace(0, 1, 11, dtype=np.float32).reshape(1, 1, 11)
    z = relief_depth(unit, 2, 8)
    assert (z[0, 0, 0], z[0, 0, -1]) == (8, 2)
    np.testing.assert_allclose(np.diff(1 / z[0, 0]), (1 / 2 - 1 / 8) / 10, rtol=1e-4)
    for near, far in ((0, 1), (2, 2), (3, 2), (1, np.inf)):
        with pytest.raises(DepthError, match="0 < near < far"):
            relief_depth(unit, near, far)


# ------------------------------------------------------------------------------------------------ preview relief


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    fine = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_CUBIC)


def shallow_focus_clip(count: int = 6, side: int = 160) -> np.ndarray:
    """A sharp orange disc that drifts before a blurred blue wall. uint8 [T, H, W, 3]"""
    tiles = np.random.default_rng(1).integers(0, 2, (8, 8, 1), dtype=np.uint8) * np.array([40, 70, 200], np.uint8)
    wall = cv2.GaussianBlur(cv2.resize(tiles, (side, side), interpolation=cv2.INTER_NEAREST), (0, 0), 4)
    disc = (0.5 * textured(side, side, 2) + np.array([120, 60, 0])).astype(np.uint8)
    frames = []
    for t in range(count):
        where = np.zeros((side, side), np.uint8)
        cv2.circle(where, (70 + t, 90), 38, 1, -1)
        frames.append(np.where(where[..., None] > 0, disc, wall))
    return np.stack(frames)


def test_the_preview_relief_says_what_it_is_and_keeps_its_bounds():
    result = depth_source("preview").estimate(clip_of(shallow_focus_clip()))
    assert result.source == "preview relief: no depth model"
    assert result.kind == "relative"
    assert result.commercial_use
    assert any("no depth model" in notice for notice in result.notices)
    assert result.depth.shape == (6, 160, 160)
    assert result.depth.dtype == np.float32
    assert result.depth.min() >= NEAR * (1 - 1e-6)
    assert result.depth.max() <= FAR * (1 + 1e-6)
    assert FAR / NEAR <= 5
    assert result.depth.max() / result.depth.min() > 2


@pytest.mark.parametrize(
    ("values", "ends"),
    [({"near": "1", "far": "3"}, (1, 3)), ({"near": "5"}, (5, 20)), ({"far": "40"}, (10, 40)), ({}, (NEAR, FAR))],
)
def test_the_reliefs_ends_are_the_artists(values, ends):
    result = depth_source("preview", SourceOptions(values=values)).estimate(clip_of(shallow_focus_clip(2, 64)))
    assert (result.depth.min(), result.depth.max()) == pytest.approx(ends, rel=0.05)
    with pytest.raises(DepthError, match="0 < near < far"):
        depth_source("preview", SourceOptions(values={"near": "3", "far": "2"}))


def test_what_is_in_focus_is_nearer_than_its_blurred_background():
    assert _shallowness([_small(frame) for frame in shallow_focus_clip()]) > 0.9
    assert _shallowness([_small(textured(96, 128))]) == 0
    z = depth_source("preview").estimate(clip_of(shallow_focus_clip())).depth
    assert z[3, 75:105, 60:85].mean() < 0.6 * z[3, 10:60, 120:155].mean()


def test_without_depth_of_field_the_lower_part_is_nearer():
    frames = np.repeat(textured(96, 128)[None], 3, axis=0)
    z = depth_source("preview").estimate(clip_of(frames)).depth
    assert z[1, -10:].mean() < 0.7 * z[1, :10].mean()


def test_texture_is_not_copied_into_the_relief():
    rng = np.random.default_rng(4)
    frames = np.repeat(rng.integers(0, 256, (1, 128, 128, 3), dtype=np.uint8), 2, axis=0)
    inverse = 1 / depth_source("preview").estimate(clip_of(frames)).depth[0]
    detail = inverse - cv2.GaussianBlur(inverse, (0, 0), 6)
    assert detail[10:-10, 10:-10].std() < 0.02 * (inverse.max() - inverse.min())


def test_the_relief_stands_still_under_noise():
    still = np.repeat(shallow_focus_clip(1), 8, axis=0).astype(np.float32)
    noisy = np.clip(still + np.random.default_rng(1).normal(0, 4, still.shape), 0, 255).astype(np.uint8)
    inverse = 1 / depth_source("preview").estimate(clip_of(noisy)).depth
    flicker = np.abs(np.diff(inverse, axis=0)).mean() / (inverse.max() - inverse.min())
    assert flicker < 0.005


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 200), (2, 200, 3), (3, 33, 47)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_tiny_and_narrow_clips_get_a_finite_relief(shape, level):
    z = depth_source("preview").estimate(clip_of(np.full((*shape, 3), level, np.uint8))).depth
    assert z.shape == shape
    assert np.isfinite(z).all()
    assert (z > 0).all()


def test_the_relief_is_the_same_in_every_process(tmp_path):
    np.save(tmp_path / "frames.npy", shallow_focus_clip(3, 96))
    code = """
import hashlib, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ex4d.depth import depth_source
from ex4d.video import Clip
frames = np.load(sys.argv[1])
clip = Clip(frames, Fraction(25), 0, Path("p"), "", None, ())
print(hashlib.sha256(depth_source("preview").estimate(clip).depth.tobytes()).hexdigest())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "frames.npy")]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    assert len(first.strip()) == 64


def test_edges_are_the_same_wherever_in_memory_the_picture_lies():
    plane = np.random.default_rng(0).random((48, 64), np.float32)
    kept, found = [], set()
    for n in range(64):
        kept += [np.empty(4 * n + 1, np.uint8), _gradient(plane)]  # so that each lies at another distance
        found.add(kept[-1].tobytes())
    assert len(found) == 1


# ------------------------------------------------------------------------------------------------------ registry


def test_sources_are_found_by_name(tmp_path):
    assert set(SOURCES) == {"file", "blender", "tracked", "depthcrafter", "transformers", "preview"}
    assert best_source() in SOURCES
    assert DEPTH_KINDS == ("z", "ray", "disparity", "inverse")
    with pytest.raises(DepthError, match="no depth source 'guess'"):
        depth_source("guess")
    with pytest.raises(DepthError, match="--depth-file"):
        depth_source("file")
    with pytest.raises(DepthError, match="reads no file"):
        depth_source("preview", SourceOptions(tmp_path / "a.npz"))
    with pytest.raises(DepthError, match="kind of a depth file"):
        file_source(tmp_path / "a.npz", depth_kind="metres")


@pytest.mark.parametrize("name", ["preview", "file"])
def test_cancelling_stops_a_source(tmp_path, clip, name):
    def cancel(progress: Progress) -> None:
        raise Cancelled("stopped")

    write_video(tmp_path / "a.mkv", np.ones((COUNT, HEIGHT, WIDTH), np.uint16), Fraction(25), "ffv1")
    source = depth_source(name, SourceOptions(tmp_path / "a.mkv" if name == "file" else None))
    with pytest.raises(Cancelled):
        source.estimate(clip, cancel)
