# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a plate can come from: files, a movie clip, the active strip of the edit, an image plane; and its way in.

A movie comes in at once. The pictures of a sequence are looked for in the background first: folders may be large and
far away.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bpy

from . import compat, picture_files, plate, scene_match, session, shots
from .errors import PlateError
from .view import look_through, show_materials

LAST_SCENE_FRAME = 1_048_574  # Blender's
SHOWN = {"SEQUENCE", "MOVIE"}  # of an image: what plays


@dataclass(frozen=True)
class Source:
    """A plate before anyone looked at its files."""

    path: Path  # of a movie, or of any picture of a sequence
    frame_start: int | None = None  # scene frame of the first frame; None: where the pictures' own numbers put it
    shift: int = 0  # scene frames by which pictures lie later than their numbers
    first: int | None = None  # numbers of the first and last picture used; None: all there are
    last: int | None = None
    cut: range | None = None  # scene frames that the edit uses
    clip: str = ""  # name of the movie clip that it is
    match_scene: bool = True  # give the scene the plate's size and rate


def picked_files(path: Path, names: list[str]) -> Source:
    """Return files picked in the file browser: one stands for its whole sequence, several for those.

    Raises:
        PlateError: several that are no run of one sequence.
    """
    if len(names) < 2:
        return Source(path)
    paths = [path.with_name(name) for name in names]
    is_run = all(picture_files.is_picture(one) and picture_files.number_of(one) is not None for one in paths)
    if not is_run or len({picture_files.name_parts(one) for one in paths}) > 1:
        raise PlateError("Choose one movie, or pictures of one sequence.")
    numbers = {picture_files.number_of(one) for one in paths}
    missing = sorted(set(range(min(numbers), max(numbers))) - numbers)
    if missing:
        raise PlateError(f"Frame {missing[0]} is not among the chosen pictures. Choose a run without a gap, or one.")
    return Source(paths[0], first=min(numbers), last=max(numbers))


def clip_source(clip) -> Source:
    """Return a movie clip as a source."""
    path = shots.absolute(clip.filepath)
    first = picture_files.number_of(path) if clip.source == "SEQUENCE" else None
    return Source(path, frame_start=clip.frame_start, first=first, clip=clip.name)


def active_strip(scene):
    """Return the edit's active strip if it can be a plate: a movie or pictures; else None."""
    editor = scene.sequence_editor
    strip = editor.active_strip if editor is not None else None
    return strip if strip is not None and strip.type in {"MOVIE", "IMAGE"} else None


def strip_source(strip) -> Source:
    """Return a movie or image strip as a source.

    Raises:
        PlateError: its pictures are no run of one sequence.
    """
    begin, count = compat.strip_range(strip)
    place = {"frame_start": compat.strip_start(strip), "cut": range(begin, begin + count)}
    if strip.type == "MOVIE":
        return Source(shots.absolute(strip.filepath), **place)
    folder = shots.absolute(strip.directory)
    first, last = folder / strip.elements[0].filename, folder / strip.elements[-1].filename
    numbers = picture_files.number_of(first), picture_files.number_of(last)
    is_still = len(strip.elements) == 1
    is_run = None not in numbers and picture_files.name_parts(first) == picture_files.name_parts(last)
    if not is_still and not (is_run and numbers[1] - numbers[0] + 1 == len(strip.elements)):
        raise PlateError(
            f"The strip's {len(strip.elements)} pictures, {first.name} to {last.name}, are not numbered one after the "
            "other. Number them without gaps, then import them as a sequence."
        )
    return Source(first, first=numbers[0], last=numbers[1], **place)


def shown_on(item):
    """Return (image, image user) of what plays on an object's material, or on an image Empty; None for anything else.

    Asks no disk: the button is drawn by it.
    """
    pictures = ((image, user) for image, user in _pictures_on(item) if image is not None and image.source in SHOWN)
    return next(pictures, None)


def plane_source(item) -> Source:
    """Return what an image plane shows as a source."""
    image, user = shown_on(item)
    path = shots.absolute(image.filepath)
    if image.source == "MOVIE":
        return Source(path, frame_start=user.frame_start - user.frame_offset)
    return Source(path, shift=user.frame_start - 1 - user.frame_offset)  # Blender counts the files' own numbers


def _pictures_on(item):
    """Yield (image, image user) of an object."""
    if item is None:
        return
    if item.type == "EMPTY" and item.empty_display_type == "IMAGE":
        yield item.data, item.image_user
    for slot in item.material_slots:
        tree = slot.material.node_tree if slot.material is not None else None
        for node in tree.nodes if tree is not None else ():
            if node.bl_idname == "ShaderNodeTexImage":
                yield node.image, node.image_user


def bring(context, source: Source) -> list[str] | None:
    """Bring a plate into the scene; return what the artist should know, or None if that follows in the background.

    Raises:
        PlateError: it cannot be used.
    """
    if not picture_files.is_picture(source.path):
        return _place(context, source, None)
    on_done = partial(_found, context.scene.session_uid, source)
    first, last = source.first, source.last
    session.call("Looking at the pictures", picture_files.sequence, source.path, first, last, on_done=on_done)
    return None


def _found(scene_uid, source, pictures):
    scene = next((scene for scene in bpy.data.scenes if scene.session_uid == scene_uid), None)
    if scene is None:
        return  # another file was opened meanwhile
    with session.undo_step("Import Plate"), bpy.context.temp_override(**_view_of(scene)):
        _place(bpy.context, source, pictures)


def _view_of(scene):
    """Return the context of a 3D view that shows a scene: a timer has none of its own."""
    for window in bpy.context.window_manager.windows:
        if window.scene == scene:
            for area in window.screen.areas:
                if area.type == "VIEW_3D":
                    region = next(region for region in area.regions if region.type == "WINDOW")
                    return {"window": window, "area": area, "region": region}
            return {"window": window}
    return {"scene": scene, "view_layer": scene.view_layers[0]}


def _place(context, source, pictures):
    scene = context.scene
    if source.clip:
        clip = bpy.data.movieclips.get(source.clip)
        if clip is None:
            raise PlateError(f"The movie clip {source.clip} was removed. Choose another one.")
        found = plate.plate_of(clip, pictures)
    else:
        found = plate.open_plate(source.path if pictures is None else pictures.first_file, pictures)
    frame_start = source.frame_start
    if frame_start is None:
        frame_start = 1 if pictures is None else pictures.first + source.shift
        frame_start = frame_start if frame_start <= LAST_SCENE_FRAME else 1
    plate.import_plate(scene, found, frame_start)
    notices = [scene_match.match_scene(scene)] if source.match_scene else []
    notices += [scene_match.set_range(scene, source.cut), *plate.lens_notices(scene), *plate.obstacles(context)]
    scene.ex4d.plate_notice = "\n".join(notices)
    look_through(context, scene.camera)
    show_materials(context.window_manager)
    return notices
