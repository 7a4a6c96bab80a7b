# SPDX-License-Identifier: Apache-2.0
"""The rasterisers: each against the rules, and the fast one against the slow one from cameras all over the place."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ex4d.camera import pinhole_intrinsics
from ex4d.errors import CameraError, InputError, MachineError, ShapeError
from ex4d.mesh import watertight_mesh
from ex4d.raster import RASTERISERS, rasteriser
from ex4d.raster.cpu import CpuRasteriser


def is_here(name):
    """Whether this machine has a backend."""
    try:
        return rasteriser(name) is not None
    except MachineError:
        return False


# nvdiffrast, which draws the reference convention only: test_raster_gpu.py
BACKENDS = {name: rasteriser(name) for name in RASTERISERS if name != "nvdiffrast" and is_here(name)}
CPU, ORACLE = BACKENDS["cpu"], BACKENDS["reference"]
EYE = np.eye(4)


def plate(height, width, seed=0):
    """Soft colours. uint8 [H, W, 3]"""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1).reshape(height, width, 3)


def hills(height, width, seed=0):
    """Depth from 2 to 8 with a card at 1.2 before it. float32 [H, W]"""
    soft = cv2.GaussianBlur(np.random.default_rng(seed).random((height, width)), (0, 0), 4)
    depth = 2 + 6 * (soft - soft.min()) / max(np.ptp(soft), 1e-9)
    depth[height // 3 : height // 2, width // 3 : 2 * width // 3] = 1.2
    return depth.astype(np.float32)


def lens(rng, width, height):
    """Any pinhole: non-square pixels, off-centre."""
    fx, fy = rng.uniform(0.5, 2, 2) * width
    return np.array([[fx, 0, width * rng.uniform(0.3, 0.7)], [0, fy, height * rng.uniform(0.3, 0.7)], [0, 0, 1]])


def pose(turn, eye):
    """world_to_camera from a rotation vector (radians) and an eye."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.asarray(turn, dtype=np.float64))[0]
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


CAMERAS = {
    "near the source view": lambda rng: pose(rng.normal(size=3) * 0.1, rng.normal(size=3) * 0.3),
    "anywhere": lambda rng: pose(rng.normal(size=3), rng.normal(size=3) * 3),
    "inside the mesh": lambda rng: pose(rng.normal(size=3) * 2, [*rng.normal(size=2) * 0.3, rng.uniform(1, 6)]),
    "behind the mesh, looking back": lambda rng: pose([0, np.pi + rng.normal() * 0.2, 0], [0, 0, 12]),
    "across the camera plane": lambda rng: pose([0, np.pi / 2 + rng.normal() * 0.1, 0], [rng.normal() * 0.2, 0, 3]),
    "moved sideways, samples on the grid's edges": lambda rng: pose([0, 0, 0], [rng.normal() * 0.5, 0, 0]),
}


@pytest.mark.parametrize("convention", ["exact", "reference"])
@pytest.mark.parametrize("kind", CAMERAS)
def test_the_fast_rasteriser_agrees_with_the_slow_one(kind, convention):
    rng = np.random.default_rng(sorted(CAMERAS).index(kind))
    both = either = 0
    squares, depth_errors = [], []
    for seed in range(5):
        height, width = rng.integers(16, 50, 2)
        source, texture = lens(rng, width, height), plate(height, width, seed)
        mesh = watertight_mesh(hills(height, width, seed), source, convention)
        w, h = (int(side) for side in rng.integers(20, 70, 2))
        view = source if "sideways" in kind else lens(rng, w, h)
        arguments = (mesh, texture, CAMERAS[kind](rng), view, w, h)
        fast, slow = CPU.render(*arguments), ORACLE.render(*arguments)
        both += np.count_nonzero(fast.mask & slow.mask)
        either += np.count_nonzero(fast.mask | slow.mask)
        shown = fast.mask & slow.mask
        squares.append(((fast.color[shown].astype(float) - slow.color[shown]) ** 2).ravel())
        drawn = np.isfinite(slow.depth)
        assert np.count_nonzero(drawn != np.isfinite(fast.depth)) <= 1
        drawn &= np.isfinite(fast.depth)
        depth_errors.append(np.abs(fast.depth[drawn] / slow.depth[drawn] - 1))
        assert not fast.color[~fast.mask].any()
    assert both >= 0.999 * either
    if both:
        mse = np.concatenate(squares).mean()
        assert mse == 0 or 10 * np.log10(255**2 / mse) >= 46
    # reference: vertices on the sub-pixel grid put many samples on edges, where either face may be the nearer one
    assert np.quantile(np.concatenate(depth_errors), 0.999 if convention == "exact" else 0.99) < 1e-3


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 3), (33, 20), (24, 31)])
def test_the_source_camera_sees_the_plate_back_byte_for_byte(name, size):
    rng = np.random.default_rng(5)
    texture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    depth = rng.uniform(1, 50, size).astype(np.float32)  # torn everywhere
    intrinsics = lens(rng, size[1], size[0])
    mesh = watertight_mesh(depth, intrinsics, "exact")
    view = BACKENDS[name].render(mesh, texture, EYE, intrinsics, size[1], size[0])
    assert view.mask.all()
    np.testing.assert_array_equal(view.color, texture)
    np.testing.assert_allclose(view.depth, mesh.depth[2:-2, 2:-2], rtol=1e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_pixels_torn_off_on_all_sides_do_not_sparkle_once_there_is_parallax(name):
    intrinsics, texture = pinhole_intrinsics(200, 64, 16), plate(16, 64)
    depth = np.full((16, 64), 4, np.float32)
    depth[:, 32:] = np.where(np.indices((16, 32)).sum(axis=0) % 2, 8, 40)
    mesh = watertight_mesh(depth, intrinsics, "exact")
    assert BACKENDS[name].render(mesh, texture, EYE, intrinsics, 64, 16).mask.all()
    view = BACKENDS[name].render(mesh, texture, pose([0, 0, 0], [0.3, 0, 0]), intrinsics, 64, 16)
    noise = view.mask & (np.abs(view.depth - 4) > 1e-3)
    assert not noise[1:-1].any()  # at the corners of the picture half a pixel is whole
    assert (view.mask & ~noise).mean() > 0.2


@pytest.mark.parametrize("name", BACKENDS)
def test_a_larger_picture_takes_its_colour_from_the_plate(name):
    texture, intrinsics = plate(20, 24), pinhole_intrinsics(30, 24, 20)
    mesh = watertight_mesh(np.full((20, 24), 3, np.float32), intrinsics, "exact")
    larger = intrinsics * np.array([[3], [3], [1]])
    view = BACKENDS[name].render(mesh, texture, EYE, larger, 72, 60)
    wanted = cv2.resize(texture, (72, 60), interpolation=cv2.INTER_LINEAR)
    assert view.mask.all()
    assert np.abs(view.color.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", BACKENDS)
def test_reference_shows_the_plate_half_a_pixel_up_and_left_like_the_release(name):
    texture, intrinsics = plate(12, 14), pinhole_intrinsics(30, 14, 12)
    mesh = watertight_mesh(np.full((12, 14), 50, np.float32), intrinsics, "reference")
    view = BACKENDS[name].render(mesh, texture, EYE, intrinsics, 14, 12)
    assert np.isfinite(view.depth[:-1, :-1]).all()
    assert np.isinf(view.depth[-1]).all()
    assert np.isinf(view.depth[:, -1]).all()
    # A sample lies in the middle of the diagonal from top right to bottom left; halves are truncated.
    diagonal = (texture[:-1, 1:].astype(int) + texture[1:, :-1]) // 2
    np.testing.assert_array_equal(view.color[3:8, 3:8], diagonal[3:8, 3:8])


@pytest.mark.parametrize("name", BACKENDS)
def test_exact_never_marks_as_seen_what_the_plate_did_not_see(name):
    intrinsics, texture = pinhole_intrinsics(100, 24, 20), plate(20, 24)
    depth = np.full((20, 24), 4, np.float32)
    depth[6:14, 8:16] = 2
    mesh = watertight_mesh(depth, intrinsics, "exact")
    behind = BACKENDS[name].render(mesh, texture, pose([0, np.pi, 0], [0, 0, 9]), intrinsics, 24, 20)
    assert np.isfinite(behind.depth).any()  # the back of the surfaces hides, but shows nothing
    assert not behind.mask.any()
    # 0.13 to the right, the card (16 columns less 6.5) uncovers 3.25 columns of what it hid; the plate ends at 20.75.
    side = BACKENDS[name].render(mesh, texture, pose([0, 0, 0], [0.13, 0, 0]), intrinsics, 24, 20)
    assert side.mask[10].tolist() == [True] * 9 + [False] * 4 + [True] * 8 + [False] * 3
    steps_off = np.abs(side.depth[side.mask][:, None] - [2, 4]).min(axis=1)
    assert steps_off.max() < 1e-5  # a torn face shows its corners' pixels where they are, nothing in between


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("zoom", [0.7, 1.0, 2.6])
def test_a_camera_that_only_turns_and_zooms_sees_no_crack_however_torn_the_mesh_is(name, zoom):
    rng = np.random.default_rng(3)
    intrinsics, texture = pinhole_intrinsics(30, 24, 20), plate(20, 24)
    mesh = watertight_mesh(rng.uniform(1, 50, (20, 24)).astype(np.float32), intrinsics, "exact")
    turn, lens_there = pose([0.1, -0.15, 0.3], [0, 0, 0]), pinhole_intrinsics(30 * zoom, 40, 30)
    view = BACKENDS[name].render(mesh, texture, turn, lens_there, 40, 30)
    samples = np.stack([*np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), np.ones((30, 40))], axis=-1)
    u, v, d = np.moveaxis(samples @ (intrinsics @ turn[:3, :3].T @ np.linalg.inv(lens_there)).T, -1, 0)
    inside = (u / d > 0) & (u / d < 24) & (v / d > 0) & (v / d < 20)
    assert inside.mean() > 0.2
    np.testing.assert_array_equal(view.mask, inside)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_tear_that_opens_shows_no_single_pixels_of_what_lies_between(name):
    intrinsics, texture = pinhole_intrinsics(60, 40, 30), plate(30, 40)
    depth = np.full((30, 40), 30, np.float32)
    depth[8:22, 10:24] = 2
    mesh = watertight_mesh(depth, intrinsics, "exact")
    view = BACKENDS[name].render(mesh, texture, pose([0, 0, 0], [0.31, 0.17, 0]), intrinsics, 40, 30)
    for surface in (view.mask, ~view.mask):
        count, _, sizes, _ = cv2.connectedComponentsWithStats(surface.astype(np.uint8), connectivity=4)
        assert count <= 4
        assert sizes[1:, cv2.CC_STAT_AREA].min() > 10


@pytest.mark.parametrize("name", BACKENDS)
def test_the_release_counts_the_closing_quad_as_seen(name):
    """One of its faults, kept for parity: most of the far quad has an alpha above the threshold."""
    intrinsics, texture = pinhole_intrinsics(30, 24, 20), np.full((20, 24, 3), 200, np.uint8)
    mesh = watertight_mesh(np.full((20, 24), 900, np.float32), intrinsics, "reference")
    view = BACKENDS[name].render(mesh, texture, EYE, intrinsics, 24, 20)
    np.testing.assert_allclose(view.depth[:-1, :-1], 100, rtol=1e-5)
    assert 0.6 < view.mask[:-1, :-1].mean() < 0.9


@pytest.mark.parametrize("name", BACKENDS)
def test_inside_the_closed_mesh_every_direction_meets_a_surface(name):
    intrinsics = pinhole_intrinsics(30, 24, 20)
    mesh = watertight_mesh(hills(20, 24), intrinsics, "exact")
    wide = pinhole_intrinsics(10, 21, 21)
    for turn in (
        [0, 0, 0],
        [0, np.pi / 2, 0],
        [0, np.pi, 0],
        [0, -np.pi / 2, 0],
        [np.pi / 2, 0, 0],
        [-np.pi / 2, 0, 0],
    ):
        view = BACKENDS[name].render(mesh, plate(20, 24), pose(turn, [0, 0, 8.5]), wide, 21, 21)
        assert np.isfinite(view.depth).all()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_a_camera_that_looks_away_sees_nothing(name, convention):
    mesh = watertight_mesh(hills(20, 24), pinhole_intrinsics(30, 24, 20), convention)
    view = BACKENDS[name].render(
        mesh, plate(20, 24), pose([0, np.pi, 0], [0, 0, -1]), pinhole_intrinsics(30, 24, 20), 24, 20
    )
    assert not view.mask.any()
    assert not view.color.any()
    assert np.isinf(view.depth).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_camera_in_a_vertex_of_the_mesh_does_not_fail(name):
    intrinsics = pinhole_intrinsics(30, 24, 20)
    mesh = watertight_mesh(hills(20, 24), intrinsics, "exact")
    for turn in ([0, 0, 0], [0, np.pi / 2, 0]):
        BACKENDS[name].render(mesh, plate(20, 24), pose(turn, mesh.points[9, 9]), intrinsics, 24, 20)


@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_the_pixels_do_not_depend_on_threads_or_on_what_was_drawn_before(convention):
    rng = np.random.default_rng(0)
    intrinsics, texture = pinhole_intrinsics(90, 80, 70), plate(70, 80)
    mesh = watertight_mesh(hills(70, 80), intrinsics, convention)
    backends = [CpuRasteriser(threads) for threads in (1, 2, 5)]
    for kind in CAMERAS.values():
        camera = kind(rng)
        first, *others = [
            backend.render(mesh, texture, camera, intrinsics, 80, 70) for backend in [*backends, backends[0]]
        ]
        for other in others:
            for name in ("color", "mask", "depth"):
                np.testing.assert_array_equal(getattr(first, name), getattr(other, name))


def test_two_threads_may_share_one_rasteriser():
    intrinsics = pinhole_intrinsics(40, 40, 30)
    mesh, texture = watertight_mesh(hills(30, 40), intrinsics, "exact"), plate(30, 40)
    poses = [pose([0, angle, 0], [angle, 0, 0]) for angle in np.linspace(-0.4, 0.4, 24)]
    alone = [CPU.render(mesh, texture, camera, intrinsics, 40, 30).color for camera in poses]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda camera: CPU.render(mesh, texture, camera, intrinsics, 40, 30).color, poses)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", BACKENDS)
def test_what_cannot_be_drawn_is_refused_by_name(name):
    intrinsics = pinhole_intrinsics(30, 24, 20)
    mesh, texture, render = watertight_mesh(hills(20, 24), intrinsics, "exact"), plate(20, 24), BACKENDS[name].render
    with pytest.raises(ShapeError, match=r"texture must be uint8 \[20, 24, 3\] like the mesh, got uint8 \[24, 20, 3\]"):
        render(mesh, plate(24, 20), EYE, intrinsics, 24, 20)
    with pytest.raises(ShapeError, match="got float64"):
        render(mesh, texture / 255, EYE, intrinsics, 24, 20)
    with pytest.raises(CameraError, match="world_to_camera: 1 of 16 numbers are NaN"):
        render(mesh, texture, _with_nan(), intrinsics, 24, 20)
    with pytest.raises(CameraError, match="world_to_camera must only rotate"):
        render(mesh, texture, 2 * EYE, intrinsics, 24, 20)
    with pytest.raises(CameraError, match="focal lengths must be above 0"):
        render(mesh, texture, EYE, np.zeros((3, 3)), 24, 20)
    with pytest.raises(CameraError, match="height must be from 1 to"):
        render(mesh, texture, EYE, intrinsics, 24, 0)


def _with_nan():
    matrix = np.eye(4)
    matrix[0, 3] = np.nan
    return matrix


def test_backends_are_chosen_by_name():
    assert rasteriser().name == ("native" if is_here("native") else "cpu")
    assert rasteriser("reference").name == "reference"
    with pytest.raises(InputError, match=r"no rasteriser 'gpu'\. Choose auto, native, nvdiffrast, cpu or reference"):
        rasteriser("gpu")
