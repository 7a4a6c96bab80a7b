# SPDX-License-Identifier: Apache-2.0
"""The line at the top of the tab names the next step at every moment of a shot."""

import bpy
import pytest
from drawing import draw_panels


@pytest.fixture
def said(addon):
    """A function that returns the line."""
    return lambda: addon.panels.next_step.next_step(bpy.context.scene)


def test_the_next_step_is_named_from_an_empty_file_to_the_hand_over(addon, scene, saved, fake, plate_path, said):
    assert said() == "Next: Import Plate, a movie or numbered pictures."
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    addon.session.current.is_connected = False
    assert said().startswith("Next: Connect to the Server")
    addon.session.current.is_connected = True
    assert said().endswith("then press Reconstruct.")
    bpy.ops.ex4d.reconstruct()
    assert said().startswith("Reconstruction is under way.")
    assert addon.session.wait(10)
    assert said().startswith("Next: Add Camera.")
    bpy.ops.ex4d.add_camera()
    assert said().startswith("Next: choose a Camera Move")
    bpy.ops.ex4d.add_move(move="ORBIT")
    assert said() == "Next: Check Coverage, then Render Take."
    addon.session.current.is_connected = False
    assert said().startswith("Next: Connect to the Server")
    addon.session.current.is_connected = True
    bpy.ops.ex4d.render_take()
    assert addon.session.wait(10)
    assert "Check Result measures it" in said()
    scene.ex4d.takes[0].check = '{"found": {}}'
    assert said().startswith("Next: Hand Over")
    bpy.data.objects.remove(scene.camera)
    assert said().startswith("Next: Add Camera.")


def test_an_unsaved_file_is_to_be_saved_first(addon, scene, said):
    assert said().endswith("Save the file first: the shot then lies beside it.")
    assert said() in " ".join(draw_panels(addon))


@pytest.mark.parametrize("how", ["constraint", "rig", "handheld"])
def test_a_camera_that_is_moved_otherwise_needs_no_camera_move(scene, reconstructed, said, how):
    bpy.ops.ex4d.add_camera()
    assert said().startswith("Next: choose a Camera Move")
    if how == "constraint":
        scene.camera.constraints.new("TRACK_TO")
    elif how == "rig":
        dolly = bpy.data.objects.new("dolly", None)
        scene.collection.objects.link(dolly)
        scene.camera.parent = dolly
    else:
        bpy.ops.ex4d.add_move(move="HANDHELD")
    assert said() == "Next: Check Coverage, then Render Take."
