# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a button is grey: each function returns the sentence, or None when nothing is in the way."""

import bpy

from .. import plate_sources, scene_match, shots, solve
from ..server_words import label_of
from ..session import current


def no_shot(context):
    state = context.scene.ex4d
    if not state.shot_id:
        return "Import a plate first"
    if not shots.in_scene(context.scene, state.root):
        return "The shot's Empty was deleted: undo that, or import the plate again"
    return None


def no_movie_clip(context):
    is_there = len(bpy.data.movieclips) > 0
    return None if is_there else "Open the plate in a Movie Clip editor first; solve its camera there if it moves"


def no_strip(context):
    is_there = plate_sources.active_strip(context.scene) is not None
    return None if is_there else "Select the plate's movie strip or image strip in the sequencer first"


def no_image_plane(context):
    is_there = plate_sources.shown_on(context.object) is not None
    return None if is_there else "Select an object that shows a movie or an image sequence first"


def already_matched(context):
    return None if scene_match.differs(context.scene) else "The scene has the plate's size and rate already"


def no_solve(context):
    state = context.scene.ex4d
    if state.depth_source != "tracked" or solve.is_solved(state.plate_clip):
        return None
    return "Depth from the tracked camera: solve the plate's camera motion in a Movie Clip editor first"


def no_camera(context):
    camera = context.scene.camera
    return None if camera is not None and camera.type == "CAMERA" else "Add a camera first"


def plates_own_camera(context):
    state = context.scene.ex4d
    is_plates = state.shot_id and context.scene.camera == state.source_camera
    return "The scene's camera is the one that filmed the plate: add a camera of your own first" if is_plates else None


def no_reconstruction(context):
    return None if context.scene.ex4d.is_reconstructed else "Reconstruct the shot first"


def no_mesh(context):
    is_there = shots.in_scene(context.scene, context.scene.ex4d.mesh)
    return None if is_there else "The shot's mesh was deleted: build it again with the arrows beside Detail"


def no_server(context):
    wanted = context.scene.ex4d.server
    if current.is_connected and current.server.name != wanted:
        there, here = label_of(current.server.name), label_of(wanted)
        return f"Connected to {there}, but this scene uses {here}: connect to that one first"
    return None if current.is_connected else "Connect to the server first"


def no_take(context):
    return None if len(context.scene.ex4d.takes) else "Render a take first, or look for takes with Refresh"


def working(context):
    """Takes that the server renders do not count: the artist goes on beside them."""
    return f"{current.activity} is under way" if current.activity else None


def busy(context):
    """For what would take the shot away under the takes that are rendered from it."""
    takes = "Takes are under way: wait for them, or cancel them in the list" if current.followed else None
    return working(context) or takes


TAKES_NEED = (no_shot, no_reconstruction, no_server, working)  # and so do their rehearsals


def enabled(cls, context, *reasons):
    """For an operator's poll: True if no reason speaks; else the first one becomes the button's tooltip."""
    for reason in reasons:
        sentence = reason(context)
        if sentence:
            cls.poll_message_set(sentence)
            return False
    return True
