# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot's takes, as the panel lists them: those that are planned and those on disk, with the artist's notes."""

import re
from dataclasses import dataclass, field
from functools import partial

from . import painting, session, shots
from .errors import DAMAGED, ArtistError, ShotDataError
from .take_files import RECORD

UNREADABLE, GONE = "cannot be read", "files are gone"


@dataclass(frozen=True)
class ListedTake:
    """One take on disk."""

    name: str
    summary: str
    settings: dict = field(default_factory=dict)  # how it was painted, as our properties


def listed_take(name, record) -> ListedTake:
    """Return what the list tells of a take.json."""
    return ListedTake(name, summary_of(record), painting.settings_of(record))


def summary_of(record) -> str:
    """Return what take.json says in a few words: how much was painted, and by what."""
    unseen = record.get("unseen", {}).get("mean")
    share = f"{unseen:.0%}" if unseen is not None else ""
    return " ".join(part for part in (share, painter_of(record)) if part)


def painter_of(record) -> str:
    """Return what painted a take, as the panel calls it; empty before that."""
    engine = record.get("engine")
    labels = {identifier: label for identifier, label, _ in painting.ENGINE_ITEMS}
    return labels.get(engine, engine) or ""


def selected(state):
    """Return the selected line of the list, or None."""
    return state.takes[state.active_take] if 0 <= state.active_take < len(state.takes) else None


def find(state, name):
    """Return a take's line, or None."""
    return next((item for item in state.takes if item.name == name), None)


def select(state, name):
    """Select a take's line."""
    state.active_take = next(index for index, known in enumerate(state.takes) if known.name == name)


def remember(state, take: ListedTake):
    """Put a take that lies on disk into the list, or renew what the list says about it; notes stay."""
    item = find(state, take.name)
    if item is None:
        item = state.takes.add()
        item.name = take.name
        for name, value in take.settings.items():
            setattr(item, name, value)
        select(state, take.name)
    item.summary, item.is_planned = take.summary, False


# Planning


def plan(scene, name, camera=None):
    """Put a take with the panel's settings into the list, to be rendered later; return its line.

    Raises:
        ShotDataError: the list has a take of that name.
    """
    state = scene.ex4d
    if find(state, name) is not None:
        raise ShotDataError(f"Take {name} exists already. Choose another name.")
    item = state.takes.add()
    item.name, item.is_planned, item.camera = name, True, camera
    item.frame_start, item.frame_end = scene.frame_start, scene.frame_end
    painting.copy(state, item)
    select(state, name)
    state.take_name = unused_name(state, name)
    return item


def plan_cameras(scene, cameras):
    """Plan a take for each camera.

    Raises:
        ShotDataError: there is none.
    """
    if not cameras:
        raise ShotDataError("No camera is selected. Select the cameras that the takes should be shot with.")
    for camera in cameras:
        name = unused_name(scene.ex4d, shots.safe_name(scene.ex4d.take_name), is_taken=False)
        plan(scene, name, camera)


def duplicate(state, source):
    """Plan a take like another one: its settings, and its camera.

    A take that was shot keeps its path, whatever became of the camera since.
    """
    values = {name: getattr(source, name) for name in ("name", "camera", "path_of", "frame_start", "frame_end")}
    was_shot = not source.is_planned
    settings = {name: getattr(source, name) for name in painting.PROPERTIES}
    item = state.takes.add()  # which moves the others in memory
    for name, value in (values | settings).items():
        setattr(item, name, value)
    if was_shot:
        item.path_of = values["path_of"] or values["name"]
    item.name, item.is_planned = unused_name(state, values["name"]), True
    select(state, item.name)
    if find(state, shots.safe_name(state.take_name)) is not None:
        state.take_name = unused_name(state, state.take_name)


def remove(state, item):
    """Take a line out of the list. Files stay."""
    state.takes.remove(next(index for index, known in enumerate(state.takes) if known.name == item.name))
    state.active_take = max(0, min(state.active_take, len(state.takes) - 1))


def unused_name(state, name, is_taken=True):
    """Return the first name from this one on, or from the one after it, that the list does not have."""
    name = next_name(name) if is_taken else name
    while find(state, name) is not None:
        name = next_name(name)
    return name


def next_name(name):
    """Return the next take's name: take_01 becomes take_02."""
    match = re.search(r"\d+$", name)
    if match is None:
        return f"{name}_02"
    return name[: match.start()] + str(int(match[0]) + 1).zfill(len(match[0]))


# What lies on disk


def refresh(scene):
    """Read the takes that lie beside the shot in the background, then bring the list up to date."""
    on_done = partial(_sync, scene.ex4d.shot_id)
    session.call("Reading the takes", read_takes, shots.takes_folder(scene), on_done=on_done)


def read_takes(folder) -> list[ListedTake]:
    """Return the takes of a folder by name. Runs in the background thread."""
    found = []
    for path in sorted(folder.glob(f"*/{RECORD}")) if folder.is_dir() else []:
        if path.parent.name.startswith("."):  # a coverage check under way
            continue
        try:
            take = listed_take(path.parent.name, shots.read_record(path))
        except (*DAMAGED, ArtistError, AttributeError, TypeError):  # the last two: not the record of a take
            take = ListedTake(path.parent.name, UNREADABLE)
        found.append(take)
    return found


def _sync(shot_id, found):
    scene = shots.scene_of(shot_id)
    if scene is None:
        return
    state = scene.ex4d
    with session.undo_step("Refresh Takes"):
        active = state.active_take
        on_disk = {take.name for take in found}
        for item in state.takes:
            if item.name not in on_disk and not item.is_planned:
                item.summary = GONE
        for take in found:
            remember(state, take)
        state.active_take = max(0, min(active, len(state.takes) - 1))
    session.current.notice = f"{len(found)} takes lie beside the shot." if len(found) != 1 else "One take lies there."
