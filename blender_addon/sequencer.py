# SPDX-License-Identifier: GPL-3.0-or-later
"""A take's result in the sequencer, above the plate it was shot from."""

from dataclasses import dataclass
from pathlib import Path

from . import compat, shots
from .errors import ShotDataError

# Custom properties of our strips, so that they are found again after being moved or renamed.
SHOT_KEY, TAKE_KEY = "ex4d_shot", "ex4d_take"


@dataclass(frozen=True)
class Movie:
    """A movie that belongs on known frames."""

    name: str
    path: Path
    frame_start: int  # scene frame
    frame_count: int


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
    """Add the movie as a strip at its own size and return it."""
    strip = strips.new_movie(
        name=movie.name,
        filepath=str(movie.path),
        channel=_free_channel(strips, movie, lowest),
        frame_start=movie.frame_start,
        fit_method="ORIGINAL",
    )
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
    return is_in_place and shots.absolute(strip.filepath) == movie.path.resolve()


def show_take(scene, shot_id, plate: Movie, result: Movie):
    """Put the plate and, on a channel above it, a take's result into the scene's edit.

    The plate's strip is made once. Loading a take again replaces its strip, unless it shows the take as it should.

    Returns:
        The result's strip, and whether the scene had no edit before.
    """
    strips = compat.sequencer_strips(scene)
    was_empty = len(strips) == 0
    ours = [strip for strip in strips if strip.get(SHOT_KEY) == shot_id]
    plate_strip = next((strip for strip in ours if TAKE_KEY not in strip), None)
    if plate_strip is None:
        plate_strip = _add(strips, plate, lowest=1)
        plate_strip[SHOT_KEY] = shot_id
    older = [strip for strip in ours if strip.get(TAKE_KEY) == result.name]
    # Not removed without need: sequencers on the screen may be drawing its pictures in a thread.
    strip = next((strip for strip in older if _shows(strip, result)), None)
    for replaced in older:
        if replaced != strip:
            strips.remove(replaced)
    if strip is None:
        strip = _add(strips, result, lowest=plate_strip.channel + 1)
        strip[SHOT_KEY], strip[TAKE_KEY] = shot_id, result.name
    compat.show_in_sequencers(scene)
    return strip, was_empty
