# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next take will need on the connected server, asked again whenever its settings change.

What is known lives here: it is neither saved nor undone.
"""

import bpy

from . import painting, path_sampling, session
from .shared_protocol.messages import Pictures

GIB = 2**30

_asked = None  # what tells one question from another
_answer = None  # its answer, once it is there
_has_failed = False
_takes_done = 0  # each one may change the answer


def watch():
    """Ask when the answer may be another one. Called at each look while the server is connected: it only compares."""
    global _asked, _answer, _has_failed
    scene = bpy.context.scene
    if not scene.ex4d.is_reconstructed or scene.frame_end < scene.frame_start:
        return
    question = _question(scene)
    if question == _asked:
        return
    _asked, _answer, _has_failed = question, None, False
    makes, params, *_ = question
    session.ask_estimate(
        makes, dict(params), lambda answer: _keep(question, answer), lambda error: _keep(question, None)
    )


def _question(scene):
    return makes_of(scene), tuple(sorted(painting.params_of(scene.ex4d).items())), session.current.server, _takes_done


def makes_of(scene, frame_count=None):
    """Return what a take of the scene's size makes, over its frame range unless another length is given."""
    picture = path_sampling.picture_of(scene)
    return Pictures(picture.width, picture.height, frame_count or scene.frame_end - scene.frame_start + 1)


def _keep(question, answer):
    global _answer, _has_failed
    if question == _asked:  # else the settings have changed since
        _answer, _has_failed = answer, answer is None


def take_was_done():
    """The server has measured one more take."""
    global _takes_done
    _takes_done += 1


def forget():
    """Ask anew."""
    global _asked, _answer, _has_failed
    _asked, _answer, _has_failed = None, None, False


def said(scene) -> list[tuple[str, str]]:
    """Return what the next take will need, as (sentence, icon); empty where no server is asked."""
    if not session.current.is_connected or not scene.ex4d.is_reconstructed:
        return []
    if _has_failed:
        return [("This server does not tell time and memory: update it.", "TIME")]
    if _answer is None or _asked != _question(scene):
        return [("Asking what the take will need...", "TIME")]
    if _answer.refusal:
        return [(_answer.refusal, "ERROR")]
    lines = [(_time(_answer), "TIME"), (_memory(_answer), "MEMORY")]
    return [*lines, *((notice, "INFO") for notice in _answer.notices)]


def _time(answer):
    windows = f", in {answer.windows} windows" if answer.windows > 1 else ""
    if answer.seconds is not None:
        like = "the last take" if answer.measured == 1 else f"the last {answer.measured} takes"
        text = f"About {duration(answer.seconds)}{windows}, from {like} with these settings on this server."
    else:
        text = "No take with these settings was measured on this server yet."
        if answer.reference_s is not None:
            needed = f"{duration(answer.reference_s)}{windows}, once its model is loaded"
            text += f" An {answer.reference} takes about {needed}."
    if answer.ahead:
        text += " One job comes first." if answer.ahead == 1 else f" {answer.ahead} jobs come first."
    return text


def _memory(answer):
    painter = {identifier: label for identifier, label, _ in painting.ENGINE_ITEMS}.get(answer.engine, answer.engine)
    if answer.peak_bytes is None:
        return f"{painter}: no GPU memory." if answer.engine == "preview" else f"{painter}: memory is not known here."
    text = f"{painter}: {_gib(answer.peak_bytes)} of {_gib(answer.gpu_bytes)} GB GPU memory ({answer.gpu})"
    if answer.gpu_used_bytes > answer.gpu_bytes - answer.peak_bytes:
        text += f", of which {_gib(answer.gpu_used_bytes)} are in use now"
    return f"{text}."


def _gib(count):
    return f"{count / GIB:.0f}"


def duration(seconds) -> str:
    """Return a length of time as one says it."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def register():
    session.watchers.append(watch)


def unregister():
    session.watchers.remove(watch)
    forget()
