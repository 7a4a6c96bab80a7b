# SPDX-License-Identifier: Apache-2.0
"""The rasterisers that need a GPU: against the slow one, against the meshes of the processor, and without a GPU."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from test_raster import CAMERAS, EYE, hills, lens, plate, pose

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.errors import InputError, MachineError
from ex4d.mesh import far_depth, watertight_mesh
from ex4d.raster import rasteriser
from ex4d.raster.reference import ReferenceRasteriser

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's interpreter runs the kernels on a processor, slowly


def why_not(name):
    """Why this machine lacks a backend; None when it has it."""
    try:
        rasteriser(name) if not (INTERPRETED and name == "native") else native()
    except MachineError as error:
        return str(error)
    return None


def native():
    from ex4d.raster.native import NativeRasteriser

    return NativeRasteriser("cpu" if INTERPRETED else "cuda")


needs_native = pytest.mark.skipif(why_not("native") is not None, reason=str(why_not("native")))
needs_nvdiffrast = pytest.mark.skipif(why_not("nvdiffrast") is not None, reason=str(why_not("nvdiffrast")))
ROUNDS = 1 if INTERPRETED else 6
if INTERPRETED:  # numpy tells of infinities, which the kernels sort out
    pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def agreement(pairs):
    """Of (ours, oracle) pictures: intersection over union of the masks, and PSNR in dB over the pixels of both."""
    both = [ours.mask & oracle.mask for ours, oracle in pairs]
    either = sum(np.count_nonzero(ours.mask | oracle.mask) for ours, oracle in pairs)
    off = [
        ours.color[seen].astype(float) - oracle.color[seen] for seen, (ours, oracle) in zip(both, pairs, strict=True)
    ]
    mse = (np.concatenate(off) ** 2).mean() if np.any([seen.any() for seen in both]) else 0
    shared = sum(np.count_nonzero(seen) for seen in both)
    return shared / either if either else 1.0, 10 * np.log10(255**2 / max(mse, 1e-9))


@needs_native
@pytest.mark.parametrize("convention", ["exact", "reference"])
@pytest.mark.parametrize("kind", CAMERAS)
def test_native_agrees_with_the_slow_one_from_everywhere(kind, convention):
    rng = np.random.default_rng(sorted(CAMERAS).index(kind))
    oracle, ours, pairs = ReferenceRasteriser(), native(), []
    for seed in range(ROUNDS):
        height, width = rng.integers(16, 50, 2)
        source, texture = lens(rng, width, height), plate(height, width, seed)
        mesh = watertight_mesh(hills(height, width, seed), source, convention)
        w, h = (int(side) for side in rng.integers(20, 70, 2))
        view = source if "sideways" in kind else lens(rng, w, h)
        arguments = (mesh, texture, CAMERAS[kind](rng), view, w, h)
        fast, slow = ours.render(*arguments), oracle.render(*arguments)
        pairs.append((fast, slow))
        assert np.count_nonzero(np.isfinite(fast.depth) != np.isfinite(slow.depth)) <= 1
        assert not fast.color[~fast.mask].any()
    iou, psnr = agreement(pairs)
    assert iou >= 0.999
    assert psnr >= 46


@needs_native
def test_native_draws_large_faces_and_clips_them():
    """A coarse grid before a wide picture: nearly all faces go through the list, some across the camera plane."""
    rng = np.random.default_rng(3)
    source = pinhole_intrinsics(6, 9, 8)
    mesh = watertight_mesh(hills(8, 9), source, "exact")
    for seed in range(ROUNDS):
        camera = pose(rng.normal(size=3) * seed, [*rng.normal(size=2) * 0.2, 1.5 * seed])
        side = 32 if INTERPRETED else 300
        arguments = (mesh, plate(8, 9), camera, pinhole_intrinsics(side / 3, side, side), side, side)
        fast, slow = native().render(*arguments), ReferenceRasteriser().render(*arguments)
        iou, psnr = agreement([(fast, slow)])
        assert iou >= 0.999
        assert psnr >= 46


@needs_native
@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_a_clip_on_the_device_equals_its_frames_one_by_one(convention):
    count, height, width = (2, 20, 24) if INTERPRETED else (7, 60, 80)
    source = pinhole_intrinsics(70, width, height)
    depth = np.stack([hills(height, width, seed) for seed in range(count)])
    frames = np.stack([plate(height, width, seed) for seed in range(count)])
    sky = depth > np.quantile(depth, 0.9)
    far = far_depth(depth, sky)
    shown = np.arange(count)[::-1] * 0.9  # backwards, a frame left out
    poses = np.stack([pose([0, 0.1 * n, 0], [0.1 * n, 0, 0]) for n in range(count)])
    lenses = np.stack([pinhole_intrinsics(60 + 5 * n, width, height) for n in range(count)])
    path = CameraPath(poses, lenses, width, height, shown)
    ours = native()
    clip = ours.render_clip(frames, depth, source, convention, path, far, sky)
    for n in range(count):
        t = round(shown[n])
        mesh = watertight_mesh(depth[t], source, convention, far, sky[t])
        alone = ours.render(mesh, frames[t], poses[n], lenses[n], width, height)
        for name in ("color", "mask", "depth"):
            np.testing.assert_array_equal(getattr(clip, name)[n], getattr(alone, name))


@needs_native
@pytest.mark.parametrize("convention", ["exact", "reference"])
def test_the_device_builds_the_meshes_of_the_processor(convention):
    from ex4d.raster.native_mesh import device_meshes

    ours = native()
    height, width = (24, 30) if INTERPRETED else (200, 320)
    source = lens(np.random.default_rng(1), width, height)
    depth = np.stack([hills(height, width, seed) for seed in range(3)])
    depth[1] = 1 / np.linspace(0.005, 0.5, height, dtype=np.float32)[:, None]  # ground
    depth[2] = np.random.default_rng(0).uniform(1, 50, (height, width))  # torn everywhere
    far, sky = far_depth(depth), depth > 40
    on_device = (ours.upload(depth, np.float32), source, convention, far, ours.upload(sky, np.bool_))
    _, u, v, ray_x, ray_y, closed, visible, alpha = device_meshes(*on_device)
    for t in range(3):
        mesh = watertight_mesh(depth[t], source, convention, far, sky[t])
        np.testing.assert_array_equal(closed[t].cpu(), mesh.depth)
        np.testing.assert_array_equal(visible[t].cpu() != 0, mesh.visible)
        for axis, wanted in zip((u, v, ray_x, ray_y), (mesh.u, mesh.v, *mesh.rays), strict=True):
            np.testing.assert_array_equal(axis.cpu(), wanted)
        if convention == "reference":
            np.testing.assert_array_equal(alpha[t].cpu(), mesh.vertex_alpha)


@needs_native
def test_native_draws_the_same_pixels_again():
    rng = np.random.default_rng(0)
    mesh = watertight_mesh(hills(40, 50), pinhole_intrinsics(50, 50, 40), "exact")
    for kind in list(CAMERAS)[: ROUNDS * 2]:
        arguments = (mesh, plate(40, 50), CAMERAS[kind](rng), pinhole_intrinsics(60, 64, 48), 64, 48)
        first, again = native().render(*arguments), native().render(*arguments)
        for name in ("color", "mask", "depth"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


@pytest.mark.skipif(INTERPRETED or why_not("native") is not None, reason="needs a GPU")
@pytest.mark.parametrize("compiler", [{}, {"CC": "/nowhere/cc"}], ids=["none", "a wrong one"])
def test_a_machine_without_a_c_compiler_is_told_what_to_install(compiler, tmp_path):
    ask = "from ex4d.raster import rasteriser; print(rasteriser('auto').name); rasteriser('native')"
    environment = {name: value for name, value in os.environ.items() if name != "CC"}
    environment |= {"PATH": str(tmp_path), "TRITON_CACHE_DIR": str(tmp_path), **compiler}
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["cpu"]
    assert "MachineError: The native rasteriser builds its kernels on this machine" in done.stderr
    assert "gcc and python3-dev" in done.stderr


@pytest.mark.parametrize("compiler", [None, "/nowhere/cc"])
def test_what_triton_cannot_build_says_which_compiler_to_install(compiler, tmp_path, monkeypatch):
    build = pytest.importorskip("triton.runtime.build")
    from ex4d.raster.native_launch import c_compiler_needed

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if compiler:
        monkeypatch.setenv("CC", compiler)
    with pytest.raises(MachineError, match="gcc and python3-dev"), c_compiler_needed():
        build.compile_module_from_src("", "nothing")


@needs_nvdiffrast
def test_the_release_renderer_agrees_with_the_slow_one():
    other, oracle = rasteriser("nvdiffrast"), ReferenceRasteriser()
    source, texture = pinhole_intrinsics(90, 96, 80), plate(80, 96)
    depth = hills(80, 96) * 3
    mesh = watertight_mesh(depth, source, "reference")
    for n in range(5):
        arguments = (mesh, texture, pose([0, 0.02 * n, 0.01 * n], [0.1 * n, 0, 0]), source, 96, 80)
        theirs, ours = other.render(*arguments), oracle.render(*arguments)
        iou, psnr = agreement([(theirs, ours)])
        assert iou >= 0.99  # its sub-pixel grid is 1/16: a row of 80 samples more or less
        assert psnr >= 35  # antialiasing along silhouettes
        drawn = np.isfinite(theirs.depth) & np.isfinite(ours.depth)
        assert np.median(np.abs(theirs.depth[drawn] / ours.depth[drawn] - 1)) < 1e-4
    with pytest.raises(InputError, match="reference convention only"):
        other.render(watertight_mesh(depth, source, "exact"), texture, EYE, source, 96, 80)
    assert not other.commercial_use


@pytest.mark.parametrize("name", ["native", "nvdiffrast"])
def test_a_machine_without_pytorch_is_told_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("native", "nvdiffrast"):
        monkeypatch.delitem(sys.modules, f"ex4d.raster.{module}", raising=False)
    with pytest.raises(MachineError, match=r"choose .*cpu"):
        importlib.import_module(f"ex4d.raster.{name}")
    assert rasteriser("auto").name == "cpu"
