# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist's 3D views show: the plate's own camera, the new one, or both side by side.

Blender keeps no undo of a window's layout. So each change here has a button that takes it back: which view is the
split's other half is seen from what it shows.
"""

import bpy

_framing = {}  # of views before they were split, by screen: a nicety, so that nothing is lost with it


def look_through(context, camera):
    """Select a camera and let the 3D view that was clicked in look through it."""
    for item in context.selected_objects:
        item.select_set(False)
    camera.select_set(True)
    context.view_layer.objects.active = camera
    if context.region_data is not None:
        context.region_data.view_perspective = "CAMERA"


def show_materials(window_manager):
    """Turn solid 3D views to material preview: only materials know from where the plate shows whole."""
    for window in window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and area.spaces.active.shading.type == "SOLID":
                area.spaces.active.shading.type = "MATERIAL"


def shows_source(area, source_camera) -> bool:
    """Tell whether a 3D view looks through the plate's own camera, apart from the scene's camera."""
    if source_camera is None or not _looks_through_camera(area):
        return False
    space = area.spaces.active
    return space.use_local_camera and space.camera == source_camera


def shows_new(area) -> bool:
    """Tell whether a 3D view looks through the scene's camera."""
    return _looks_through_camera(area) and not area.spaces.active.use_local_camera


def _looks_through_camera(area):
    is_view = area is not None and area.type == "VIEW_3D"
    return is_view and area.spaces.active.region_3d.view_perspective == "CAMERA"


def other_half(screen, area, source_camera):
    """Return the view of the source camera beside another 3D view; None where the view is not split."""
    if screen is None:
        return None
    return next((each for each in screen.areas if each != area and shows_source(each, source_camera)), None)


def see_source(area, source_camera):
    """Let a 3D view look through the plate's own camera, whatever the scene's camera is."""
    space = area.spaces.active
    space.use_local_camera = True
    space.camera = source_camera
    space.region_3d.view_perspective = "CAMERA"


def see_new(area):
    """Let a 3D view look through the scene's camera."""
    space = area.spaces.active
    space.use_local_camera = False
    space.region_3d.view_perspective = "CAMERA"


def can_split(context) -> bool:
    """Tell whether the area that was clicked in can be cut in two: not while it fills the window."""
    return not context.screen.show_fullscreen and context.area.width > 2 * _least_width(context)


def split(context, source_camera):
    """Cut the 3D view that was clicked in: the source camera's view on the left, the scene camera's on the right."""
    area, before = context.area, set(context.screen.areas)
    view = area.spaces.active.region_3d
    _framing[context.screen.name] = view.view_camera_zoom, tuple(view.view_camera_offset)
    shows_sidebar = area.spaces.active.show_region_ui
    sidebar = next(region.width for region in area.regions if region.type == "UI") if shows_sidebar else 0
    factor = min(0.499, max(0.25, (area.width - sidebar) / (2 * area.width)))  # what is seen is in two equal parts
    width = (1 - factor) * area.width
    with context.temp_override(area=area):
        bpy.ops.screen.area_split(direction="VERTICAL", factor=factor)  # below a half: the new one is on the left
    (new,) = set(context.screen.areas) - before
    see_source(new, source_camera)
    see_new(area)
    space = new.spaces.active
    space.show_region_ui = space.show_region_toolbar = False  # the panel stays where it was clicked
    for each in (new, area):
        frame_camera(context, each)
    area.spaces.active.region_3d.view_camera_offset[0] = sidebar / (4 * width)  # the sidebar lies over the view


def join(context, other):
    """Close the other half again."""
    if context.screen.name in _framing:
        view = context.area.spaces.active.region_3d
        view.view_camera_zoom, view.view_camera_offset = _framing.pop(context.screen.name)
    with context.temp_override(area=other):
        bpy.ops.screen.area_close()


def frame_camera(context, area):
    """Let the camera's picture fill its view."""
    region = next(region for region in area.regions if region.type == "WINDOW")
    with context.temp_override(area=area, region=region):
        bpy.ops.view3d.view_center_camera()


def _least_width(context):
    return 150 * context.preferences.system.ui_scale  # pixels; less is no view
