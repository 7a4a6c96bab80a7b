# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist's 3D views show after a step."""


def _view_spaces(window_manager):
    return (
        area.spaces.active
        for window in window_manager.windows
        for area in window.screen.areas
        if area.type == "VIEW_3D"
    )


def look_through(context, camera):
    """Select a camera and let the 3D view that was clicked in look through it."""
    for item in context.selected_objects:
        item.select_set(False)
    camera.select_set(True)
    context.view_layer.objects.active = camera
    if context.region_data is not None:
        context.region_data.view_perspective = "CAMERA"


def show_plate_in_solid_views(window_manager):
    """Let solid 3D views show the plate on the mesh, unlit, instead of grey clay."""
    for space in _view_spaces(window_manager):
        if space.shading.type == "SOLID":
            space.shading.light = "FLAT"
            space.shading.color_type = "TEXTURE"
