# SPDX-License-Identifier: GPL-3.0-or-later
"""From a take's files to the sequencer."""

from functools import partial

from . import compat, sequencer, session, shots, take_list
from .coverage import coverage_of
from .take_files import PASSES, TakeOnDisk, read_take


def take_folder(scene, name):
    return shots.takes_folder(scene) / name


def load(shot_id, folder, part="RESULT"):
    """Read a take in the background, then put it, or one of its passes, into the sequencer."""
    session.call("Reading the take", read_take, folder, part, on_done=partial(_show, shot_id, part))


def _show(shot_id, part, take):
    scene = shots.scene_of(shot_id)
    name = take.folder.name
    if scene is None:
        session.current.notice = f"Take {name} lies in {take.folder}; its scene is not open any more."
        return
    state = scene.ex4d
    result = strip_of(take, part, take.begin(state))
    with session.undo_step(f"Load {result.name}"):
        sound = part == "RESULT" and take.has_sound
        strip, was_first = sequencer.show_take(scene, state.shot_id, state.shot_name, plate_of(scene), result, sound)
        if part != "RESULT":
            strip.mute = True  # it would lie over the take
            session.current.notice = f"{result.name} is on channel {strip.channel}, muted so that the take shows."
            return
        meta = sequencer.meta_strip(scene, state.shot_id)
        opened = f", in the strip {meta.name} (Tab opens it)" if meta is not None else ""
        where = f"{name} is on channel {strip.channel} of the sequencer{opened}."
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
        state.take_coverage = coverage_of(take.record, take.begin(state))
        state.take_notice = "\n".join(notices)


def plate_of(scene):
    """Return the shot's plate as the sequencer takes it."""
    state = scene.ex4d
    file = shots.shot_file(scene, "plate.mkv")
    return sequencer.Movie(f"{state.shot_name} plate", file, state.plate_start, state.plate_frames)


def strip_of(take: TakeOnDisk, part, begin):
    """Return a part of a take as the sequencer takes it."""
    suffix, file = PASSES[part]
    pictures = take.parts[part]
    path = take.folder / file / pictures[0] if pictures else take.folder / file
    brightness = 1 / _srgb(take.farthest) if part == "DEPTH" and take.farthest > 0 else 1.0
    return sequencer.Movie(take.folder.name + suffix, path, begin, take.frame_count, pictures, brightness)


def _srgb(linear):
    """Return what the sequencer, which works in sRGB, makes of a linear value."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


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
