# SPDX-License-Identifier: Apache-2.0
"""Plates of numbered pictures: from files, strips, clips and image planes into the scene, and to the server."""

import os
import zipfile

import bpy
import numpy as np
import pytest
from conftest import FRAMES, HEIGHT, WIDTH
from drawing import draw_panels
from pictures import write_sequence

FIRST = 1001


@pytest.fixture
def folder(addon, saved, tmp_path, plate_frames):
    """plate.1001.png and on, in a folder whose name is not ASCII."""
    return write_sequence(tmp_path / "Müller Platte", plate_frames, FIRST)


@pytest.fixture
def bring(addon, scene):
    """Press a button that brings a plate, and wait for what it looks for in the background."""

    def press(operator, **settings):
        assert operator(**settings) == {"FINISHED"}
        assert addon.session.wait(10)
        return scene.ex4d

    return press


@pytest.fixture
def sequence(folder, bring):
    return bring(bpy.ops.ex4d.import_plate, filepath=str(folder / "plate.1003.png"))


def shown(scene, frame, path):
    """What the source camera's render shows in the middle of the picture: the frame's number in the sequence."""
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.render.dither_intensity = 0
    scene.render.image_settings.file_format, scene.render.filepath = "PNG", str(path)
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    green = 255 * np.array(image.pixels[:]).reshape(HEIGHT, WIDTH, 4)[HEIGHT // 2, WIDTH // 2, 1]
    bpy.data.images.remove(image)
    return (green - 20) / 40  # of `plate_frames`


def test_one_picture_stands_for_its_sequence_at_its_own_numbers(sequence, scene):
    assert (sequence.film_start, sequence.film_frames) == (FIRST, FRAMES)
    assert (scene.frame_start, scene.frame_end) == (FIRST, FIRST + FRAMES - 1)
    assert (sequence.plate_width, sequence.plate_height, sequence.shot_name) == (WIDTH, HEIGHT, "plate")
    assert sequence.plate_clip.filepath == "//Müller Platte/plate.1001.png"
    assert sequence.plate_clip.frame_duration == FRAMES
    assert sequence.plate_fps == 24
    assert "24 fps (the scene's: pictures have none)" in sequence.plate_notice


def test_the_plane_shows_each_picture_on_its_own_frame(sequence, scene, tmp_path):
    for frame in (0, 3, FRAMES - 1):
        assert shown(scene, FIRST + frame, tmp_path / "shown.png") == pytest.approx(frame, abs=0.06)


def test_a_first_frame_that_the_artist_names_wins(folder, bring, scene, tmp_path):
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(folder / "plate.1003.png"), frame_start=11)
    assert (state.film_start, scene.frame_end) == (11, 10 + FRAMES)
    assert shown(scene, 13, tmp_path / "shown.png") == pytest.approx(2, abs=0.06)


def test_several_pictures_stand_for_themselves(folder, bring, scene):
    files = [{"name": f"plate.{number}.png"} for number in (1004, 1002, 1003)]
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(folder / "plate.1004.png"), files=files)
    assert (state.film_start, state.film_frames) == (1002, 3)
    assert state.plate_clip.filepath.endswith("plate.1002.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["plate.1001.png", "plate.1003.png"], "Frame 1002 is not among the chosen pictures"),
        (["plate.1001.png", "matte.1002.png"], "pictures of one sequence"),
        (["plate.1001.png", "plate.mov"], "pictures of one sequence"),
    ],
)
def test_pictures_that_are_no_run_are_refused(folder, names, said):
    with pytest.raises(RuntimeError, match=said):
        bpy.ops.ex4d.import_plate(filepath=str(folder / names[0]), files=[{"name": name} for name in names])


def test_a_gap_is_refused_with_the_missing_frame_and_leaves_nothing(addon, folder, bring, scene):
    (folder / "plate.1003.png").unlink()
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(folder / "plate.1001.png"))
    assert addon.session.current.error.startswith("Frame 1003 of ")
    assert "plate.####.png is missing" in addon.session.current.error
    assert state.shot_id == ""
    assert len(bpy.data.movieclips) == 0


def test_a_picture_that_is_none_is_refused_and_leaves_nothing(addon, saved, bring, tmp_path):
    (tmp_path / "text.0001.png").write_text("no picture", encoding="utf-8")
    bring(bpy.ops.ex4d.import_plate, filepath=str(tmp_path / "text.0001.png"))
    assert "Blender cannot read text.0001.png" in addon.session.current.error
    assert len(bpy.data.movieclips) == 0


def test_a_still_without_a_number_is_a_plate_of_one_frame(saved, bring, scene, tmp_path, plate_frames):
    still = write_sequence(tmp_path / "stills", plate_frames[:1], name="a") / "a.1001.png"
    still.rename(still.with_name("still.png"))
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(still.with_name("still.png")))
    assert (state.film_start, state.film_frames, scene.frame_end, state.shot_name) == (1, 1, 1, "still")


@pytest.mark.parametrize("suffix", [".exr", ".tif", ".jpg"])
def test_other_formats_come_in_alike(saved, bring, scene, tmp_path, plate_frames, suffix):
    folder = write_sequence(tmp_path / "other", plate_frames, 7, suffix)
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(folder / f"plate.0009{suffix}"))
    assert (state.film_start, state.film_frames, state.plate_width) == (7, FRAMES, WIDTH)


def test_pictures_that_were_looked_for_in_a_file_that_is_closed_are_forgotten(addon, folder):
    assert bpy.ops.ex4d.import_plate(filepath=str(folder / "plate.1001.png")) == {"FINISHED"}
    bpy.ops.wm.read_homefile(use_empty=True)
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    assert len(bpy.data.movieclips) == 0


def test_they_come_into_the_scene_that_asked_even_if_no_window_shows_it_any_more(addon, folder, scene):
    assert bpy.ops.ex4d.import_plate(filepath=str(folder / "plate.1001.png")) == {"FINISHED"}
    other = bpy.data.scenes.new("other")
    bpy.context.window_manager.windows[0].scene = other
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    assert (scene.ex4d.shot_name, other.ex4d.shot_name) == ("plate", "")
    assert scene.camera is scene.ex4d.source_camera
    assert other.camera is None


def test_the_scene_keeps_its_rate(addon, folder, bring, scene):
    scene.render.fps, scene.render.fps_base = 24, 1.001
    state = bring(bpy.ops.ex4d.import_plate, filepath=str(folder / "plate.1001.png"))
    assert (scene.render.fps, scene.render.fps_base) == (24, pytest.approx(1.001))
    assert state.plate_fps == pytest.approx(24000 / 1001)
    scene.render.fps, scene.render.fps_base = 25, 1.0
    assert any("5 frames, 25 fps" in text for text in draw_panels(addon)), "the scene's rate is the pictures'"


# ------------------------------------------------------------------------------------------------- from the open file
def image_strip(scene, addon, folder, names, frame_start=51):
    strips = addon.compat.sequencer_strips(scene)
    strip = strips.new_image(name="cut", filepath=str(folder / names[0]), channel=1, frame_start=frame_start)
    for name in names[1:]:
        strip.elements.append(name)
    scene.sequence_editor.active_strip = strip
    return strip


def test_an_image_strip_comes_in_at_its_place(addon, folder, bring, scene):
    assert not bpy.ops.ex4d.plate_from_strip.poll()
    image_strip(scene, addon, folder, [f"plate.{number}.png" for number in (1002, 1003, 1004)])
    state = bring(bpy.ops.ex4d.plate_from_strip)
    assert (state.film_start, state.film_frames) == (51, 3)
    assert (scene.frame_start, scene.frame_end) == (51, 53)
    assert state.plate_clip.filepath.endswith("plate.1002.png")
    assert not state.use_scene_range


def test_of_a_cut_strip_the_cut_is_used(addon, folder, bring, scene):
    strip = image_strip(scene, addon, folder, [f"plate.{FIRST + n}.png" for n in range(FRAMES)])
    if hasattr(strip, "left_handle"):
        strip.left_handle, strip.right_handle = 52, 54
    else:
        strip.frame_final_start, strip.frame_final_end = 52, 54
    state = bring(bpy.ops.ex4d.plate_from_strip)
    assert (state.film_start, state.film_frames) == (51, FRAMES)
    assert (scene.frame_start, scene.frame_end, state.use_scene_range) == (52, 53, True)
    assert "Frames 52 to 53, as the strip is cut, of 51 to 55." in state.plate_notice


def test_a_strip_of_pictures_that_are_no_run_is_refused(addon, folder, scene):
    image_strip(scene, addon, folder, ["plate.1001.png", "plate.1004.png"])
    with pytest.raises(RuntimeError, match="not numbered one after the other"):
        bpy.ops.ex4d.plate_from_strip()


def test_a_movie_clip_of_pictures_keeps_its_place(folder, bring, scene):
    clip = bpy.data.movieclips.load(str(folder / "plate.1002.png"))
    clip.frame_start = 201
    state = bring(bpy.ops.ex4d.plate_from_clip, clip=clip.name)
    assert state.plate_clip is clip
    assert (state.film_start, state.film_frames) == (201, FRAMES - 1)


def test_a_clip_with_a_gap_is_refused_where_blender_would_end_early(addon, folder, bring):
    (folder / "plate.1003.png").unlink()
    clip = bpy.data.movieclips.load(str(folder / "plate.1001.png"))
    assert clip.frame_duration == 2
    bring(bpy.ops.ex4d.plate_from_clip, clip=clip.name)
    assert "Frame 1003" in addon.session.current.error


def test_a_clip_that_is_removed_meanwhile_is_said(addon, folder):
    clip = bpy.data.movieclips.load(str(folder / "plate.1001.png"))
    bpy.ops.ex4d.plate_from_clip(clip=clip.name)
    bpy.data.movieclips.remove(clip)
    addon.session.wait(10)
    assert "was removed" in addon.session.current.error


def test_a_clip_with_a_frame_offset_is_refused(folder, addon, bring):
    clip = bpy.data.movieclips.load(str(folder / "plate.1001.png"))
    clip.frame_offset = 1
    bring(bpy.ops.ex4d.plate_from_clip, clip=clip.name)
    assert "Frame Offset" in addon.session.current.error


@pytest.fixture
def image_plane(folder):
    """What Blender's own Import Images as Planes makes of the sequence, three frames of it from scene frame 31."""
    bpy.ops.mesh.primitive_plane_add()
    plane = bpy.context.object
    material = bpy.data.materials.new("Image")
    if material.node_tree is None:
        material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(str(folder / "plate.1002.png"))
    node.image.source = "SEQUENCE"
    node.image_user.frame_start, node.image_user.frame_duration, node.image_user.frame_offset = 31, 3, 1001
    plane.data.materials.append(material)
    return plane


def test_an_image_plane_comes_in_where_it_plays(addon, image_plane, bring, scene, tmp_path):
    state = bring(bpy.ops.ex4d.plate_from_plane)
    assert (state.film_start, state.film_frames) == (30, FRAMES)  # file 1002 shows at frame 31
    image_plane.hide_render = True
    assert shown(scene, 31, tmp_path / "shown.png") == pytest.approx(1, abs=0.06)


def test_the_plane_that_was_taken_shows_the_same_frame(image_plane, bring, scene, tmp_path):
    """Blender's own reading of the image user, through a camera before the plane."""
    image_plane.active_material.node_tree.nodes.remove(image_plane.active_material.node_tree.nodes["Principled BSDF"])
    tree = image_plane.active_material.node_tree
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(tree.nodes["Image Texture"].outputs[0], emission.inputs[0])
    tree.links.new(emission.outputs[0], tree.nodes["Material Output"].inputs[0])
    tree.nodes["Image Texture"].image_user.use_auto_refresh = True
    camera = bpy.data.objects.new("before", bpy.data.cameras.new("before"))
    scene.collection.objects.link(camera)
    camera.location.z, scene.camera = 1.0, camera
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.view_settings.view_transform = "Standard"
    assert shown(scene, 31, tmp_path / "shown.png") == pytest.approx(1, abs=0.06)


def test_a_movie_on_a_plane_comes_in_where_it_plays(addon, saved, scene, bring, plate_path, image_plane):
    node = image_plane.active_material.node_tree.nodes["Image Texture"]
    node.image = bpy.data.images.load(str(plate_path))
    assert node.image.source == "MOVIE"
    node.image_user.frame_start, node.image_user.frame_offset = 41, 2
    state = bring(bpy.ops.ex4d.plate_from_plane)
    assert (state.film_start, state.film_frames) == (39, FRAMES)


def test_anything_else_is_no_image_plane(addon, saved):
    assert not bpy.ops.ex4d.plate_from_plane.poll()
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.ex4d.plate_from_plane.poll()


# ------------------------------------------------------------------------------------------------------ to the server
def test_the_used_pictures_travel_as_one_archive(addon, fake, folder, sequence, scene):
    sequence.use_scene_range, scene.frame_start, scene.frame_end = True, FIRST + 1, FIRST + 2
    scene.render.fps, scene.render.fps_base = 30, 1.001
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    _, _, params, inputs, _ = fake.submitted[-1]
    assert set(inputs) == {"plate"}
    with zipfile.ZipFile(inputs["plate"]) as archive:
        assert archive.namelist() == ["plate.1002.png", "plate.1003.png"]
        assert {item.compress_type for item in archive.infolist()} == {zipfile.ZIP_STORED}
        for name in archive.namelist():
            assert archive.read(name) == (folder / name).read_bytes()
    assert (params["fps"], params["number_start"]) == ("30000/1001", FIRST)
    assert (params["frame_start"], params["frame_count"]) == (1, 2)
    assert params["plate_path"].endswith("Müller Platte/plate.####.png")
    assert sequence.plate_fps == pytest.approx(30000 / 1001)


def test_the_same_pictures_make_the_same_bytes(addon, folder, tmp_path):
    packed = [
        addon.picture_files.pack(tmp_path / f"{n}.zip", folder / "plate.1001.png", range(1001, 1004)).read_bytes()
        for n in range(2)
    ]
    os.utime(folder / "plate.1002.png", (1, 1))
    packed.append(
        addon.picture_files.pack(tmp_path / "c.zip", folder / "plate.1001.png", range(1001, 1004)).read_bytes()
    )
    assert packed[0] == packed[1] == packed[2]


def test_a_picture_that_is_gone_when_it_is_sent_is_named(addon, fake, sequence, folder):
    (folder / "plate.1004.png").unlink()
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert addon.session.current.error.startswith("Frame 1004 of ")
    assert fake.submitted == []
    assert not list(addon.shots.shot_folder(bpy.context.scene).glob("plate.zip*"))


def test_the_archive_goes_when_the_reconstruction_has_arrived(addon, fake, sequence):
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    assert fake.submitted[-1][3]["plate"].is_file()
    assert addon.session.wait(10)
    assert addon.session.current.error == ""
    assert sequence.is_reconstructed
    assert not fake.submitted[-1][3]["plate"].exists()
