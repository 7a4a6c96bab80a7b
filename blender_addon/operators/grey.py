# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a button is grey: each function returns the sentence, or None when nothing is in the way."""

from .. import shots
from ..session import current


def no_shot(context):
    state = context.scene.ex4d
    if not state.shot_id:
        return "Import a plate first"
    if not shots.in_scene(context.scene, state.root):
        return "The shot's Empty was deleted: undo that, or import the plate again"
    return None


def no_reconstruction(context):
    return None if context.scene.ex4d.is_reconstructed else "Reconstruct the shot first"


def no_server(context):
    return None if current.is_connected else "Connect to the server first"


def busy(context):
    return f"{current.activity} is under way" if current.activity else None


def enabled(cls, context, *reasons):
    """For an operator's poll: True if no reason speaks; else the first one becomes the button's tooltip."""
    for reason in reasons:
        sentence = reason(context)
        if sentence:
            cls.poll_message_set(sentence)
            return False
    return True
