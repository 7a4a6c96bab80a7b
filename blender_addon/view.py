# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist's 3D views show after a step."""


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
