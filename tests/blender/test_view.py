# SPDX-License-Identifier: Apache-2.0
"""Source view, new view and both: what can be told without a window."""

import bpy
import pytest


@pytest.fixture
def area(scene):
    """A 3D view of the file's layout; nobody sees it."""
    screen = bpy.context.window_manager.windows[0].screen
    area = next((area for area in screen.areas if area.type == "VIEW_3D"), screen.areas[0])
    area.type = "VIEW_3D"
    return area


def test_a_view_of_the_source_leaves_the_scenes_camera_alone(addon, imported, scene, area):
    bpy.ops.ex4d.add_camera()
    new, view = scene.camera, addon.view
    assert new != imported.source_camera
    view.see_source(area, imported.source_camera)
    assert view.shows_source(area, imported.source_camera)
    assert not view.shows_new(area)
    assert scene.camera == new
    assert area.spaces.active.camera == imported.source_camera
    view.see_new(area)
    assert view.shows_new(area)
    assert not view.shows_source(area, imported.source_camera)


def test_the_other_half_is_found_by_what_it_shows(addon, imported, area):
    screen, view = bpy.context.window_manager.windows[0].screen, addon.view
    assert view.other_half(screen, None, imported.source_camera) is None
    view.see_source(area, imported.source_camera)
    assert view.other_half(screen, None, imported.source_camera) == area
    assert view.other_half(screen, area, imported.source_camera) is None, "the view that was clicked in is not it"
    assert view.other_half(screen, None, None) is None, "the source camera was deleted"
    area.spaces.active.region_3d.view_perspective = "PERSP"
    assert view.other_half(screen, None, imported.source_camera) is None, "the artist looks elsewhere by now"


@pytest.mark.parametrize("button", ["view_source", "view_new", "view_split"])
def test_without_a_window_the_buttons_say_so(addon, imported, button):
    operator = getattr(bpy.ops.ex4d, button)
    assert not operator.poll()
    with pytest.raises(RuntimeError, match="Needs Blender's window"):
        operator()


def test_why_a_button_is_grey(addon, imported, scene):
    operators = addon.operators.view
    assert operators.no_source_camera(bpy.context) is None
    bpy.data.objects.remove(imported.source_camera)
    assert "camera was deleted" in operators.no_source_camera(bpy.context)
