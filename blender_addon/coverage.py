# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the scene camera's picture the plate shows, before a take is rendered."""

import shutil
from functools import partial

from . import session, shots
from .errors import DAMAGED, ShotDataError
from .shooting import CameraJob, shoot

# Beside the takes while a check runs. No take's name begins with a dot.
FOLDER = ".coverage"


def check(context):
    """Send the scene's camera to be measured against the shot.

    Raises:
        CameraPathError: the camera cannot be sent; nothing was changed.
        ShotDataError: the shot's files are missing.
    """
    scene = context.scene
    folder = shots.takes_folder(scene) / FOLDER
    params = {"name": "coverage", "raster": "auto"}
    on_done = partial(_arrived, scene.ex4d.shot_id, folder, scene.frame_start, scene.frame_end)
    shoot(context, CameraJob("Coverage check", "render", params, folder, on_done))


def _arrived(shot_id, folder, frame_start, frame_end, files):
    on_done = partial(_show, shot_id, frame_start, frame_end)
    session.call("Reading the coverage", read_check, folder, on_done=on_done)


def read_check(folder):
    """Return the record of a check and remove its files; runs in the background thread."""
    try:
        record = shots.read_record(folder / "take.json")
    except DAMAGED as error:
        raise ShotDataError(f"{folder} holds no coverage ({error}). Check again.") from error
    shutil.rmtree(folder, ignore_errors=True)  # what is left on a disk in trouble, the next check replaces
    return record


def _show(shot_id, frame_start, frame_end, record):
    scene = shots.scene_of(shot_id)
    if scene is None:
        return
    with session.undo_step("Check Coverage"):
        scene.ex4d.coverage_check = f"Frames {frame_start} to {frame_end}\n{coverage_of(record, frame_start)}"


def coverage_of(record, frame_start):
    """Return what take.json says about the part that the plate never saw, as sentences; empty if it does not.

    Args:
        record: take.json.
        frame_start: scene frame of the take's first picture.
    """
    unseen = record.get("unseen", {})
    mean, worst, worst_frame = (unseen.get(name) for name in ("mean", "worst", "worst_frame"))
    verdict, parallax = record.get("verdict"), record.get("parallax_deg", {}).get("mean")
    has_worst = bool(worst) and worst_frame is not None
    said = []
    if verdict:
        said.append(verdict)
        if has_worst:
            said.append(f"Most is missing on frame {frame_start + worst_frame}.")
    elif mean is not None:
        at_worst = f", {worst:.0%} at worst (frame {frame_start + worst_frame})" if has_worst else ""
        said.append(f"The plate does not show {mean:.0%} of the picture{at_worst}.")
    if parallax is not None:
        said.append(f"Mean parallax: {parallax:.1f} degrees.")
    return " ".join(said)
