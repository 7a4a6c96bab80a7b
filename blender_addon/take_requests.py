# SPDX-License-Identifier: GPL-3.0-or-later
"""A take's folder from before it is sent until its result is there: the camera, and what names the job.

All here runs in the background thread.
"""

import json
import shutil
from pathlib import Path

from . import path_sampling, shots, take_files
from .errors import DAMAGED, ArtistError, ShotDataError
from .shared_protocol.messages import Pictures

REQUEST = "job.json"


def write_request(folder: Path, request: dict, bring_path) -> dict:
    """Write the camera, then what names the job until its result is there."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height, count = bring_path(folder)
    request = {"schema": shots.SCHEMA, **request, "makes": [width, height, count]}
    partial_file = folder / f"{REQUEST}.partial"
    partial_file.write_text(json.dumps(request), encoding="utf-8")
    partial_file.replace(folder / REQUEST)
    return request


def write_path(sampled, frame_start, folder):
    path_sampling.write_path(folder, sampled, frame_start)
    return sampled.width, sampled.height, len(sampled.source_frame)


def copy_path(source, folder):
    try:
        makes = take_files.size_and_length(source / "camera.npz")
        shutil.copyfile(source / "camera.npz", folder / "camera.npz")
        scene_file = source / path_sampling.SCENE_FILE
        if scene_file.exists():
            shutil.copyfile(scene_file, folder / scene_file.name)
    except DAMAGED as error:
        raise ShotDataError(f"The camera path of {source.name} cannot be read ({error}). Choose a camera.") from error
    return makes


def read_requests(folder) -> list[tuple[Path, dict]]:
    """Return the takes of a folder whose results have not arrived, with their requests."""
    found = []
    for path in sorted(folder.glob(f"*/{REQUEST}")) if folder.is_dir() else []:
        try:
            request = shots.read_record(path)
            Pictures(*request["makes"])
            found.append((path.parent, request))
        except (*DAMAGED, ArtistError, TypeError):  # half written, or of a newer version
            continue
    return found


def forget(folder: Path):
    """Nobody has to pick the job up any more."""
    (folder / REQUEST).unlink(missing_ok=True)
