# SPDX-License-Identifier: Apache-2.0
"""A plate whose camera moves and was solved in Blender: what is sent, and that its world stands still."""

import json

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from conftest import FRAMES, exact_display, write_reconstruction
from mathutils import Matrix, Vector
from movies import write_avi
from solving import pixels_of, solve

WIDTH, HEIGHT, LENGTH = 320, 180, 24
START = 101


@pytest.fixture
def clip(addon, saved, tmp_path):
    """A movie clip that begins at a scene frame of its own, not solved yet."""
    path = write_avi(tmp_path / "Travelling.avi", np.full((LENGTH, HEIGHT, WIDTH, 3), 90, np.uint8), (24, 1))
    clip = bpy.data.movieclips.load(str(path))
    clip.frame_start = START
    return clip


@pytest.fixture
def truth(clip):
    """What the solve should find, up to its scale."""
    return solve(clip, center=(6.0, -4.0))


@pytest.fixture
def travelling(addon, clip, truth, scene, fake):
    """The solved clip as plate."""
    assert bpy.ops.ex4d.plate_from_clip(clip=clip.name) == {"FINISHED"}
    return scene.ex4d


def unit_of(solved, cameras):
    """How long the truth's unit is in the solve's."""
    moved = np.linalg.inv(solved[-1])[:3, 3]
    return np.linalg.norm(moved) / np.linalg.norm(cameras[-1][:3, 3] - cameras[0][:3, 3])


def test_a_solve_keeps_every_track_within_a_hundredth_of_a_pixel(addon, clip, truth):
    cameras, points, intrinsics = truth
    found = addon.solve.read_solve(clip, range(LENGTH))
    np.testing.assert_allclose(found.cameras.intrinsics, np.tile(intrinsics, (LENGTH, 1, 1)), atol=1e-3)
    np.testing.assert_allclose(found.cameras.world_to_camera[0], np.eye(4), atol=1e-6)
    assert found.points.shape == points.shape
    for pose, true in zip(np.linalg.inv(found.cameras.world_to_camera), cameras, strict=True):
        seen = pixels_of(found.points, pose, found.cameras.intrinsics[0])
        assert np.abs(seen - pixels_of(points, true, intrinsics)).max() < 0.01
    unit = unit_of(found.cameras.world_to_camera, cameras)
    near, far = found.reach
    assert 4 * unit < near < 7 * unit
    assert 11 * unit < far < 13 * unit


def test_the_clip_keeps_its_place_in_time_and_gives_its_lens(travelling, scene, clip):
    assert (scene.frame_start, scene.frame_end) == (START, START + LENGTH - 1)
    assert travelling.plate_clip is clip
    data = travelling.source_camera.data
    assert (data.lens, data.sensor_width) == pytest.approx((40, 36))
    assert (data.shift_x, data.shift_y) == pytest.approx((-6 / WIDTH, -4 / WIDTH), abs=1e-6)
    assert "The lens is a guess" not in travelling.plate_notice
    assert "solved camera gives the lens (40 mm)" in travelling.plate_notice


def test_the_image_plane_fills_the_solved_lens_too(travelling, scene):
    graph = bpy.context.evaluated_depsgraph_get()
    graph.update()
    plane = travelling.plate_plane.evaluated_get(graph)
    seen = [world_to_camera_view(scene, scene.camera, plane.matrix_world @ vertex.co) for vertex in plane.data.vertices]
    for found, (x, y) in zip(seen, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
        assert abs(found.x - x) + abs(found.y - y) < 1e-5


def test_the_solve_is_sent_with_the_plate(addon, travelling, fake, truth):
    travelling.depth_source = "transformers"
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert "focal_px" not in params, "the solve brings its own lens"
    assert "depth_options" not in params
    assert set(inputs) == {"plate", "source_camera", "depth_points"}
    with np.load(inputs["source_camera"], allow_pickle=False) as file:
        assert file["world_to_camera"].shape == (LENGTH, 4, 4)
        assert file["size"].tolist() == [WIDTH, HEIGHT]
        assert file["source_frame"].tolist() == list(range(LENGTH))
    with np.load(inputs["depth_points"], allow_pickle=False) as file:
        assert file["world_points"].shape == (40, 3)


@pytest.mark.parametrize("source", ["auto", "preview"])
def test_depth_that_takes_no_points_is_told_how_far_they_reach(addon, travelling, fake, source):
    travelling.depth_source, travelling.depth_near = source, 99
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert set(inputs) == {"plate", "source_camera"}
    assert 0 < float(params["depth_options"]["near"]) < float(params["depth_options"]["far"]) < 99


def test_the_tracked_source_takes_the_solve_and_what_fills_the_rest(addon, travelling, fake):
    travelling.depth_source, travelling.use_solve = "tracked", False
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    assert set(fake.submitted[-1][3]) == {"plate", "source_camera"}
    assert "depth_options" not in fake.submitted[-1][2]
    assert not addon.reconstruction.asks_for_licence(travelling)
    travelling.tracked_prior = "depthcrafter"
    assert addon.reconstruction.asks_for_licence(travelling)
    assert addon.reconstruct_job.depth_options(travelling, None) == {"prior": "depthcrafter"}


def test_a_solve_may_be_left_aside(addon, travelling, fake):
    travelling.use_solve = False
    data = travelling.source_camera.data
    data.shift_x = data.shift_y = 0
    bpy.ops.ex4d.reconstruct()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert params["focal_px"] == pytest.approx(40 / 36 * WIDTH)
    assert set(inputs) == {"plate"}


def test_without_a_solve_the_tracked_source_says_what_is_missing(addon, fake, imported):
    imported.depth_source = "tracked"
    assert not bpy.ops.ex4d.reconstruct.poll()
    assert "solve the plate's camera motion" in addon.operators.grey.no_solve(bpy.context)


def test_a_solve_with_a_gap_is_refused_with_the_first_missing_frame(addon, saved, scene, fake, clip):
    solve(clip, first_frame=4)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    with pytest.raises(RuntimeError, match=r"no camera for 3 of the 24 frames used, the first at clip frame 1\."):
        bpy.ops.ex4d.reconstruct()


def test_a_rough_solve_is_said(addon, clip):
    solve(clip, noise_px=1.5)
    assert "misses its tracks by" in addon.solve.notices(clip)[0]


def bend(clip):
    """Give the clip's lens a distortion."""
    clip.tracking.camera.distortion_model, clip.tracking.camera.k1 = "POLYNOMIAL", -0.1


def test_lens_distortion_is_told_at_once_and_undone_by_the_reconstruction(addon, scene, clip, truth, fake):
    assert addon.solve.distortion_notice(clip) == []
    bend(clip)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    assert "undoes the clip's lens distortion (polynomial): its plate, mesh and takes" in scene.ex4d.plate_notice
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    model, _, told = fake.submitted[-1][2]["lens_distortion"].partition(":")
    numbers = {name: float(value) for name, value in (pair.split("=") for pair in told.split(","))}
    assert model == "polynomial"
    expected = {"focal": 40 / 36 * WIDTH, "x": WIDTH / 2 + 6, "y": HEIGHT / 2 - 4, "k1": -0.1}
    assert numbers == pytest.approx(expected, rel=1e-6)


def test_a_plain_lens_is_nothing_to_undo(addon, travelling, fake):
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    assert "lens_distortion" not in fake.submitted[-1][2]


def test_a_calibrated_lens_counts_without_a_solve_too(addon, scene, clip, fake):
    bend(clip)
    lens = clip.tracking.camera
    lens.sensor_width, lens.focal_length = 36.0, 28.0
    lens.principal_point_pixels = (WIDTH / 2 + 9, HEIGHT / 2)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    data = scene.ex4d.source_camera.data
    assert data.lens == pytest.approx(28)
    assert (data.shift_x, data.shift_y) == (0, 0), "the reconstruction brings the axis to the middle"
    assert "lens settings give the lens" in scene.ex4d.plate_notice
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    params = fake.submitted[-1][2]
    assert params["focal_px"] == pytest.approx(28 / 36 * WIDTH)
    assert params["lens_distortion"].startswith("polynomial:")


def test_stretched_pixels_become_square(addon, saved, scene, clip, fake):
    clip.tracking.camera.pixel_aspect = 1.5
    solve(clip)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    state, size = scene.ex4d, (WIDTH, HEIGHT / 1.5)
    assert (state.plate_width, state.plate_height) == (scene.render.resolution_x, scene.render.resolution_y) == size
    assert "(320 x 180 becomes 320 x 120)" in state.plate_notice
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert "aspect=1.5" in params["lens_distortion"]
    focal_px = 40 / 36 * WIDTH
    with np.load(inputs["source_camera"], allow_pickle=False) as file:
        assert file["size"].tolist() == list(size)
        np.testing.assert_allclose(file["intrinsics"][0], [[focal_px, 0, 160], [0, focal_px, 60], [0, 0, 1]], rtol=1e-6)


@pytest.mark.parametrize("is_bent", [True, False])
def test_behind_the_scene_stands_the_plate_that_was_reconstructed(addon, scene, imported, fake, is_bent):
    display = exact_display(np.full((FRAMES, 8, 12), 5.0, np.float32), 12.0)

    def run(kind, params, inputs, folder):
        files = write_reconstruction(folder, display, np.full((FRAMES, 8, 12, 3), 90, np.uint8))
        record = json.loads(files["shot.json"].read_text(encoding="utf-8"))
        record["plate"] = {"first_frame": 0, "lens_distortion": "polynomial:k1=-0.1" if is_bent else None}
        files["shot.json"].write_text(json.dumps(record), encoding="utf-8")
        return files

    fake._run = run
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    background = imported.source_camera.data.background_images[0]
    assert background.source == ("IMAGE" if is_bent else "MOVIE_CLIP")
    assert background.image == (imported.shot_image if is_bent else None)


@pytest.fixture
def stands(addon, travelling, truth, fake):
    """The travelling plate, reconstructed. Returns its points in the shot's world."""
    found = addon.solve.read_solve(travelling.plate_clip, range(LENGTH))
    display = exact_display(np.full((LENGTH, HEIGHT, WIDTH), 5.0, np.float32), 40 / 36 * WIDTH)
    display["intrinsics"] = found.cameras.intrinsics[0]
    display["source_camera_to_world"] = np.linalg.inv(found.cameras.world_to_camera)
    frames = np.full((LENGTH, HEIGHT, WIDTH, 3), 90, np.uint8)
    fake._run = lambda kind, params, inputs, folder: write_reconstruction(folder, display, frames)
    travelling.mesh_stride = "QUARTER"
    assert bpy.ops.ex4d.reconstruct() == {"FINISHED"}
    assert addon.session.wait(20)
    assert addon.session.current.error == ""
    return found.points


def seen_by(scene, camera, point):
    """Pixels from the top left edge of where a camera sees a point of the scene."""
    x, y, _ = world_to_camera_view(scene, camera.evaluated_get(bpy.context.evaluated_depsgraph_get()), point)
    return np.array([x * WIDTH, (1 - y) * HEIGHT])


def test_the_source_camera_travels_as_the_plates_did(addon, scene, travelling, stands, truth):
    cameras, points, intrinsics = truth
    travelling.root.location = (3, -2, 5)
    travelling.root.scale = (2, 2, 2)
    for frame in (0, 7, LENGTH - 1):
        scene.frame_set(START + frame)
        expected = pixels_of(points, cameras[frame], intrinsics)
        for known, pixel in zip(stands[::9], expected[::9], strict=True):
            point = travelling.root.matrix_world @ Vector((known[0], known[2], -known[1]))
            assert np.abs(seen_by(scene, travelling.source_camera, point) - pixel).max() < 0.01


def test_the_mesh_stands_before_its_own_camera_on_each_frame(scene, travelling, stands):
    middle = Vector((0, 5.0, 0))  # of the plate's picture, at its depth
    for frame in (0, 5.5, LENGTH - 1):
        scene.frame_set(START + int(frame), subframe=frame % 1)
        graph = bpy.context.evaluated_depsgraph_get()
        mesh, camera = (item.evaluated_get(graph) for item in (travelling.mesh, travelling.source_camera))
        np.testing.assert_allclose(mesh.matrix_world.translation, camera.matrix_world.translation, atol=1e-5)
        ahead = camera.matrix_world.inverted() @ mesh.matrix_world @ middle
        np.testing.assert_allclose(ahead, (0, 0, -5), atol=1e-5)
    assert not travelling.mesh.constraints


def test_the_plate_background_and_the_notices_belong_to_the_moving_camera(travelling, stands):
    assert travelling.source_camera.data.background_images[0].clip is travelling.plate_clip
    assert "source lens" not in travelling.shot_notice
    assert travelling.source_camera.data.shift_x == pytest.approx(-6 / WIDTH, abs=1e-6)


def test_reconstructed_without_the_solve_everything_stands_still_again(addon, scene, travelling, stands, fake):
    display = exact_display(np.full((LENGTH, HEIGHT, WIDTH), 5.0, np.float32), 40 / 36 * WIDTH)
    frames = np.full((LENGTH, HEIGHT, WIDTH, 3), 90, np.uint8)
    fake._run = lambda kind, params, inputs, folder: write_reconstruction(folder, display, frames)
    travelling.use_solve = False
    travelling.source_camera.data.shift_x = travelling.source_camera.data.shift_y = 0
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(20)
    scene.frame_set(START + LENGTH - 1)
    assert travelling.mesh.matrix_basis == Matrix()
    assert travelling.source_camera.matrix_basis.translation.length < 1e-6


def test_a_new_camera_starts_at_the_first_view_or_rides_along(addon, scene, travelling, stands):
    scene.frame_set(START + 10)
    bpy.ops.ex4d.add_camera()
    still = scene.camera
    scene.frame_set(START)
    assert (still.matrix_world.translation - travelling.source_camera.matrix_world.translation).length < 1e-5
    bpy.ops.ex4d.add_camera(follow=True)
    scene.frame_set(START + 20)
    source = travelling.source_camera.matrix_world
    np.testing.assert_allclose(np.array(scene.camera.matrix_world), np.array(source), atol=1e-5)
    assert (still.matrix_world.translation - source.translation).length > 0.1


def test_the_shot_lies_where_the_artist_oriented_the_solve(addon, scene, clip, truth, fake):
    tracked = bpy.data.objects.new("Tracked", bpy.data.cameras.new("Tracked"))
    scene.collection.objects.link(tracked)
    tracked.location, tracked.rotation_euler, tracked.scale = (1, 2, 3), (1.2, 0.3, -0.4), (2, 2, 2)
    constraint = tracked.constraints.new("CAMERA_SOLVER")
    constraint.use_active_clip, constraint.clip = False, clip
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    state = scene.ex4d
    assert "where the scene's tracked camera was oriented" in state.plate_notice
    found = addon.solve.read_solve(clip, range(LENGTH))
    for frame in (0, 12, LENGTH - 1):
        scene.frame_set(START + frame)
        addon.motion.place(
            state.source_camera,
            addon.cameras.camera_to_shot(found.cameras.world_to_camera[frame])[None],
            START,
        )
        bpy.context.view_layer.update()
        ours, theirs = (np.array(item.matrix_world) for item in (state.source_camera, tracked))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_strip_of_the_edit_becomes_the_plate_at_its_place(addon, saved, scene, plate_path):
    assert not bpy.ops.ex4d.plate_from_strip.poll()
    strips = addon.compat.sequencer_strips(scene)
    strip = strips.new_movie(name="cut", filepath=str(plate_path), channel=1, frame_start=51)
    scene.sequence_editor.active_strip = strip
    assert bpy.ops.ex4d.plate_from_strip() == {"FINISHED"}
    assert (scene.frame_start, scene.frame_end) == (51, 50 + FRAMES)
    assert scene.ex4d.plate_start == 51


def test_a_clip_whose_file_is_gone_is_refused(addon, saved, scene, clip, tmp_path):
    assert bpy.ops.ex4d.plate_from_clip.poll()
    (tmp_path / "Travelling.avi").unlink()
    with pytest.raises(RuntimeError, match="is gone"):
        bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    bpy.data.movieclips.remove(clip)
    assert not bpy.ops.ex4d.plate_from_clip.poll()


def test_a_part_of_the_plate_needs_a_solve_of_that_part_only(addon, saved, scene, fake, clip):
    cameras, _, _ = solve(clip, first_frame=4)
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    scene.ex4d.use_scene_range, scene.ex4d.depth_source = True, "preview"
    scene.frame_start, scene.frame_end = START + 9, START + 14
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert (params["frame_start"], params["frame_count"]) == (9, 6)
    with np.load(inputs["source_camera"], allow_pickle=False) as file:
        sent = file["world_to_camera"]
    assert len(sent) == 6
    turned = (cameras[9][:3, :3].T @ cameras[3][:3, :3]).round(4)
    np.testing.assert_allclose(sent[0][:3, :3], turned, atol=1e-3)  # the world is the earliest solved camera's
