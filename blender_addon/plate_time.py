# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the plate's frames shows: a number on the shot's Empty that can be keyed, driven and edited as any other.

It counts as the timeline does, so that its value equals the scene's frame where the plate plays as filmed. While it is
there, drivers let mesh, materials, background and the plate's own motion follow it. They play without this add-on.
"""

import math

from . import compat, display_mesh, keyframes, materials, motion

PROPERTY = "Plate Frame"
DATA_PATH = f'["{PROPERTY}"]'
DESCRIPTION = "Which of the plate's frames shows, counted as the timeline does. Key it: freeze, ramp, reverse"

# A curve's value, float32, may lie a hair below the whole frame that it means.
HAIR = 0.01

LINEAR = 1  # Blender's number of the interpolation


def is_keyed(state) -> bool:
    """Tell whether the shot's plate time is the artist's own."""
    return state.root is not None and PROPERTY in state.root


def shown_frame(root, plate_start: int, plate_frames: int) -> int | None:
    """Return which of the plate's frames shows, counted from 0; None where it plays as filmed.

    Args:
        root: the shot's Empty, evaluated at the scene frame in question.
        plate_start, plate_frames: the scene frame of the plate's first one, and how many there are.
    """
    value = root.get(PROPERTY)
    if value is None:
        return None
    return clamped(value, plate_start, plate_frames)


def clamped(value: float, plate_start: int, plate_frames: int) -> int:
    """Return the plate's frame, counted from 0, that a value of the number means."""
    return min(max(math.floor(value + HAIR) - plate_start, 0), plate_frames - 1)


def key(state, frames, values, slopes=None):
    """Give the shot a plate time of its own, or another one.

    Args:
        frames: scene frames of the keys. [K]
        values: the plate's frame at each, in the scene's count. [K]
        slopes: frames of the plate per frame of the scene at each key; None for straight lines between them. [K]
    """
    root = state.root
    if PROPERTY not in root:
        root[PROPERTY] = float(values[0])
    last = state.plate_start + state.plate_frames - 1
    root.id_properties_ui(PROPERTY).update(
        description=DESCRIPTION, soft_min=float(state.plate_start), soft_max=float(last), step=100, precision=2
    )
    curve = compat.ensure_fcurve(root, DATA_PATH)
    compat.set_keys(curve, frames, values, LINEAR)
    if slopes is not None:
        keyframes.write_curve(curve, frames, values, slopes)
    follow(state)


def clear(state):
    """Let the plate play as it was filmed again."""
    root = state.root
    compat.remove_fcurve(root, DATA_PATH)
    if PROPERTY in root:
        del root[PROPERTY]
    follow(state)


def follow(state):
    """Let all that shows the plate follow its time: the number on the Empty, or else the scene's frame."""
    root = state.root if is_keyed(state) else None
    first, last = state.plate_start, state.plate_start + state.plate_frames - 1
    display_mesh.follow(state.mesh, root and (root, DATA_PATH, f"p + {HAIR}"))
    at_picture = f"floor(min(max(p + {HAIR}, {first}), {last}))"
    for owner, path, image_user in _image_users(state):
        owner.driver_remove(f"{path}.frame_offset")
        if root is None:
            materials.show_movie_frame(image_user, first, state.plate_frames)
            continue
        materials.show_any_frame(image_user)
        shift = 1 - first - materials.LONG_BEFORE
        expression = f"{at_picture} - floor(frame) + {shift}"
        compat.drive(owner, f"{path}.frame_offset", -1, root, DATA_PATH, expression)
    for item in (state.mesh, state.source_camera):
        if item is not None:
            motion.follow(item, root and (root, DATA_PATH, f"p + {HAIR}"))


def _image_users(state):
    """Yield (data-block, path, image user) of what shows the shot's own picture."""
    if state.mesh is not None:
        for material in state.mesh.data.materials:
            for node in material.node_tree.nodes if material is not None else ():
                if node.bl_idname == "ShaderNodeTexImage" and node.image == state.shot_image is not None:
                    yield material.node_tree, f'nodes["{node.name}"].image_user', node.image_user
    if state.source_camera is None:
        return
    data = state.source_camera.data
    for number, background in enumerate(data.background_images):
        if background.clip == state.plate_clip is not None:
            # A movie clip always shows the scene's frame, as the lens bent it; the shot's picture whichever it is told.
            is_ours = is_keyed(state) or state.is_undistorted
            background.source = "IMAGE" if is_ours else "MOVIE_CLIP"
            if is_ours:
                background.image = state.shot_image
            yield data, f"background_images[{number}].image_user", background.image_user
