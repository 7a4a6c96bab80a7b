# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons, in the artist's order: one file per step."""

import bpy

from . import (
    camera,
    check,
    coverage,
    gather,
    handover,
    move,
    plate,
    plate_time,
    reconstruct,
    result,
    server,
    take,
    view,
)

CLASSES = (
    server.EX4D_OT_connect_server,
    server.EX4D_OT_choose_server,
    server.EX4D_OT_use_server,
    server.EX4D_OT_pair_server,
    server.EX4D_OT_forget_server,
    server.EX4D_OT_cancel,
    plate.EX4D_OT_import_plate,
    plate.EX4D_OT_plate_from_clip,
    plate.EX4D_OT_plate_from_strip,
    plate.EX4D_OT_plate_from_plane,
    plate.EX4D_OT_match_scene,
    reconstruct.EX4D_OT_reconstruct,
    reconstruct.EX4D_OT_show_mesh,
    view.EX4D_OT_view_source,
    view.EX4D_OT_view_split,
    view.EX4D_OT_view_new,
    camera.EX4D_OT_add_camera,
    move.EX4D_OT_add_move,
    plate_time.EX4D_OT_key_plate_time,
    coverage.EX4D_OT_check_coverage,
    *take.CLASSES,
    *result.CLASSES,
    *check.CLASSES,
    handover.EX4D_OT_hand_over,
    gather.EX4D_OT_gather_files,
)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
