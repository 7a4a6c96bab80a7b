# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot in the scene's edit: one meta strip that holds the plate, its sound, and the takes stacked above it.

An artist who takes the meta strip apart keeps the strips where they are: further takes follow them.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from . import compat, shots
from .errors import ShotDataError

# Custom properties of our strips, so that they are found again after being moved or renamed.
SHOT_KEY, TAKE_KEY = "ex4d_shot", "ex4d_take"
RANGE_KEY = "ex4d_range"  # of a meta strip: what we let it show, from the plate's first frame on
SOUND, WIPE = "sound", "wipe"  # what TAKE_KEY says of strips that are of no take


@dataclass(frozen=True)
class Movie:
    """A movie, or numbered pictures, that belong on known frames."""

    name: str
    path: Path  # of pictures the first one
    frame_start: int  # scene frame
    frame_count: int
    pictures: tuple[str, ...] = ()  # file names
    brightness: float = 1.0  # by which the strip multiplies what it shows


def _free_channel(strips, movie, lowest):
    """Return the lowest channel from `lowest` on that nothing occupies during the movie."""
    begin, end = movie.frame_start, movie.frame_start + movie.frame_count
    taken = set()
    for strip in strips:
        start, count = compat.strip_range(strip)
        if start < end and begin < start + count:
            taken.add(strip.channel)
    channel = lowest
    while channel in taken:
        channel += 1
    return channel


def _add(strips, movie, lowest):
    """Add the movie as a strip that fits the picture, and return it."""
    place = {"channel": _free_channel(strips, movie, lowest), "frame_start": movie.frame_start, "fit_method": "FIT"}
    if movie.pictures:
        strip = strips.new_image(name=movie.name, filepath=str(movie.path), **place)
        for picture in movie.pictures[1:]:
            strip.elements.append(picture)
        strip.directory = shots.stored(movie.path.parent)
        strip.color_multiply = movie.brightness
    else:
        strip = strips.new_movie(name=movie.name, filepath=str(movie.path), **place)
        strip.filepath = shots.stored(movie.path)
    start, count = compat.strip_range(strip)
    if (start, count) != (movie.frame_start, movie.frame_count):
        strips.remove(strip)
        raise ShotDataError(
            f"{movie.path.name} should fill {movie.frame_count} frames from {movie.frame_start}, but Blender reads "
            f"{count} from {start}. Render the take again."
        )
    return strip


def _shows(strip, movie):
    """Tell whether a strip shows the movie's file on its frames."""
    is_in_place = compat.strip_range(strip) == (movie.frame_start, movie.frame_count)
    if movie.pictures or strip.type == "IMAGE":
        is_file = strip.type == "IMAGE" and shots.absolute(strip.directory) == movie.path.resolve().parent
        return is_in_place and is_file and len(strip.elements) == len(movie.pictures)
    return is_in_place and shots.absolute(strip.filepath) == movie.path.resolve()


def meta_strip(scene, shot_id):
    """Return the shot's meta strip; None when there is none, or it was taken apart."""
    editor = scene.sequence_editor
    strips = compat.sequencer_strips(scene) if editor is not None else ()
    return next((strip for strip in strips if strip.get(SHOT_KEY) == shot_id and strip.type == "META"), None)


def home(scene, shot_id):
    """Return the strips among which the shot's lie."""
    meta = meta_strip(scene, shot_id)
    return compat.strips_in(meta) if meta is not None else compat.sequencer_strips(scene)


def _ours(strips, shot_id):
    return [strip for strip in strips if strip.get(SHOT_KEY) == shot_id and strip.type != "META"]


def _find(strips, shot_id, take):
    return next((strip for strip in _ours(strips, shot_id) if strip.get(TAKE_KEY) == take), None)


def plate_strip(scene, shot_id):
    """Return the plate's strip, or None."""
    return next((strip for strip in _ours(home(scene, shot_id), shot_id) if TAKE_KEY not in strip), None)


def _mark(strip, shot_id, take=None):
    strip[SHOT_KEY] = shot_id
    if take is not None:
        strip[TAKE_KEY] = take


def _plate(scene, shot_id, shot_name, plate, lowest):
    """Return the plate's strip; it is made once, in a meta strip of the shot, from this channel on."""
    found = plate_strip(scene, shot_id)
    if found is not None:
        return found
    strips = compat.sequencer_strips(scene)
    meta = meta_strip(scene, shot_id)
    if meta is None and not _ours(strips, shot_id):
        channel = _free_channel(strips, plate, lowest=1)
        meta = strips.new_meta(name=shot_name, channel=channel, frame_start=plate.frame_start)
        _mark(meta, shot_id)
    found = _add(home(scene, shot_id), plate, lowest)
    _mark(found, shot_id)
    if meta is not None:
        _cover(meta, found, plate.frame_start, plate.frame_count)
    return found


def _cover(meta, plate, begin, count):
    """Let the meta strip show these frames too, unless the artist has cut it."""
    origin = compat.strip_start(plate)
    shown_begin, shown_count = compat.strip_range(meta)
    known = meta.get(RANGE_KEY)
    if known is None:
        first, last = begin, begin + count
    elif [shown_begin - origin, shown_count] == list(known):
        first, last = min(begin, shown_begin), max(begin + count, shown_begin + shown_count)
    else:
        return
    compat.set_strip_range(meta, first, last - first)
    meta[RANGE_KEY] = [first - origin, last - first]


def show_take(scene, shot_id, shot_name, plate: Movie, result: Movie, has_sound=False):
    """Put the plate and, on a channel above it, a take's result into the scene's edit.

    Loading a take again replaces its strip, unless it shows the take as it should. Where the artist has moved the
    shot in the edit, the take follows.

    Args:
        shot_name: of the meta strip.
        has_sound: whether the plate's sound belongs to the take; then it is put below both, once.

    Returns:
        The result's strip, and whether the scene had no edit before.
    """
    was_empty = len(compat.sequencer_strips(scene)) == 0
    below = _plate(scene, shot_id, shot_name, plate, lowest=2 if has_sound else 1)
    if has_sound:
        _add_sound(scene, shot_id, plate, below)
    strips, meta = home(scene, shot_id), meta_strip(scene, shot_id)
    moved = compat.strip_start(below) - plate.frame_start
    result = replace(result, frame_start=result.frame_start + moved)
    older = [strip for strip in _ours(strips, shot_id) if strip.get(TAKE_KEY) == result.name]
    # Not removed without need: sequencers on the screen may be drawing its pictures in a thread.
    strip = next((strip for strip in older if _shows(strip, result)), None)
    for replaced in older:
        if replaced != strip:
            strips.remove(replaced)
    if strip is None:
        strip = _add(strips, result, lowest=below.channel + 1)
        _mark(strip, shot_id, result.name)
    if meta is not None:
        _cover(meta, below, result.frame_start, result.frame_count)
    compat.show_in_sequencers(scene)
    return strip, was_empty


def _add_sound(scene, shot_id, plate, below):
    """Put the plate's sound into the edit, once. Nothing happens in a Blender that was built without sound."""
    strips = home(scene, shot_id)
    if _find(strips, shot_id, SOUND) is not None or not bpy.app.build_options.audaspace:
        return
    place = replace(plate, frame_start=compat.strip_start(below))
    strip = strips.new_sound(
        name=f"{plate.name} sound",
        filepath=str(plate.path),
        channel=_free_channel(strips, place, lowest=1),
        frame_start=place.frame_start,
    )
    strip.sound.filepath = shots.stored(plate.path)
    _mark(strip, shot_id, SOUND)


# Comparing


def wipe_strip(scene, shot_id):
    """Return the strip that compares two others, or None."""
    return _find(home(scene, shot_id), shot_id, WIPE) if scene.sequence_editor is not None else None


def compare(scene, shot_id, take, other):
    """Wipe between a take, on the left, and another one or the plate; return the strip.

    Args:
        take: name of its strip.
        other: name of the other take's strip; None for the plate.

    Raises:
        ShotDataError: one of them is not in the edit.
    """
    strips = home(scene, shot_id)
    left = _find(strips, shot_id, take)
    right = plate_strip(scene, shot_id) if other is None else _find(strips, shot_id, other)
    for name, strip in ((take, left), (other or "The plate", right)):
        if strip is None:
            raise ShotDataError(f"{name} is not in the sequencer. Load its result first.")
    stop_comparing(scene, shot_id)
    left.mute = right.mute = False
    wipe = compat.new_wipe(strips, f"{take} | {other or 'plate'}", _top(strips), right, left)
    wipe.transition_type, wipe.direction, wipe.angle = "SINGLE", "IN", math.pi / 2  # the edge stands upright
    wipe.use_default_fade, wipe.effect_fader = False, 0.5  # an ordinary number, to be dragged or keyed
    _mark(wipe, shot_id, WIPE)
    return wipe


def _top(strips):
    """Return the first channel above all strips."""
    return 1 + max((strip.channel for strip in strips), default=0)


def stop_comparing(scene, shot_id):
    """Take the wipe away."""
    wipe = wipe_strip(scene, shot_id)
    if wipe is not None:
        home(scene, shot_id).remove(wipe)
