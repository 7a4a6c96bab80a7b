# SPDX-License-Identifier: Apache-2.0
"""What a render shows of faces that only hide: the plate from where it was filmed, black from anywhere else."""

import bpy
import numpy as np
import pytest
from conftest import FOCAL_PX, FRAMES, HEIGHT, WIDTH, exact_display, write_reconstruction

WALL = 4.0  # shot units away
TORN_COLUMN = 5  # of the quads between pixels
FRAME, GREEN, BLUE = 2, 60, 90  # of `plate_frames`


@pytest.fixture(params=["FULL", "HALF"])
def wall(request, addon, imported, fake, plate_frames):
    """A shot of a flat wall with one torn column of faces."""
    depth = np.full((FRAMES, HEIGHT, WIDTH), WALL, dtype=np.float32)
    torn = np.zeros((FRAMES, HEIGHT - 1, WIDTH - 1), dtype=bool)
    torn[:, :, TORN_COLUMN] = True
    folder = addon.shots.shot_folder(bpy.context.scene)
    write_reconstruction(folder, exact_display(depth, FOCAL_PX, torn), plate_frames)
    imported.mesh_stride = request.param
    addon.reconstruction.show(bpy.context.scene, folder)
    assert addon.session.wait(10)
    return imported


def picture(scene, path):
    """Render with two samples per pixel of the plate and no filter. int [2 H, 2 W, 3], 0-255"""
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BOX", 0.01
    scene.render.resolution_percentage, scene.render.dither_intensity = 200, 0
    scene.render.image_settings.file_format, scene.render.filepath = "PNG", str(path)
    scene.frame_set(FRAME)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    width, height = image.size
    return np.round(255 * np.array(image.pixels[:]).reshape(height, width, 4)[::-1, :, :3]).astype(int)


def is_plate(pixels):
    return (np.abs(pixels[..., 1] - GREEN) <= 2) & (np.abs(pixels[..., 2] - BLUE) <= 2)


def put_anywhere(root):
    root.location, root.rotation_euler, root.scale = (37, -12, 5), (0.4, 0.3, 0.9), (2.5, 2.5, 2.5)


@pytest.mark.parametrize("moved", [False, True])
def test_the_source_camera_sees_the_whole_plate(scene, wall, tmp_path, moved):
    if moved:
        put_anywhere(wall.root)
    assert is_plate(picture(scene, tmp_path / "source.png")).all()


@pytest.mark.parametrize("moved", [False, True])
def test_from_the_side_torn_faces_and_the_skirt_are_black(addon, scene, wall, tmp_path, moved):
    if moved:
        put_anywhere(wall.root)
    wall.source_camera.location.x = 1.0
    shift_px = FOCAL_PX * 1.0 / WALL
    seen = picture(scene, tmp_path / "side.png")
    black = (seen == 0).all(axis=2)
    assert (black | is_plate(seen)).all(), "nothing in between, nothing stretched"
    columns = (np.arange(2 * WIDTH) + 0.5) / 2 + shift_px - 0.5  # of the plate, pixel centres whole
    if wall.mesh_stride == "FULL":
        gap = (columns > TORN_COLUMN) & (columns < TORN_COLUMN + 1)
    else:  # the coarse face around it
        gap = (columns > TORN_COLUMN - 1) & (columns < TORN_COLUMN + 1)
    assert black[1:-1, gap].all()
    assert gap.any()
    skirt = (columns > WIDTH - 0.5) & (columns < WIDTH - 1 + shift_px)  # its far end hardly moves against the plate
    assert black[1:-1, skirt].all()
    np.testing.assert_array_equal(is_plate(seen)[1:-1, ~gap & (columns < WIDTH - 0.5)].all(axis=0), True)


def test_a_gap_narrower_than_half_a_pixel_does_not_open(scene, wall, tmp_path):
    wall.source_camera.location.x = 0.4 * WALL / FOCAL_PX
    assert is_plate(picture(scene, tmp_path / "near.png")).all()


def test_solid_shading_gives_hiding_faces_their_plain_colour(wall):
    plate, hiding = wall.mesh.data.materials
    assert plate.node_tree.nodes.active.image is wall.shot_image
    assert hiding.node_tree.nodes.active.image is None
    assert tuple(hiding.diffuse_color) == (0, 0, 0, 1)


def test_the_warning_colour_shows_where_black_would_and_survives_a_rebuild(addon, scene, wall, tmp_path):
    wall.source_camera.location.x = 1.0
    black = (picture(scene, tmp_path / "black.png") == 0).all(axis=2)
    wall.unseen = "WARNING"
    bpy.ops.ex4d.show_mesh()
    assert addon.session.wait(10)
    seen = picture(scene, tmp_path / "warning.png")
    warns = (seen[..., 0] > 200) & (seen[..., 1] < 20) & (seen[..., 2] > 120)
    assert black.any()
    np.testing.assert_array_equal(warns, black)
    assert is_plate(seen[~black]).all()
    assert wall.mesh.data.materials[1].diffuse_color[0] > 0.5, "solid shading warns as well"
    wall.source_camera.location.x = 0.0
    assert is_plate(picture(scene, tmp_path / "source.png")).all()
