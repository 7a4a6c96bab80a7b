# SPDX-License-Identifier: Apache-2.0
"""Lens distortion: ex4d undoes what Blender's own compositor and solver know as each model's bending."""

import os
import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import REPOSITORY
from movies import write_avi
from pictures import write_picture
from solving import pixels_of, solve

PYTHON = Path(os.environ.get("EX4D_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
WIDTH, HEIGHT, LENGTH = 320, 180, 12
LENSES = {
    "POLYNOMIAL": {"k1": -0.12, "k2": 0.05, "k3": 0.01},
    "DIVISION": {"division_k1": 0.15, "division_k2": 0.03},
    "NUKE": {"nuke_k1": 0.1, "nuke_k2": 0.02},
    "BROWN": {
        "brown_k1": -0.1,
        "brown_k2": 0.04,
        "brown_k3": 0.01,
        "brown_k4": 0.02,
        "brown_p1": 0.01,
        "brown_p2": -0.02,
    },
}
# ex4d's Python is not Blender's: it is told the lens and the points, as one line and an array.
SCRIPT = """
import sys, numpy as np
from ex4d.distortion import distorted, lens_distortion
text, width, height, points, bent = sys.argv[1:]
np.save(bent, distorted(lens_distortion(text), np.load(points), int(width), int(height)))
"""


def bent(text, points, width, height, folder):
    """Where ex4d says that a lens puts points: square pixels -> stored pixels, from the top left edge. [..., 2]"""
    np.save(folder / "points.npy", points)
    files = [str(folder / name) for name in ("points.npy", "bent.npy")]
    subprocess.run([PYTHON, "-c", SCRIPT, text, str(width), str(height), *files], cwd=REPOSITORY, check=True)
    return np.load(folder / "bent.npy")


def bend_lens(clip, model, center=(7.0, -5.0)):
    """Give a clip a lens that bends; center: principal point, stored pixels right of and above the middle."""
    lens = clip.tracking.camera
    lens.distortion_model = model
    for name, value in LENSES[model].items():
        setattr(lens, name, value)
    lens.sensor_width, lens.focal_length = 36.0, 30.0
    width, height = clip.size
    lens.principal_point_pixels = (width / 2 + center[0], height / 2 + center[1])


@pytest.fixture
def clip(addon, saved, tmp_path):
    path = write_avi(tmp_path / "bent.avi", np.full((LENGTH, HEIGHT, WIDTH, 3), 90, np.uint8), (24, 1))
    return bpy.data.movieclips.load(str(path))


def compositor_output(scene):
    """(node tree, socket that the render shows) of an empty compositor."""
    if hasattr(scene, "compositing_node_group"):  # 5.0 and later
        tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        return tree, tree.nodes.new("NodeGroupOutput").inputs[0]
    scene.use_nodes = True
    scene.node_tree.nodes.clear()
    return scene.node_tree, scene.node_tree.nodes.new("CompositorNodeComposite").inputs[0]


def undistorted_by_blender(scene, clip, folder):
    """What the compositor's Movie Distortion node makes of a picture whose values are its own coordinates.

    Returns:
        (x, y) from the top left edge that each pixel shows, [H, W, 2]; where there is anything, bool [H, W].
    """
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    values = np.stack([x, y, np.ones_like(x)], axis=-1)
    image = bpy.data.images.load(str(write_picture(folder / "coordinates.exr", 255 * values)))
    image.colorspace_settings.name = "Non-Color"
    tree, output = compositor_output(scene)
    source, node = tree.nodes.new("CompositorNodeImage"), tree.nodes.new("CompositorNodeMovieDistortion")
    source.image, node.clip = image, clip
    if hasattr(node, "distortion_type"):
        node.distortion_type = "UNDISTORT"
    else:
        node.inputs["Type"].default_value = "Undistort"
    tree.links.new(source.outputs[0], node.inputs[0])
    tree.links.new(node.outputs[0], output)
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    settings = scene.render.image_settings
    settings.file_format, settings.color_depth = "OPEN_EXR", "32"
    scene.render.filepath = str(folder / "undistorted.exr")
    bpy.ops.render.render(write_still=True)
    found = bpy.data.images.load(scene.render.filepath)
    found.colorspace_settings.name = "Non-Color"
    pixels = np.array(found.pixels[:]).reshape(HEIGHT, WIDTH, 4)[::-1]
    return pixels[..., :2], pixels[..., 2] > 0.999


@pytest.mark.parametrize("model", LENSES)
def test_each_model_bends_as_in_blenders_compositor(addon, scene, clip, tmp_path, model):
    bend_lens(clip, model)
    shown, is_there = undistorted_by_blender(scene, clip, tmp_path)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pixels = np.stack([x, y], axis=-1)
    # The node enlarges its picture by what it bends, and the render centres that: on whole pixels, or in Blender 5 on
    # halves too. On the axis, where no lens bends, one sees by how many.
    axis = HEIGHT // 2 + 5, WIDTH // 2 + 7
    shift = np.rint(2 * (shown[axis] - pixels[axis])) / 2
    expected = bent(addon.solve.lens_distortion(clip), pixels + shift, WIDTH, HEIGHT, tmp_path)
    inside = is_there & ((expected > 3) & (expected < (WIDTH - 3, HEIGHT - 3))).all(axis=-1)
    assert inside.mean() > 0.7
    assert np.abs(expected - pixels).max() > 5, "it bends"
    tolerance = 1e-3 if (shift % 1 == 0).all() else 5e-3  # of halves it shows the mean of two pixels
    np.testing.assert_allclose(shown[inside], expected[inside], atol=tolerance)


# The solver is the judge of pixels that are not square: the compositor takes them for square ones (4.5).
@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize(("aspect", "height"), [(1.0, HEIGHT), (2.0, 500)])
def test_blenders_solver_finds_what_a_bent_lens_filmed(addon, saved, tmp_path, model, aspect, height):
    path = write_avi(tmp_path / "bent.avi", np.full((LENGTH, height, WIDTH, 3), 90, np.uint8), (24, 1))
    clip = bpy.data.movieclips.load(str(path))
    bend_lens(clip, model)
    clip.tracking.camera.pixel_aspect = aspect

    def bend(points):
        return bent(addon.solve.lens_distortion(clip), points, WIDTH, height, tmp_path)

    cameras, points, intrinsics = solve(clip, (7.0, -5.0), bend=bend)
    found = addon.solve.read_solve(clip, range(LENGTH))
    assert (found.cameras.width, found.cameras.height) == (WIDTH, round(height / aspect))
    np.testing.assert_allclose(found.cameras.intrinsics[0], intrinsics, atol=1e-3)
    reconstruction = next(item for item in clip.tracking.objects if item.is_camera).reconstruction
    assert reconstruction.average_error < 0.01
    for pose, true in zip(np.linalg.inv(found.cameras.world_to_camera), cameras, strict=True):
        np.testing.assert_allclose(
            pixels_of(found.points, pose, intrinsics), pixels_of(points, true, intrinsics), atol=0.1
        )
