# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot's takes, as the panel lists them: what lies on disk, with the artist's notes."""

from dataclasses import dataclass
from functools import partial

from . import painting, session, shots
from .errors import DAMAGED, ArtistError

RECORD = "take.json"
UNREADABLE, GONE = "cannot be read", "files are gone"


@dataclass(frozen=True)
class ListedTake:
    """One take on disk."""

    name: str
    summary: str


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


def remember(state, take: ListedTake):
    """Put a take into the scene's list, or renew what the list says about it; notes stay. Select it."""
    names = [item.name for item in state.takes]
    item = state.takes[names.index(take.name)] if take.name in names else state.takes.add()
    item.name, item.summary = take.name, take.summary
    state.active_take = next(index for index, known in enumerate(state.takes) if known.name == take.name)


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
            summary = summary_of(shots.read_record(path))
        except (*DAMAGED, ArtistError, AttributeError, TypeError):  # the last two: not the record of a take
            summary = UNREADABLE
        found.append(ListedTake(path.parent.name, summary))
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
            if item.name not in on_disk:
                item.summary = GONE
        for take in found:
            remember(state, take)
        state.active_take = max(0, min(active, len(state.takes) - 1))
    session.current.notice = f"{len(found)} takes lie beside the shot." if len(found) != 1 else "One take lies there."
