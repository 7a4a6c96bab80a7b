# SPDX-License-Identifier: GPL-3.0-or-later
"""From a take's files to the sequencer."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import compat, sequencer, session, shots, take_list
from .coverage import coverage_of
from .errors import DAMAGED, ShotDataError
from .path_sampling import SCENE_FILE

# Of a take's files those that are pictures: lossless, and every frame a key frame for quick scrubbing.
RESULT = "result.mkv"
PASSES = {"RESULT": ("", RESULT), "MATTE": (" matte", "mask.mkv"), "MESH": (" mesh", "color.mkv")}
"""What of a take can become a strip: how that strip is called after the take, and its file."""


@dataclass(frozen=True)
class TakeOnDisk:
    """What the background thread read of a take."""

    folder: Path
    record: dict  # take.json
    first_source_frame: int  # index of the plate's frame that the first output frame shows
    frame_count: int
    frame_start: int | None  # scene frame of the first one; None for a take that was not sent from Blender


def take_folder(scene, name):
    return shots.takes_folder(scene) / name


def load(shot_id, folder, part="RESULT"):
    """Read a take in the background, then put it, or one of its passes, into the sequencer."""
    session.call("Reading the take", read_take, folder, part, on_done=partial(_show, shot_id, part))


def read_take(folder, part):
    """Runs in the background thread."""
    try:
        record = shots.read_record(folder / take_list.RECORD)
        with (folder / "camera.npz").open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            source_frame = file["source_frame"]
        scene_file = folder / SCENE_FILE
        frame_start = json.loads(scene_file.read_text(encoding="utf-8"))["frame_start"] if scene_file.exists() else None
    except DAMAGED as error:
        raise ShotDataError(f"{folder} holds no finished take ({error}). Render the take again.") from error
    file = PASSES[part][1]
    if not (folder / file).is_file():
        raise ShotDataError(f"{folder} holds no {file}. Render the take again.")
    return TakeOnDisk(folder, record, int(source_frame[0]), len(source_frame), frame_start)


def size_and_length(camera_file):
    """Return width, height and number of the pictures along a path. Runs in the background thread."""
    with camera_file.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        width, height = (int(side) for side in file["size"])
        return width, height, len(file["source_frame"])


def _show(shot_id, part, take):
    scene = shots.scene_of(shot_id)
    name = take.folder.name
    if scene is None:
        session.current.notice = f"Take {name} lies in {take.folder}; its scene is not open any more."
        return
    state = scene.ex4d
    plate = sequencer.Movie(
        f"{state.shot_name} plate", shots.shot_file(scene, "plate.mkv"), state.plate_start, state.plate_frames
    )
    suffix, file = PASSES[part]
    begin = state.plate_start + take.first_source_frame if take.frame_start is None else take.frame_start
    result = sequencer.Movie(name + suffix, take.folder / file, begin, take.frame_count)
    with session.undo_step(f"Load {result.name}"):
        strip, was_first = sequencer.show_take(scene, state.shot_id, plate, result)
        if part != "RESULT":
            strip.mute = True  # it would lie over the take
            session.current.notice = f"{result.name} is on channel {strip.channel}, muted so that the take shows."
            return
        where = f"{name} is on channel {strip.channel} of the sequencer."
        if compat.needs_sequencer():
            where += " To see it, add a Video Editing workspace, then press Load Result."
        notices = [where, *said_by(take.record)]
        if was_first and scene.render.use_sequencer:
            # Otherwise F12 would show the strip in place of the artist's 3D view.
            scene.render.use_sequencer = False
            notices.append("Output > Post Processing > Sequencer is off, so that renders still show the scene.")
        state.last_take = name
        take_list.remember(state, take_list.listed_take(name, take.record))
        if take_list.find(state, shots.safe_name(state.take_name)) is not None:
            state.take_name = take_list.unused_name(state, state.take_name)
        state.take_coverage = coverage_of(take.record, result.frame_start)
        state.take_notice = "\n".join(notices)


def said_by(record):
    """Return what take.json tells the artist, as sentences."""
    painter, settings = take_list.painter_of(record), record.get("settings", {})
    used = [f"{name} {settings[name]}" for name in ("quality", "steps") if name in settings]
    used += [f"seed {record['seed']}"] if record.get("seed") is not None else []
    painted = f"Painted by {painter}" + (f" ({', '.join(used)})." if used else ".")
    return [*([painted] if painter else []), *_paid_work(record), *record.get("notices", ())]


def _paid_work(record):
    """What the licences of depth, rasteriser and engine allow together. Where they forbid, the notices say which."""
    if "commercial_use" not in record or record["commercial_use"] is False:
        return []
    return ["The licences allow paid work." if record["commercial_use"] else "Paid work: ask the depth file's maker."]
