# SPDX-License-Identifier: Apache-2.0
"""The extension as an artist gets it: built as a zip, installed into an empty Blender profile, with its own wheels."""

import json
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = Path(tempfile.mkdtemp(prefix="ex4d-blender-profile-"))
os.environ["BLENDER_USER_RESOURCES"] = str(PROFILE)  # before bpy is imported: keeps the user's own Blender out of it
os.environ["EX4D_HOME"] = str(PROFILE / "ex4d")
os.environ["EX4D_CACHE"] = str(PROFILE / "cache")
os.environ["EX4D_MODELS"] = os.environ["HF_HOME"] = str(PROFILE / "models")  # a machine without weights

import bpy  # noqa: E402
from movies import write_avi  # noqa: E402

PACKAGE = "bl_ext.user_default.ex4d_reshoot"
WIDTH, HEIGHT, FRAMES = 12, 8, 5
FOCAL_PX = 35 / 36 * WIDTH  # of the source camera that an import makes


def pytest_sessionfinish(session, exitstatus):
    """Leave without Blender's own exit: some bpy modules crash or hang there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        session.config._ex4d_exit = int(exitstatus)


def pytest_unconfigure(config):
    shutil.rmtree(PROFILE, ignore_errors=True)
    if hasattr(config, "_ex4d_exit"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config._ex4d_exit)


@pytest.fixture(scope="session")
def extension_zip(tmp_path_factory):
    sys.path.insert(0, str(REPOSITORY))
    try:
        build_addon = import_module("build_addon")
    finally:
        sys.path.remove(str(REPOSITORY))
    return build_addon.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(extension_zip):
    bpy.ops.extensions.package_install_files(repo="user_default", filepath=str(extension_zip), enable_on_install=True)
    assert PACKAGE in bpy.context.preferences.addons
    return PACKAGE


class Addon:
    """The installed add-on's modules by name."""

    def __getattr__(self, name):
        return import_module(f"{PACKAGE}.{name}")


@pytest.fixture
def addon(installed):
    """The add-on in a new, empty, unsaved file."""
    bpy.ops.wm.read_homefile(use_empty=True)
    addon = Addon()
    yield addon
    addon.session.close()


@pytest.fixture
def scene(addon):
    return bpy.context.scene


@pytest.fixture
def plate_frames():
    """uint8 [T, H, W, 3]: each frame is one grey level with a gradient in red. Frame k's green is 40 k + 20."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames[..., 0] = np.linspace(60, 250, WIDTH, dtype=np.uint8)
    frames[..., 1] = (40 * np.arange(FRAMES) + 20)[:, None, None]
    frames[..., 2] = 90
    return frames


@pytest.fixture
def plate_path(tmp_path, plate_frames):
    return write_avi(tmp_path / "My plate.avi", plate_frames, (24, 1))


@pytest.fixture
def saved(addon, tmp_path):
    """The file has a folder of its own."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    return tmp_path / "shot.blend"


@pytest.fixture
def imported(saved, scene, plate_path):
    """A scene with its plate."""
    assert bpy.ops.ex4d.import_plate(filepath=str(plate_path)) == {"FINISHED"}
    return scene.ex4d


def exact_display(depth, focal_px, occluded=None):
    """display.npz of the exact convention, as its specification says.

    Args:
        depth: float32 [T, H, W]
        occluded: quads between pixels that do not show the plate. bool [T, H-1, W-1]
    """
    frames, height, width = depth.shape
    edge = np.pad(depth, ((0, 0), (1, 1), (1, 1)), mode="edge")
    far = np.pad(edge, ((0, 0), (1, 1), (1, 1)), constant_values=100.0)
    hides = np.ones((frames, height + 3, width + 3), dtype=bool)
    hides[:, 1:-1, 1:-1] = False
    if occluded is not None:
        hides[:, 2:-2, 2:-2] = occluded
    return {
        "u": np.array([0, 0, *(np.arange(width) + 0.5), width, width]),
        "v": np.array([0, 0, *(np.arange(height) + 0.5), height, height]),
        "texture_offset": np.array(0.0),
        "intrinsics": np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]]),
        "size": np.array([width, height]),
        "depth": far.astype(np.float32),
        "occluded": np.packbits(hides.reshape(frames, -1), axis=1),
        "convention": np.array("exact"),
    }


def expected_vertices(display):
    """float64 [T, V, 3] in Blender's axes, from the formulas of the specification."""
    k = display["intrinsics"]
    x = (display["u"] - k[0, 2]) / k[0, 0]
    y = (display["v"] - k[1, 2]) / k[1, 1]
    depth = display["depth"].astype(np.float64)
    points = np.stack(np.broadcast_arrays(depth * x, depth, -depth * y[:, None]), axis=-1)
    return points.reshape(len(depth), -1, 3)


@pytest.fixture
def shot_depth():
    """float32 [T, H, W]: a near block that moves over a far wall."""
    depth = np.full((FRAMES, HEIGHT, WIDTH), 8.0, dtype=np.float32)
    depth += np.random.default_rng(0).random(depth.shape, dtype=np.float32)
    for frame in range(FRAMES):
        depth[frame, 2:6, 2 + frame : 5 + frame] = 3.0
    return depth


def write_reconstruction(folder, display, plate_frames):
    """What a reconstruct job leaves in the shot folder. Blender reads an AVI under any name."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "display.npz", **display)
    np.savez(folder / "depth.npz", depth=display["depth"][:, 2:-2, 2:-2])
    write_avi(folder / "plate.mkv", plate_frames, (24, 1))
    record = {
        "schema": 1,
        "depth": {"source": "preview relief: no depth model", "licence": "Apache-2.0", "commercial_use": True},
        "notices": ["Audio was ignored."],
    }
    (folder / "shot.json").write_text(json.dumps(record), encoding="utf-8")
    return {role: folder / role for role in ("shot.json", "plate.mkv", "depth.npz", "display.npz")}


def write_coverage(folder):
    """What the panel needs of a render job's files."""
    record = {
        "schema": 1,
        "unseen": {"mean": 0.15, "worst": 0.3, "worst_frame": 1},
        "parallax_deg": {"mean": 7.25},
        "verdict": "Needs painting of 15% of the picture, 30% at worst.",
    }
    (folder / "take.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "color.mkv").write_bytes(b"any")
    return {name: folder / name for name in ("take.json", "camera.npz", "color.mkv")}


def write_evaluation(folder):
    """What the panel needs of an evaluate job's files."""
    record = {
        "schema": 1,
        "totals": {"localised": 0.8, "flicker_ratio": None},
        "summary": {
            "shift_px": {"mean": 0.2, "worst": 0.4, "worst_frame": 3},
            "inliers": {"mean": 100, "worst": 20, "worst_frame": 1},
            "kept_psnr_db": {"mean": 21.0, "worst": 19.0, "worst_frame": 4},
            "flicker": {"mean": None},
            "unseen": {"mean": 0.1, "worst": 0.25, "worst_frame": 2},
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "evaluation.html").write_text("<html></html>", encoding="utf-8")
    return {name: folder / name for name in ("evaluation.json", "evaluation.html")}


@pytest.fixture
def fake(addon, shot_depth, plate_frames):
    """A connected client whose jobs write what real ones write, one event per poll."""
    from importlib import import_module

    client_type = import_module(f"{PACKAGE}.shared_protocol.fake").FakeClient

    def run(kind, params, inputs, output_folder):
        if kind == "reconstruct":
            display = exact_display(shot_depth, params["focal_px"])
            return write_reconstruction(output_folder, display, plate_frames)
        if kind == "render":
            return write_coverage(output_folder)
        if kind == "evaluate":
            return write_evaluation(output_folder)
        assert kind == "take"
        with np.load(inputs["camera.npz"], allow_pickle=False) as camera:
            count = len(camera["source_frame"])
        record = {
            "schema": 1,
            "engine": "preview",
            "unseen": {"mean": 0.1, "worst": 0.25, "worst_frame": 2},
            "notices": ["Filled, not generated."],
        }
        (output_folder / "take.json").write_text(json.dumps(record), encoding="utf-8")
        write_avi(output_folder / "result.mkv", plate_frames[:count] // 2, (24, 1))
        return {name: output_folder / name for name in ("take.json", "result.mkv", "camera.npz")}

    addon.session.current.client = client_type(run)
    addon.session.current.is_connected = True
    return addon.session.current.client


@pytest.fixture
def reconstructed(addon, imported, fake):
    """A scene whose shot was reconstructed, with the mesh in full detail."""
    imported.mesh_stride = "FULL"
    assert bpy.ops.ex4d.reconstruct() == {"FINISHED"}
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    return imported
